"""Starting weights that a package brings: a stream names them as it names a word."""

import shutil
import tomllib

import pytest
from conftest import TINY_TRAINING
from helpers.commands import call, errors_of, over, write_recipe
from helpers.films import film, moving
from helpers.packages import on_path
from safetensors.torch import load_file

from stmn.testing import check_weights
from stmn.workspace import Run, Workspace

WEIGHTS = """
from pathlib import Path

def brought(modality):
    '''Weights of the tests.'''
    return {answer}
"""


@pytest.fixture
def own(trained, tmp_path) -> Workspace:
    return Workspace(shutil.copytree(trained.root, tmp_path / "work"))


@pytest.fixture
def bring(tmp_path, monkeypatch):
    """Install a package of weights that answers so."""
    with on_path(tmp_path / "site", monkeypatch) as packages:
        yield lambda answer: packages.install("bringer", WEIGHTS.format(answer=answer), weights={"brought": "brought"})


def train(own: Workspace, *more: object):
    options = TINY_TRAINING | {
        "steps": 1,
        "modality": "rgb",
        "data": "synthetic",
        "arch": "resnet18",
        "width": 0.25,
        "size": 32,
    }
    tiny = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    return call(*over(["train-stream", *tiny, "-w", own.root], *more))


def newest(own: Workspace) -> Run:
    return max(own.runs(), key=lambda run: run.record["started"])


def test_stream_starts_from_the_weights_of_a_package(own, bring):
    model = own.newest("model", "synthetic", "train-stream", modality="rgb").output("model")
    bring(f"Path({str(model)!r})")
    done = train(own, "--weights", "brought", "--lr", "1e-30", "--bn-passes", "0", "--seed", "5")
    assert done.exit_code == 0, done.stderr
    assert "starting from brought of bringer 1.0, its appearance stream" in done.stderr
    made = newest(own)
    assert made.record["options"]["weights"] == "brought"
    before, after = load_file(model), load_file(made.output("model"))
    name = next(name for name in before if name.endswith("conv1.weight"))
    assert (before[name] - after[name]).abs().max() < 1e-6


def test_other_content_makes_another_run(own, bring, tmp_path):
    models = [own.newest("model", "synthetic", "train-stream", modality="rgb").output("model")]
    train(own, "--seed", "9", "--weights", "none")
    models.append(newest(own).output("model"))
    file = tmp_path / "brought.safetensors"
    bring(f"Path({str(file)!r})")
    runs = []
    for model in models:
        shutil.copy(model, file)
        train(own, "--weights", "brought")
        runs.append(newest(own).name)
    assert runs[0] != runs[1]


@pytest.mark.parametrize(("answer", "line"), [
    ("None", "weights = brought: bringer has none for modality rgb; use other weights"),
    ("Path('/nowhere/rgb.safetensors')",
     "weights 'brought' of package bringer 1.0 names no file for rgb, but /nowhere/rgb.safetensors: install the package "
     "again"),
    ("3", "weights 'brought' of package bringer 1.0 names no file for rgb, but 3: install the package again"),
])  # fmt: skip
def test_package_without_weights_is_one_line(answer, line, own, bring):
    bring(answer)
    assert errors_of(train(own, "--weights", "brought")) == [line]


def test_misspelt_name_is_one_line(own, bring):
    bring("None")
    assert errors_of(train(own, "--weights", "brougth")) == [
        "weights = brougth: no such weights (did you mean 'brought'?)"
    ]


def test_recipe_names_the_weights_of_a_package(own, bring, tmp_path):
    model = own.newest("model", "synthetic", "train-stream", modality="rgb").output("model")
    bring(f"Path({str(model)!r})")
    stream = 'id = "rgb"\nuses = "train-stream"\nmodality = "rgb"\narch = "resnet18"\nweights = "{}"\nwidth = {}'
    head = 'name = "toy"\ndata = "synthetic"'
    good = write_recipe(tmp_path / "good.toml", head, stream.format("brought", 0.25))
    assert call("recipes", "validate", good).exit_code == 0
    wide = write_recipe(tmp_path / "wide.toml", head, stream.format("brought", 1.0))
    assert "use --arch resnet18 --width 0.25" in call("run", wide, "--dry-run", "-w", own.root).stderr
    unknown = write_recipe(tmp_path / "unknown.toml", head, stream.format("brougth", 0.25))
    assert "did you mean 'brought'?" in call("recipes", "validate", unknown).stderr


def test_recipe_of_a_pushed_model_names_the_weights_of_the_package(own, bring, tmp_path):
    model = own.newest("model", "synthetic", "train-stream", modality="rgb").output("model")
    bring(f"Path({str(model)!r})")
    train(own, "--weights", "brought")
    words = ["--licence", "mit", "-w", own.root, "--dry-run", tmp_path / "sent"]
    assert call("push", newest(own).name, "ada/m", *words).exit_code == 0
    stages = tomllib.loads((tmp_path / "sent" / "recipe.toml").read_text())["stage"]
    assert [stage["weights"] for stage in stages if stage["uses"] == "train-stream"] == ["brought"]


def test_train_starts_from_weights_that_fit_its_network(own, bring, tmp_path, monkeypatch):
    monkeypatch.setattr("stmn.stages.workload._MEASURED_SECONDS", 0.0)
    for action, step in (("left", -2), ("right", 2)):
        for seed in range(3):
            film(tmp_path / "clips" / action / f"{action}{seed}.avi", moving(14, dx=step, seed=seed))
    models = {
        m: str(own.newest("model", "synthetic", "train-stream", modality=m).output("model")) for m in ("rgb", "flow")
    }
    bring(f"Path({models!r}[modality])")

    def planned(*more: object) -> list[str]:
        plan = call("train", tmp_path / "clips", "--plan", "--size", 32, *more)
        assert plan.exit_code == 0, plan.stderr
        rows = {line[:10].strip(): line[11:25].strip() for line in plan.stdout.splitlines()}
        return [rows["weights"], rows["width"]]

    assert planned() == ["brought", "0.25"]
    assert planned("--weights", "brought") == ["brought", "0.25"]
    assert planned("--width", 0.125) == ["none", "0.125"]
    assert planned("--weights", "none") == ["none", "0.5"]


@pytest.mark.parametrize(("answer", "change"), [
    ("None", "has weights for no modality: return the path of a file for one of them"),
    ("'rgb.safetensors'", "returns a str: return a Path"),
    ("Path('gone.safetensors')", "rgb: no such file: gone.safetensors: put the file into the package"),
    ("Path(__file__)", "not a weights file; use .safetensors"),
])  # fmt: skip
def test_check_says_what_to_change(answer, change):
    found: dict = {"__file__": __file__}
    exec(WEIGHTS.format(answer=answer), found)
    with pytest.raises(Exception, match=change):
        check_weights(found["brought"])


def test_recipe_says_that_the_package_of_its_weights_is_left_out(bring, monkeypatch, tmp_path):
    bring("None")
    monkeypatch.setenv("STMN_PLUGINS", "off")
    stage = 'id = "a"\nuses = "train-stream"\nmodality = "rgb"\nweights = "brought"'
    recipe = write_recipe(tmp_path / "r.toml", 'name = "toy"\ndata = "toy"', stage)
    [line] = errors_of(call("run", recipe, "--dry-run"))
    assert "weights = 'brought': no earlier stage has this id, and weights 'brought' of package bringer 1.0" in line
    assert line.endswith("is left out by STMN_PLUGINS")
