"""A sweep from a folder of clips to its table: in folds of groups, after a kill, and under torchrun."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.commands import call, errors_of, start, write_recipe
from helpers.films import film, moving

from stmn.workspace import Run, Workspace

TINY = 'arch = "resnet18"\nwidth = 0.125\nsize = 32\nweights = "none"\nbatch = 4\nmicro_batch = 2\nsteps = 2\nschedule = "cosine"\nvalidation = 0.0'


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of clips of two classes and four persons, and a recipe that sweeps seeds and folds over it."""
    root = tmp_path_factory.mktemp("clips")
    for number, (name, dx) in enumerate([("left", -2), ("right", 2)] * 4):
        film(
            root / "videos" / name / f"{name}_g{number // 2:02d}_c01.avi",
            moving(14, 40, 48 + number, dx=dx, seed=number),
        )
    recipe = write_recipe(
        root / "clips.toml", 'name = "clips"\ndata = "clips"',
        'id = "videos"\nuses = "prepare"\nsplit_by = "group"\nfolds = 2\nshort_side = 40\nflow = "farneback"\nbound = 5.0\nworkers = 1',
        f'id = "motion"\nuses = "train-stream"\nmodality = "flow"\n{TINY}',
        'id = "test"\nuses = "evaluate"\nmodel = "motion"\nchunks = 2',
    )  # fmt: skip
    sweep = '[sweep]\nseed = [0, 1]\nsplit = "all"\nagainst = "box shapes alone"\n'
    recipe.write_text(recipe.read_text() + sweep)
    return root / "videos", recipe


def table_of(root: Path) -> dict:
    [run] = [run for run in Workspace(root).runs() if run.record["verb"] == "table"]
    return json.loads(run.output("table").read_text())


def finished(root: Path) -> list[Run]:
    return [run for run in Workspace(root).runs() if run.done]


@pytest.mark.slow
def test_a_killed_sweep_does_only_what_is_missing(clips, tmp_path):
    videos, recipe = clips
    command = ["run", recipe, "--data-root", videos, "-w", tmp_path / "work"]
    process = start(*command)
    for line in process.stderr:
        if line.startswith("[4/"):  # two trainings are done, the third begins
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = {run.name: run.record["finished"] for run in finished(tmp_path / "work")}
    assert len(before) == 2
    again = call(*command)
    assert again.exit_code == 0, again.stderr
    after = {run.name: run.record["finished"] for run in finished(tmp_path / "work")}
    assert before.items() <= after.items() and len(after) == 4 + 4 + 2 + 1
    names = [row["name"] for row in table_of(tmp_path / "work")["rows"]]
    assert names == ["chance", "box shapes alone", "test"]
    row = table_of(tmp_path / "work")["rows"][2]
    assert (row["videos"], row["units"], row["over"], row["seeds"]) == (8, 4, "groups", 2)
    assert row["comparison"]["paired_seeds"] == 2, "the baseline stands beside each seed"
    assert "4 groups are too few to say" in again.stdout and "4 groups can't give a p below 0.12" in again.stdout


@pytest.mark.slow
def test_two_processes_make_the_same_table(clips, tmp_path):
    videos, recipe = clips
    command = ["run", recipe, "--data-root", videos]
    assert call(*command, "-w", tmp_path / "alone").exit_code == 0
    torchrun = [Path(sys.executable).with_name("torchrun"), "--nproc-per-node=2", "-m", "stmn"]
    done = subprocess.run(
        [*map(str, torchrun), *map(str, command), "-w", str(tmp_path / "pair")], capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    alone, pair = table_of(tmp_path / "alone"), table_of(tmp_path / "pair")
    assert [row["name"] for row in pair["rows"]] == [row["name"] for row in alone["rows"]]
    for one, two in zip(alone["rows"], pair["rows"], strict=True):
        assert two["accuracy"] == pytest.approx(one["accuracy"]) and two.get("videos") == one.get("videos")
    assert done.stdout.count("table.csv") == 1, "one process speaks"


@pytest.mark.slow
def test_a_second_sweep_of_the_same_recipe_is_refused(clips, tmp_path):
    videos, recipe = clips
    command = ["run", recipe, "--data-root", videos, "-w", tmp_path / "work"]
    process = start(*command)
    try:
        for line in process.stderr:
            if "motion[" in line:  # the set has been prepared since, which decides the splits
                break
        second = call(*command)
        assert second.exit_code != 0 and "this recipe" in errors_of(second)[0], second.stderr
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        time.sleep(0.1)
