"""The recipes of the paper's tables: complete, readable, and sharing what they have in common."""

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import made_once
from helpers.commands import call, errors_of
from helpers.hub import use_cache
from helpers.official import make_official_set
from typer.testing import CliRunner

from stmn.cli.main import app
from stmn.recipe.chain import Overrides
from stmn.recipe.load import list_recipes, load_recipe
from stmn.recipe.networks import check_recipe, networks_of
from stmn.recipe.plan import plan_stage
from stmn.workspace import Workspace

DOCS = Path(__file__).parents[2] / "docs"
TABLES = [f"table{number}_{data}" for number in (2, 3, 4, 5) for data in ("ucf101", "hmdb51")]
#: table -> trainings of single streams, of tied networks, and evaluations
STAGES = {"2": (2, 7, 7), "3": (2, 9, 9), "4": (12, 0, 6), "5": (6, 3, 4)}


@pytest.fixture
def weights(tmp_path, monkeypatch):
    return use_cache(monkeypatch, tmp_path / "hub", "resnet50", "resnet152")


@pytest.fixture(scope="module")
def official(tmp_path_factory, shared_data) -> Workspace:
    """Both data sets of the paper, without pictures."""

    def make(folder: Path) -> None:
        for dataset in ("ucf101", "hmdb51"):
            make_official_set(Workspace(folder), dataset, shared_data)

    return Workspace(made_once(tmp_path_factory, "official", make))


def previewed(name: str, workspace: Workspace, *flags: object) -> dict:
    """What `--dry-run --json` says."""
    result = call("run", name, "--dry-run", "--json", "--device", "cpu", "-w", workspace.root, *flags)
    return json.loads(result.stdout) | {"exit_code": result.exit_code}


