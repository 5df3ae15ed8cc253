# make demo | test | test-slow | lint | bench | clean. Each sets up .venv first; Python 3.11+ and a C compiler are all it takes.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
WORK   ?= demo

.PHONY: demo test test-slow lint bench clean

demo: $(VENV)/.runtime
	$(BIN)/stmn run recipes/demo.toml --workspace $(WORK)

test: $(VENV)/.dev
	$(BIN)/python -m pytest

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.flow --json flow.json $(BENCH)
	$(BIN)/python -m benchmarks.store_layout --json store_layout.json
	$(BIN)/python -m benchmarks.memory --json memory.json
	$(BIN)/python -m benchmarks.loader --json loader.json
	$(BIN)/python -m benchmarks.train_step --json train_step.json
	$(BIN)/python -m benchmarks.evaluate --json evaluate.json

$(VENV)/.runtime: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[export,report]'
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(WORK) dist
