# Each target sets up .venv first; Python 3.11+ and a C compiler are all it takes.
#
#   make demo         a model from rendered videos, tested, exported and reported
#   make demo-real    the same on clips: VIDEOS=FOLDER, with one folder per class; ARGS: more flags of `stmn run`
#   make experiments  docs/experiments.md from its recipes: up to four hours; QUICK=1: 20 minutes
#   make test         the tests, in parallel
#   make test-slow    the tests that take minutes
#   make test-cuda    the tests that need a GPU
#   make test-plugins the packages in plugins/: installed, checked, trained with
#   make coverage     the tests, and how much of stmn/ they run
#   make wheel        a wheel that brings the C kernels, for machines like this one: dist/
#   make docs         the docs as a site: build/site/html/index.html
#   make lint         ruff, mypy, import contracts, codespell, clang-format
#   make format       rewrite Python and C files in the project's style
#   make bench        the benchmarks
#   make constraints  constraints.txt, from the newest releases that fit pyproject.toml
#   make clean        remove .venv and everything that was built
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
WORK   ?= demo
VIDEOS ?= $(wildcard ../shared/data/weizmann)
FORMULA := plugins/stmn-formula/stmn_formula
C_CODE  = $(shell find stmn -name '*.[ch]')

PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal

.PHONY: demo demo-real experiments test test-slow test-cuda test-plugins coverage wheel docs lint format bench constraints \
        clean

demo: $(VENV)/.runtime
	$(BIN)/stmn run recipes/demo.toml --workspace $(WORK)

demo-real: $(VENV)/.runtime
	@test -n "$(VIDEOS)" || { echo "name a folder of clips, with one folder per class: make demo-real VIDEOS=FOLDER"; exit 2; }
	@test -d "$(VIDEOS)" || { echo "VIDEOS=$(VIDEOS): no such folder"; exit 2; }
	$(BIN)/stmn run recipes/small.toml --data-root "$(VIDEOS)" --workspace $(WORK)-real \
	  --set appearance.weights=$(FORMULA)/rgb.safetensors --set motion.weights=$(FORMULA)/flow.safetensors $(ARGS)

experiments: $(VENV)/.runtime
	$(BIN)/python docs/make_experiments.py $(if $(QUICK),--quick)

test: $(VENV)/.dev
	$(PYTEST)

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m 'slow and not cuda'

# one process: tests that share a GPU would measure each other's memory
test-cuda: $(VENV)/.dev
	$(BIN)/python -m pytest -m cuda

# that test limits the size of files, and coverage's own file would be cut
FILE_LIMIT := tests/stages/test_prepare_kill.py::test_file_size_limit_stops_like_a_full_disk

test-plugins: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt ./plugins/*
	$(BIN)/python -m pytest -m 'not cuda' tests/testing/test_packages.py tests/testing/test_new.py

coverage: $(VENV)/.dev
	$(PYTEST) --deselect $(FILE_LIMIT) --cov --cov-report=term:skip-covered

wheel: $(VENV)/.dev
	STMN_BUILD_KERNELS=1 $(BIN)/python -m build --wheel

docs: $(VENV)/.dev
	$(BIN)/python docs/make_site.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff check --preview --select PLW1514 stmn hatch_build.py
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell
	$(BIN)/clang-format --dry-run --Werror $(C_CODE)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_CODE)

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.flow --json flow.json $(BENCH)
	$(BIN)/python -m benchmarks.idt --json idt.json
	$(BIN)/python -m benchmarks.store_layout --json store_layout.json
	$(BIN)/python -m benchmarks.memory --json memory.json
	$(BIN)/python -m benchmarks.loader --json loader.json
	$(BIN)/python -m benchmarks.train_step --json train_step.json
	$(BIN)/python -m benchmarks.evaluate --json evaluate.json

# Run it with the oldest Python that is supported: the releases then fit the newer ones too. Constraints on packages that a
# platform does not install (nvidia-*, triton) have no effect there.
constraints:
	rm -rf build/constraints
	$(PYTHON) -m venv build/constraints
	build/constraints/bin/python -m pip install --quiet '.[dev]'
	echo '# Made by `make constraints`: the newest releases that fit pyproject.toml.' > constraints.txt
	build/constraints/bin/python -m pip freeze --exclude stmn >> constraints.txt
	rm -rf build/constraints

$(VENV)/.runtime: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[export,report]'
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(WORK) $(WORK)-real build dist
