"""Benchmarks share one frame: the same command line, and the result as JSON."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cuda.__main__ import find_parts
from benchmarks.frame import make_parser

CHECKOUT = Path(__file__).parents[1]
NAMES = [
    path.stem if path.stem != "__main__" else path.parent.name
    for path in sorted([*(CHECKOUT / "benchmarks").glob("*.py"), *(CHECKOUT / "benchmarks").glob("*/__main__.py")])
    if "run(__doc__" in path.read_text()
]


def test_every_benchmark_uses_the_frame():
    assert set(NAMES) == {
        "batch_norm", "cuda", "decode", "evaluate", "flow", "fuzz_prepare", "idt", "kernels", "loader", "memory", "predict_memory", "prepare_before", "store_layout", "torture",
        "train_step",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_help_says_what_is_measured_and_asks_for_a_file(name):
    pytest.importorskip("cv2")
    module = importlib.import_module(f"benchmarks.{name}")
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"benchmarks.{name}.__main__")
    text = make_parser(module.__doc__, module.add_options).format_help()
    assert f"python -m benchmarks.{name} --json FILE" in text
    assert "where to write the result" in text


def test_result_is_printed_and_written_as_json(tmp_path):
    command = [sys.executable, "-m", "benchmarks.store_layout", "--json", tmp_path / "result.json", "--pictures", "20"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "result.json").read_text())
    assert json.loads(done.stdout) == rows
    assert {tuple(row) for row in rows} == {("pictures", "layout", "page_size", "overhead", "reads_per_second")}


def measure_gpu(folder: Path, *parts: str) -> dict[str, Any]:
    """What `benchmarks.cuda` writes on a CPU with tiny sizes."""
    chosen = [word for part in parts for word in ("--part", part)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cuda", "--json", folder / "cuda.json", "--device", "cpu", "--quick", *chosen],
        cwd=CHECKOUT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = (folder / "cuda.json").read_text()
    assert '"error"' not in text, done.stderr
    found = json.loads(text)
    assert found["gpu"]["copy_gb_per_second"] > 0
    return found


def test_gpu_is_measured_part_by_part(tmp_path):
    """Every part runs, and a row is a speed beside its limit."""
    pytest.importorskip("cv2")
    found = measure_gpu(tmp_path, *(set(find_parts()) - {"runtimes", "prepare"}))
    loader = found["loader"]
    for row in (
        loader["from_jpegs"],
        loader["copying_and_cutting"],
        found["evaluate"]["float32"],
        found["evaluate"]["float32"]["contiguous"],
        found["flow"]["torch"],
    ):
        assert row["measured"] > 0 and row["limit"] > 0 and row["limit_is"]


@pytest.mark.slow
def test_what_limits_prepare_has_a_name(tmp_path):
    found = measure_gpu(tmp_path, "prepare")["prepare"]
    assert found["measured"] > 0
    assert found["limit_is"] in found["limits"]


@pytest.mark.slow
def test_other_runtimes_have_the_networks_logits(tmp_path):
    pytest.importorskip("cv2")
    found = measure_gpu(tmp_path, "runtimes")["runtimes"]
    assert found["CPUExecutionProvider"]["videos_a_second"] > 0
    assert found["CPUExecutionProvider"]["largest_difference"] < 1e-4
