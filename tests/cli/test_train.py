"""`stmn train VIDEOS`: from a folder per class to a tested, saved model; `stmn init`: the list and the recipe alone."""

import csv
import json
import re
import tomllib

import pytest
from helpers.commands import call, errors_of
from helpers.films import film, moving
from helpers.hub import use_cache

from stmn.recipe.load import load_recipe

TINY = ("--steps", 2, "--width", 0.125, "--size", 32, "--chunks", 2, "--batch", 4)


@pytest.fixture
def clips(tmp_path, monkeypatch):
    """Three people who go left, right or down, and a file that is none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stmn.stages.workload._MEASURED_SECONDS", 0.0)
    folder = tmp_path / "my clips"
    for name, step in {"go left": {"dx": -2}, "go right": {"dx": 2}, "fällt": {"dx": 0, "dy": 2}}.items():
        for seed, person in enumerate(("anna", "ben", "cora")):
            film(folder / name / f"{person} {name}.avi", moving(16, seed=seed, **step))
    return folder


def values_of(output: str) -> dict[str, str]:
    """What was chosen, by its name in the first column."""
    return {line[:10].strip(): line[11:25].strip() for line in output.splitlines() if line[10:11] == " "}


def test_one_command_makes_a_tested_model(clips, tmp_path):
    (clips / "go left" / "broken.mp4").write_bytes(b"no video" * 100)
    done = call("train", clips, *TINY, "--folds", 1, "--out", "model.safetensors")
    assert done.exit_code == 0, done.stderr
    chosen = values_of(done.stdout)
    assert chosen["clips"] == "10" and chosen["unreadable"] == "1" and chosen["mirrors"] == "exchanged"
    assert (chosen["short side"], chosen["crop"], chosen["folds"]) == ("48 pixels", "32 pixels", "one split")
    for row in (
        "test-appearance",
        "test-motion",
        "test-fused",
        "The stages took",
        "stmn predict model.safetensors CLIP",
    ):
        assert row in done.stdout
    new = call("predict", "model.safetensors", clips / "fällt" / "ben fällt.avi")
    assert new.exit_code == 0 and "fällt" in new.stdout

    recipe = tmp_path / "my clips.toml"
    tables = {stage["id"]: stage for stage in tomllib.loads(recipe.read_text())["stage"]}
    assert tables["clips"]["mirror_pairs"] == {"left": "right"} and tables["motion"]["steps"] == 2
    before = {path.name for path in (tmp_path / "runs").iterdir()}
    again = call("train", clips, *TINY, "--folds", 1)
    assert again.exit_code == 0 and "is run as it is" in again.stderr
    assert {path.name for path in (tmp_path / "runs").iterdir()} == before, "nothing is done twice"
    [refused] = errors_of(call("train", clips, *TINY, "--folds", 3))
    assert "already exists, for other clips or flags" in refused and "--force" in refused
    model = tmp_path / "model.safetensors"
    written, bytes_of = model.stat().st_mtime_ns, model.read_bytes()
    assert call("train", clips, *TINY, "--folds", 1, "--out", "model.safetensors").exit_code == 0
    assert model.stat().st_mtime_ns == written and model.read_bytes() == bytes_of, "a copy of it is there already"
    for other in (b"", bytes_of[:-1] + b"?"):
        model.write_bytes(other)
        assert errors_of(call("train", clips, *TINY, "--folds", 1, "--out", "model.safetensors")) == [
            "model.safetensors: already exists; use --force to overwrite it"
        ]
        assert model.read_bytes() == other


def test_what_cannot_be_trained_on_is_said_at_once(clips, tmp_path):
    (tmp_path / "empty").mkdir()
    single, flat = tmp_path / "single", tmp_path / "flat"
    film(single / "walk" / "a.avi", moving(2))
    film(flat / "a.avi", moving(2))
    for folder, exit_code, words in (
        (single, 2, f"{single}: has 1 clip of the class 'walk' alone; training needs at least two classes"),
        (flat, 1, "no videos in folders named after classes (CLASS/VIDEO.mp4); 1 lies in no folder"),
        (tmp_path / "empty", 1, "no videos in folders named after classes"),
        (tmp_path / "nowhere", 1, "no such folder of videos"),
    ):
        refused = call("train", folder)
        [error] = errors_of(refused)
        assert refused.exit_code == exit_code and words in error
    assert not list(tmp_path.glob("*.toml")) and not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_with_folds_the_model_learns_from_all_clips(clips, tmp_path):
    done = call("train", clips, *TINY, "--folds", 2)
    assert done.exit_code == 0, done.stderr
    assert "stmn predict calibrated CLIP" in done.stdout and "test-fused-weighted" in done.stdout
    tables = {stage["id"]: stage for stage in tomllib.loads((tmp_path / "my clips.toml").read_text())["stage"]}
    assert tables["final"]["split"] == "none" and tables["calibrated"]["scores"] == ["test-fused"]
    seen = call("predict", "calibrated", clips / "fällt" / "ben fällt.avi", "--unknown", "auto")
    assert seen.exit_code == 0, seen.stderr
    [refused] = errors_of(call("evaluate", "final", "--split", 1))
    assert re.search(r"was trained on (\d+) of the \1 test videos of split 1", refused)


@pytest.mark.slow
def test_plan_writes_nothing(clips, tmp_path, monkeypatch):
    planned = call("train", clips, "--plan", "--arch", "resnet34", "--bound", 7.5, "--fps", 12)
    chosen = values_of(planned.stdout)
    assert (chosen["network"], chosen["bound"], chosen["rate"]) == ("resnet34", "7.5 pixels", "12 fps")
    assert planned.stdout.splitlines()[-1].startswith("time       ")
    use_cache(monkeypatch, tmp_path.parent / "no weights")
    [missing] = errors_of(call("train", clips, "--plan", "--weights", "imagenet"))
    assert missing.startswith("the ImageNet weights of resnet18 are not on this machine")
    assert [path.name for path in tmp_path.iterdir()] == ["my clips"]


@pytest.mark.slow
def test_little_time_makes_it_shorter(clips):
    wanted = values_of(call("train", clips, "--plan", "--minutes", 600).stdout)
    little = values_of(call("train", clips, "--plan", "--minutes", 0.01).stdout)
    assert (wanted["folds"], wanted["steps"]) == ("3 folds", "400")
    assert (little["folds"], little["steps"]) == ("one split", "100")


@pytest.mark.slow
def test_list_and_recipe_are_for_editing(clips, tmp_path):
    film(clips / "go left" / "=1+1.mov", moving(30, height=96, width=48), rate=50)
    film(clips / "rare" / "deep" / "only.avi", moving(16))
    done = call("init", clips, *TINY, "--folds", 3, "--to", "plan")
    assert done.exit_code == 0, done.stderr
    assert values_of(done.stdout)["one clip"] == "1"  # of the class "rare"
    assert "  stmn run 'plan/my clips.toml' --dry-run" in done.stdout
    with open(tmp_path / "plan" / "my clips.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "class", "group", "split1", "split2", "split3"]
    assert len(rows) == 11 and {row["class"] for row in rows} == {"go left", "go right", "fällt", "rare"}
    assert all([row[f"split{n}"] for n in (1, 2, 3)].count("test") == 1 for row in rows)
    recipe = load_recipe(str(tmp_path / "plan" / "my clips.toml"))
    assert recipe.stages[0].given["fps"] == 25, "rates differ"
    ran = call("run", recipe.path, "--until", "clips")
    assert ran.exit_code == 0, ran.stderr
    [refused] = errors_of(call("init", clips, "--to", "plan"))
    assert "already exists" in refused
    assert json.loads(call("data", "info", "--json").stdout)["videos"]["ok"] == 11
    (tmp_path / "gone.csv").touch()
    assert "gone: no such folder of videos" in errors_of(call("init", "gone", "--force"))[0]


@pytest.mark.slow
def test_folders_of_a_split_are_kept(clips, tmp_path):
    for part in ("train", "test"):
        for name in ("go left", "go right"):
            for number in range(2):
                film(tmp_path / "parts" / part / name / f"{number}.avi", moving(14, seed=number))
    planned = call("train", tmp_path / "parts", "--plan")
    assert "the clips come with one" in planned.stdout and values_of(planned.stdout)["folds"] == "one split"
