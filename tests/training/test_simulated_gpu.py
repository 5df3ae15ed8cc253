"""Every stage's tensors are on the device that it computes on: on a simulated GPU, in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("which", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_stages_run_on_a_simulated_gpu(which, trained, tmp_path):
    file = Path(__file__).with_name("on_simulated_gpu.py")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        which,
        "--basetemp",
        tmp_path / "own",
        "-p",
        "no:xdist",
        file,
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, cwd=ROOT,
        env=environment | {"TRAINED_WORKSPACE": str(trained.root)}, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 3 and "skipped" not in done.stdout
