"""`stmn run RECIPE --set STAGE.KEY=VALUE`: a recipe changed on the command line."""

import pytest
import timm
from helpers.commands import call, errors_of
from helpers.films import film, moving
from helpers.hub import FILE, use_cache
from safetensors.torch import save_file

from stmn.recipe.load import load_recipe


def given(*changes: str) -> dict[str, dict]:
    """The keys of the stages of recipe `small`, changed."""
    return {stage.id: stage.given for stage in load_recipe("small", changes).stages}


def test_one_stage_or_all_that_have_the_key_are_changed():
    before, after = given(), given("motion.steps=7", "width = 0.25", "videos.dataset_options.test_share=0.5")
    assert after["motion"]["steps"] == 7 and after["appearance"]["steps"] == before["appearance"]["steps"]
    assert [after[name]["width"] for name in ("appearance", "motion")] == [0.25, 0.25]
    assert "width" not in after["fused"]
    assert after["videos"]["dataset_options"] == {"group_pattern": "auto", "test_share": 0.5}
    assert given("fused.fusion=add")["fused"]["fusion"] == given('fused.fusion="add"')["fused"]["fusion"] == "add"


def test_sweep_and_shared_keys_are_changed():
    recipe = load_recipe("small", ["sweep.seed=[5]", "recipe.data=mine", "sweep.split=['2']"])
    assert recipe.shared["data"] == "mine"
    assert {axis.name: list(axis.values) for axis in recipe.sweep.axes} == {"seed": ["5"], "split": ["2"]}


@pytest.mark.parametrize(("change", "line"), [
    ("motion.steps", "--set motion.steps: write STAGE.KEY=VALUE, or KEY=VALUE for all stages that have such a key"),
    ("=3", "--set =3: write STAGE.KEY=VALUE"),
    ("motin.steps=3", "--set motin.steps=3: no stage 'motin' (did you mean 'motion'?); it has videos, appearance,"),
    ("step=3", "--set step=3: no stage has an option 'step' (did you mean 'steps'?)"),
    ("motion.step=3", "stage 3 ('motion'): unknown option 'step'"),
    ("motion.steps=many", "stage 3 ('motion'): steps = 'many': must be a whole number"),
    ("sweep.seed=1", "[sweep] seed = 1: must be a list of values"),
])  # fmt: skip
def test_a_wrong_change_is_one_line(change, line, tmp_path):
    result = call("run", "small", "--dry-run", "--set", change, "-w", tmp_path)
    assert result.exit_code == 2
    [said] = errors_of(result)
    assert line in said


def test_the_small_recipe_starts_from_imagenets_weights_if_asked(tmp_path, monkeypatch):
    hub = use_cache(monkeypatch, tmp_path / "hub", "resnet18")
    [path] = hub.rglob(FILE)
    save_file(timm.create_model("resnet18").state_dict(), path)
    for person, motion in (("ann", 1), ("bob", 2)):
        for name in ("run", "jump"):
            film(tmp_path / "v" / name / f"{person}_{name}.avi", moving(12, 64, 64, seed=motion))
    changes = [
        "weights=imagenet",
        "width=1.0",
        "steps=1",
        "bn_passes=0",
        "sweep.seed=[0]",
        "sweep.split=['1']",
        "chunks=1",
    ]
    command = [word for change in changes for word in ("--set", change)]
    result = call("run", "small", "--data-root", tmp_path / "v", "--until", "motion", *command, "-w", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("resnet18: starting from the ImageNet weights timm/resnet18.tv_in1k") == 2