def test_files_are_what_the_generator_writes(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import make_tables

    assert {path.name: path.read_text() for path in make_tables.FOLDER.iterdir()} == make_tables.make_recipes()
    sys.modules.pop("make_tables")


@pytest.mark.parametrize("name", TABLES)
def test_table_is_found_checked_shown_and_copied(name, weights, tmp_path, monkeypatch):
    assert f"tables/{name}" in list_recipes()
    monkeypatch.chdir(tmp_path)
    path = list_recipes()[f"tables/{name}"]
    for called in (f"tables/{name}", f"recipes/tables/{name}.toml", name):
        assert call("recipes", "show", called).stdout == path.read_text()
    assert call("recipes", "copy", f"tables/{name}", "mine.toml").exit_code == 0
    recipe = load_recipe("mine.toml")
    assert recipe.name == name
    uses = Counter(stage.uses for stage in recipe.stages)
    assert (uses["train-stream"], uses["fuse"], uses["evaluate"]) == STAGES[name[5]]
    assert recipe.stages[-1].uses == "report"
    until = "report" if name.startswith("table5") else None  # IDT is not computed here
    check_recipe(recipe, until=until)


@pytest.mark.parametrize("data", ["ucf101", "hmdb51"])
def test_rows_of_tables_2_and_3_are_the_papers(data):
    rows = {
        number: list(dict(networks_of(load_recipe(f"tables/table{number}_{data}"), {}, 3)).items())[2:]
        for number in (2, 3)
    }
    gates = [(net.gate.site, net.gate.fusion, net.gate.direction) for _, net in rows[2]]
    assert gates == [
        ("direct", "add", "motion_to_appearance"), ("direct", "multiply", "motion_to_appearance"),
        ("residual", "add", "motion_to_appearance"), ("residual", "multiply", "motion_to_appearance"),
        ("residual", "add", "appearance_to_motion"), ("residual", "multiply", "appearance_to_motion"),
        ("residual", "multiply", "both"),
    ]  # fmt: skip
    filters = [(net.temporal.injector, net.temporal.init, net.temporal.pool) for _, net in rows[3]]
    assert Counter(filters) == Counter([
        ("none", "centre", "none"),
        *((where, "average", "none") for where in ("last_unit", "residual", "residual_and_skip")),
        *((where, "centre", "none") for where in ("last_unit", "residual", "residual_and_skip")),
        *((where, "centre", "max") for where in ("residual", "residual_and_skip")),
    ])  # fmt: skip
    assert dict(rows[3])["no-filters"] == dict(rows[2])["residual-multiply"]


def test_late_fusion_counts_motion_three_times_on_hmdb51_alone():
    for data, motion in (("ucf101", 1.0), ("hmdb51", 3.0)):
        stages = {stage.id: stage.given for stage in load_recipe(f"tables/table4_{data}").stages}
        assert [stages[f"test-late-fusion{depth}"]["stream_weights"] for depth in (50, 152)] == [[1.0, motion]] * 2


@pytest.mark.parametrize("data", ["ucf101", pytest.param("hmdb51", marks=pytest.mark.slow)])
def test_equal_streams_of_all_tables_are_one_run(data, weights, official):
    """Run folders are named by what decides their content, so a stream is trained once for all tables."""
    runs: dict[str, set[str]] = {}
    for table in (2, 3, 4, 5):
        recipe = load_recipe(f"tables/table{table}_{data}")
        for stage in recipe.stages:
            if stage.uses == "train-stream":
                options = Overrides({}).options(recipe, stage)
                key = f"{options.modality} {options.arch} split {options.split}"
                runs.setdefault(key, set()).add(plan_stage(stage.uses, options, official).run.path.name)
    assert all(len(names) == 1 for names in runs.values())
    assert len(runs) == len(set.union(*runs.values())) == 12, "those of Table 4 are all"


@pytest.mark.parametrize(("data", "lists"), [
    pytest.param("ucf101", [(9537, 3783), (9586, 3734), (9624, 3696)], marks=pytest.mark.slow),
    ("hmdb51", [(3570, 1530)] * 3),
])  # fmt: skip
def test_dry_run_counts_the_published_lists(data, lists, weights, official):
    before = sorted(official.root.rglob("*"))
    shown = previewed(f"tables/table5_{data}", official, "--until", "report")
    assert shown["exit_code"] == 0 and shown["refused"] == []
    stages = {stage["id"]: stage for stage in shown["stages"]}
    for split, (train, test) in enumerate(lists, 1):
        stream, fused = stages[f"motion-{split}"], stages[f"fused-{split}"]
        assert stream["videos"] + stream["held_out"] == train and 0.05 < stream["held_out"] / train < 0.15
        assert (fused["videos"], fused["held_out"]) == (train, 0)
        assert stages[f"test-fused-{split}"]["videos"] == test
        assert fused["weights"] == f"appearance-{split} + motion-{split}" and stream["weights"] == "imagenet"
    assert stages["test-fused"]["videos"] == sum(test for _, test in lists)

    # ResNet-152 on flow, and the fused pair, as docs/reference/networks.md counts them for 101 classes
    assert round(stages["motion-1"]["multiply_adds"] / 1e9, 2) == 12.18
    assert round(stages["fused-1"]["multiply_adds"] / 1e9, 2) == 16.58
    fused = stages["fused-1"]
    assert fused["work"] == 3 * fused["multiply_adds"] * 5 * 40 * lists[0][0]  # chunks, passes, videos
    whole = 25 * 2 * 256 * 340 / 224**2 * fused["multiply_adds"]  # positions, flips, pixels
    assert stages["test-fused-1"]["work"] == pytest.approx(whole * lists[0][1])

    estimate = shown["estimate"]
    assert estimate["multiply_adds"] == pytest.approx(sum(stage["work"] or 0 for stage in shown["stages"]))
    assert estimate["seconds"] == pytest.approx(estimate["multiply_adds"] / estimate["multiply_adds_per_second"])
    assert fused["seconds"] == pytest.approx(fused["work"] / estimate["multiply_adds_per_second"])
    assert sorted(official.root.rglob("*")) == before, "a dry run writes nothing"


def test_dry_run_without_anything_prepared_says_what_it_can(weights, tmp_path):
    shown = previewed("tables/table4_ucf101", Workspace(tmp_path / "none"), "--until", "appearance50-2")
    assert shown["exit_code"] == 2
    assert len(shown["refused"]) == 1 and "no prepared data set" in shown["refused"][0]
    assert all(stage["parameters"] for stage in shown["stages"] if stage["verb"] == "train-stream")
    assert shown["estimate"]["seconds"] is None
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_missing_weights_idt_and_gpus_are_said_by_the_dry_run(tmp_path, monkeypatch, official):
    use_cache(monkeypatch, tmp_path / "hub", "resnet50")
    monkeypatch.chdir(tmp_path)
    result = call("run", "tables/table5_ucf101", "--dry-run", "--gpus", 8, "--device", "cpu", "-w", official.root)
    assert result.exit_code == 2
    lines = [line.split("table5_ucf101.toml: ")[1] for line in errors_of(result)]
    assert (
        "the ImageNet weights of resnet152 are not on this machine; download them with: stmn weights resnet152" in lines
    )
    short = [line for line in lines if "for 8 processes: set micro_batch = 16 or less, or use 4 processes" in line]
    assert [line.split("'")[1] for line in short] == ["motion-1", "motion-2", "motion-3"]


@pytest.mark.slow
def test_table_fits_80_columns(weights, official):
    arguments = ["run", "tables/table4_hmdb51", "--dry-run", "--device", "cpu", "-w", str(official.root)]
    shown = CliRunner().invoke(app, arguments, env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).stdout
    assert all(len(line) <= 80 for line in shown.splitlines()), shown
    assert "an estimate" in shown and "0 up to date" in shown and "Traceback" not in shown
    ids = [stage["id"] for stage in previewed("tables/table4_hmdb51", official)["stages"]]
    assert set(ids) <= {line.split(" ")[0] for line in shown.splitlines()}, "an id is broken"
