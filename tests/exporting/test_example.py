"""`stmn export --example DIR`: a folder that runs without this package and without torch."""

import re
import subprocess
import sys
import venv

import numpy as np
import pytest
import torch
from conftest import run_stage
from helpers.commands import call, errors_of
from helpers.films import moving
from helpers.predicting import lines, model_of

from stmn.exporting.example.flow import tvl1 as plain_tvl1
from stmn.flow.tvl1 import tvl1

#: what takes the place of packages that the folder must not need
BLOCKED = "import sys; [sys.modules.__setitem__(name, None) for name in ('torch', 'stmn', 'onnx', 'scipy', 'PIL')]\n"


@pytest.fixture
def folder(shipped, tmp_path):
    """The example of the fused network."""
    run_stage(shipped, "export", model="fused", licence="CC BY 4.0", example=tmp_path / "example")
    return tmp_path / "example"


def read_answer(text: str) -> dict[str, float]:
    """Class -> percent."""
    return {name: float(percent) for percent, name in re.findall(r"^ *([\d.]+) % (.+)$", text, re.MULTILINE)}


def check_answers(python: list[str], folder, shipped, model: str = "fused") -> None:
    """Compare what the program says of two videos with what `stmn predict` says."""
    for video in sorted((shipped.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))[:2]:
        done = subprocess.run([*python, folder / "run.py", video], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        [ours] = lines(model_of(shipped, model), video)
        expected = {name: 100 * score for name, score in ours["scores"].items()}
        assert read_answer(done.stdout) == pytest.approx(expected, abs=0.11)


def test_example_gives_the_models_answers_without_torch(folder, shipped):
    names = ["README.txt", "flow.py", "model.onnx", "pyramid.py", "run.py"]
    assert sorted(path.name for path in folder.iterdir()) == names
    start = BLOCKED + "import runpy; sys.argv = sys.argv[1:]; sys.path.insert(0, sys.argv[0].rpartition('/')[0])\n"
    check_answers([sys.executable, "-c", start + "runpy.run_path(sys.argv[0], run_name='__main__')"], folder, shipped)


def test_example_of_a_calibrated_model_has_its_temperature(own, tmp_path):
    tests = [run for run in own.runs() if run.makes("scores")]
    [scores] = [run.name for run in tests if "appearance" in run.results["of"][0]]
    calibrated = run_stage(own, "calibrate", model="appearance", scores=[scores])
    assert calibrated.results["temperature"] != pytest.approx(1, abs=0.2)
    run_stage(own, "export", model="calibrated", example=tmp_path / "example")
    check_answers([sys.executable], tmp_path / "example", own, "calibrated")


@pytest.mark.slow
def test_example_runs_in_an_environment_of_its_own(folder, shipped, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    packages = ["onnxruntime", "numpy", "av"]
    done = subprocess.run([python, "-m", "pip", "install", "-q", *packages], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no wheels here: {done.stderr.strip().splitlines()[-1]}")
    check_answers([python], folder, shipped)


@pytest.mark.parametrize("options", [{}, {"scale": 0.8, "median": 5, "warps": 5, "iterations": 5, "smoothing": 0.0}])
def test_flow_of_the_example_is_that_of_training(options):
    first, second = (frame.mean(axis=2, dtype=np.float32) for frame in moving(2, 48, 61, dx=2, dy=1))
    expected = tvl1(torch.from_numpy(first)[None], torch.from_numpy(second)[None], **options)[0].numpy()
    np.testing.assert_allclose(plain_tvl1(first, second, **options), expected, atol=2e-3)


def test_example_that_could_not_run_is_refused(shipped, tmp_path):
    [error] = errors_of(call("export", "fused", "--format", "pt2", "--example", tmp_path / "x", "-w", shipped.root))
    assert error == f"--example {tmp_path / 'x'}: its program runs ONNX files: leave out --format pt2"
    [error] = errors_of(call("export", "fused", "--example", tmp_path, "-w", shipped.root))
    assert "already exists; use --force to overwrite it" in error
