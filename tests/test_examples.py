"""The stages as Python functions, and the scripts and the notebook in examples/, which run as they stand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.films import film, moving

import stmn
from stmn.errors import DataError, UsageError
from stmn.recipe.results import Evaluation
from stmn.workspace import Workspace

EXAMPLES = Path(__file__).parents[1] / "examples"
TINY = {"batch": 8, "micro_batch": 8, "steps": 1, "schedule": "cosine", "validation": 0}


def test_stages_are_functions(scratch, capfd):
    stream = {"arch": "resnet18", "width": 0.125, "weights": "none", "size": 32, **TINY}
    motion = stmn.train_stream(modality="flow", data=scratch.root / "data/synthetic", workspace=scratch.root, **stream)
    assert motion.file.is_file() and motion.options["steps"] == 1 and motion.seconds > 0
    test = stmn.evaluate(motion, workspace=scratch.root, chunks=1, show=False)
    assert test.videos == 12 and test.interval[0] <= test.accuracy <= test.interval[1] and test.scores.is_file()
    assert len(stmn.load(motion, "cpu").classes) == 4
    assert "training" in capfd.readouterr().err
    again = stmn.train_stream(modality="flow", data="synthetic", workspace=scratch.root, show=False, **stream)
    assert again.path == motion.path and capfd.readouterr().err == ""
    assert len(list(Workspace(scratch.root).runs())) == 2


def test_mean_of_splits_has_videos_and_no_scores_of_its_own(tmp_path):
    """Splits that are no folds: `stmn.evaluate(..., split="all")` gives the mean of their accuracies."""
    splits = {"1": {"accuracy": 0.5, "videos": 30}, "2": {"accuracy": 0.7, "videos": 28}}
    values = {"accuracy": 0.6, "interval": [0.5, 0.7], "splits": splits}
    mean = Evaluation("test-1a2b", tmp_path, {"splits": tmp_path / "metrics.json"}, values, {}, 1.0)
    assert (mean.accuracy, mean.videos) == (0.6, 58)
    with pytest.raises(DataError, match="is the mean of several splits; each split's own evaluation has scores"):
        mean.scores  # noqa: B018


def test_mistakes_are_named_as_on_the_command_line(scratch):
    with pytest.raises(UsageError, match=r"train-stream: unknown option 'stpes' \(did you mean 'steps'\?\)"):
        stmn.train_stream(stpes=3, workspace=scratch.root)
    with pytest.raises(UsageError, match="option 'tensorboard' is called 'logger' now"):
        stmn.train_stream(tensorboard=True, workspace=scratch.root)
    with pytest.raises(UsageError, match="'nothing': no such file, and no finished run with"):
        stmn.evaluate("nothing", workspace=scratch.root)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["train_two_streams.py", "compare_gates.py"])
def test_scripts_train(script, tmp_path):
    more = ["--videos", "16"] if script == "compare_gates.py" else []
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, "--steps", "2", *more], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "%" in done.stdout and "Traceback" not in done.stderr


@pytest.mark.slow
def test_script_classifies_a_folder(trained, tmp_path):
    film(tmp_path / "clips" / "a.mp4", moving(40, height=40, width=40))
    model = Workspace(trained.root).find_model("fused")
    command = [sys.executable, EXAMPLES / "classify_folder.py", model, tmp_path / "clips"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "a.mp4: " in done.stdout and "0.00 to" in done.stdout


@pytest.mark.slow
def test_notebook_runs_and_draws_bars(tmp_path, monkeypatch):
    monkeypatch.setenv("STEPS", "2")
    outputs = run_notebook("first_steps.ipynb", tmp_path)
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert "application/vnd.jupyter.widget-view+json" in kinds, "bars are widgets"
    text = "".join(output.get("text", "") for output in outputs)
    assert "fused" in text and "%" in text
    assert os.listdir(tmp_path / "runs")


@pytest.mark.slow
def test_notebook_for_colab_trains_on_a_folder(tmp_path, monkeypatch):
    """All but the cells that only Colab can run: installation, its Drive, its downloads."""
    for number in range(6):
        clip = moving(30, height=40, width=40, dx=1 - 2 * (number % 2), seed=number)
        film(tmp_path / "videos" / ("jump", "walk")[number % 2] / f"{number}.avi", clip)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("VIDEOS", str(tmp_path / "videos"))
    monkeypatch.setenv("WORK", str(tmp_path / "work"))
    monkeypatch.setenv("FLAGS", "--steps 2 --folds 1 --width 0.125 --size 32 --short-side 40 --chunks 2")
    outputs = run_notebook("colab.ipynb", tmp_path, without="colab")
    text = "".join(output.get("text", "") for output in outputs)
    assert "error: " not in text and "recipe" in text
    for made in ("model.safetensors", "model.onnx", "overlay.mp4"):
        assert (tmp_path / "work" / made).is_file(), made


def run_notebook(name: str, folder: Path, without: str = "") -> list[dict]:
    """Run the cells of a notebook that don't have a tag; what they give."""
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("ipywidgets")
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if without not in cell.metadata.get("tags", [])]
    client.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]
