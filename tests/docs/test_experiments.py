"""docs/experiments.md is made of records: what the page says, what the paper says beside it, README's table."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import run_stage

from stmn.recipe.changes import change_recipe
from stmn.report.paper import NetworkSummary, PaperAccuracy, find_nearest
from stmn.report.sources import RunGraph
from stmn.workspace import Workspace

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import experiment_runs as runs
import make_experiments as experiments
import paper_ranking as ranking
from gate_rows import measure_gates

RECIPE = """\
[recipe]
name = "toy"
about = "three streams"
data = "synthetic"

[[stage]]
id = "videos"
uses = "prepare"
dataset = "synthetic"
dataset_options = { train = 200 }

[[stage]]
id = "motion"
uses = "train-stream"
steps = 300

[[stage]]
id = "test"
uses = "evaluate"
model = "motion"

[sweep]
seed = [3, 4, 5]
split = "all"
"""


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory) -> tuple[Workspace, Path]:
    """A workspace with the table of a recipe `toy`, and a folder with that recipe and one that was not run."""
    root = tmp_path_factory.mktemp("experiments")
    workspace = Workspace(Path(shutil.copytree(trained.root, root / "work")))
    tests = sorted(
        (run for run in workspace.runs() if run.record["verb"] == "evaluate"), key=lambda run: run.record["started"]
    )
    table = run_stage(
        workspace, "table", evaluations=[str(run.path) for run in tests], rows=["appearance", "motion", "a|b"],
        against="motion",
    )  # fmt: skip
    table.save(recipe="toy")
    folder = root / "recipes"
    folder.mkdir()
    (folder / "toy.toml").write_text(RECIPE)
    (folder / "toy.md").write_text("# Toys\n\nWhich toy moves?\n")
    (folder / "clips.toml").write_text('[recipe]\nname = "clips"\nabout = "real clips"\ndata = "clips"\n')
    return workspace, folder


def commit_all(folder: Path) -> str:
    """Commit what a folder holds; the commit's short name."""
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "recipes", "--allow-empty"], check=True)
    return subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True).stdout.strip()


def test_page_has_the_records_numbers(made):
    workspace, folder = made
    graph = RunGraph(workspace.runs())
    measure_gates(experiments.find_table(graph, experiments.list_experiments(folder)[-1]), graph, workspace)
    (workspace.root / runs.STATE).write_text(json.dumps({"toy": {"commits": ["abc1234"], "machine": "2 cores"}}))
    page = experiments.make_page(experiments.list_experiments(folder), workspace.root)
    [table] = [run for run in workspace.runs() if run.record["verb"] == "table"]
    section = page[page.index("## Toys") :]
    assert "Which toy moves?" in section
    for row in table.results["rows"]:
        assert f"{100 * row['accuracy']:.1f}" in section
    assert "| a\\|b |" in section and "- commit: abc1234" in section and "- machine: 2 cores" in section
    compared = [row for row in table.results["rows"] if row.get("comparison")]
    assert compared and all(f"`{row['name']}`" in section for row in compared)
    assert "Not clearly different from `motion` (p ≥ 0.05)" in section
    assert "- protocol: 25 chunks" in section
    assert "| gates of the first seed | pick the target at |" in section and section.count("| a\\|b | ") == 2
    assert page.index("## real clips: weizmann\n\nNot run. Recipe: `clips.toml`.") < page.index("## Toys")


@pytest.mark.parametrize("readme", experiments.READMES, ids=lambda path: path.parent.name)
def test_readme_has_the_pages_table_of_real_clips(readme):
    page = (ROOT / "docs" / "experiments.md").read_text()
    assert experiments.read_block(readme.read_text()) == experiments.read_block(page)


def test_readme_block_is_rewritten_alone(made):
    workspace, folder = made
    [recipe] = [e for e in experiments.list_experiments(folder) if e.name == "toy"]
    as_clips = experiments.Experiment(recipe.path, recipe.recipe, "Toys", "", "synthetic")
    page = experiments.make_page([as_clips], workspace.root)
    assert "|  | synthetic, 12 videos, 1 seed |" in page
    text = experiments.replace_block(f"before\n{experiments.BEGIN}\nold\n{experiments.END}\nafter\n", page)
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert experiments.read_block(text) == experiments.read_block(page)


def test_results_stay_where_a_workspace_has_none(made, tmp_path):
    """As after `--only`: the other sections keep their numbers, until their recipe changes."""
    workspace, folder = made
    [toy] = [e for e in experiments.list_experiments(folder) if e.name == "toy"]
    as_clips = experiments.Experiment(toy.path, toy.recipe, "Toys", "Which toy moves?", "synthetic")
    (workspace.root / runs.STATE).write_text(json.dumps({as_clips.key: {"commits": ["abc1234"]}}))
    page = experiments.make_page([as_clips], workspace.root)
    assert experiments.make_page([as_clips], tmp_path, earlier=page) == page

    commit = commit_all(folder)
    page = page.replace("abc1234", commit)
    assert experiments.make_page([as_clips], tmp_path, earlier=page) == page
    toy.path.write_text(RECIPE.replace("300", "200"))
    without = experiments.make_page([as_clips], tmp_path, earlier=page)
    toy.path.write_text(RECIPE)
    assert "Not run. Recipe: `toy.toml`." in without and "Not run yet." in without


def test_results_of_renamed_stages_stay_under_their_new_names(made, tmp_path):
    """Comments, names, and options of speed or place are no part of what was measured; other options are."""
    workspace, folder = made
    [toy] = [e for e in experiments.list_experiments(folder) if e.name == "toy"]
    commit = commit_all(folder)
    as_clips = experiments.Experiment(toy.path, toy.recipe, "Toys", "Which toy moves?", "synthetic")
    (workspace.root / runs.STATE).write_text(json.dumps({as_clips.key: {"commits": [commit]}}))
    page = experiments.make_page([as_clips], workspace.root)

    renamed = RECIPE.replace('"motion"', '"flow-stream"').replace('"three streams"', '"streams"')
    try:
        faster = renamed.replace('"prepare"', '"prepare"\nallow_failures = 2\nworkers = 1')
        toy.path.write_text(f"# another comment\n{faster}")
        kept = experiments.make_page([as_clips], tmp_path, earlier=page)
        assert kept == page.replace("| motion |", "| flow stream |", 1).replace("motion", "flow-stream")
        toy.path.write_text(renamed.replace("300", "200"))
        assert "Not run. Recipe: `toy.toml`." in experiments.make_page([as_clips], tmp_path, earlier=page)
    finally:
        toy.path.write_text(RECIPE)


def test_quick_run_has_one_seed_two_folds_fewer_steps_videos_and_chunks(made):
    [toy] = [e for e in experiments.list_experiments(made[1]) if e.name == "toy"]
    content = tomllib.loads(RECIPE)
    assert change_recipe(content, runs.list_changes(toy, quick=True)) == []
    assert content["sweep"] == {"seed": [3], "split": ["1", "2"]}
    videos, motion, test = content["stage"]
    assert (videos["dataset_options"], motion["steps"]) == ({"train": 40}, 15)
    assert (test["chunks"], test["flips"]) == (4, False)
    assert runs.list_changes(toy, quick=False) == []


def test_small_is_also_run_from_the_weights_of_the_package():
    """Both streams start from its files, and nothing else differs."""
    listed = {one.name: one for one in experiments.list_experiments(clips=["mine"])}
    plain, started = (tomllib.loads(listed[name].path.read_text()) for name in ("small", "small_formula"))
    assert runs.list_changes(listed["small"], quick=False) == []
    assert change_recipe(started, runs.list_changes(listed["small_formula"], quick=False)) == []
    for stage in started["stage"]:
        if "modality" in stage:
            assert (
                Path(stage["weights"]).name == f"{stage['modality']}.safetensors" and Path(stage["weights"]).is_file()
            )
            stage["weights"] = "none"
    assert started["recipe"].pop("name") == "small_formula"
    del plain["recipe"]["name"]
    assert started == plain


def test_an_experiment_is_run_from_the_weights_that_it_has_words_for(tmp_path):
    for words in ("NAME.md", "NAME_formula.md"):
        (tmp_path / "toy.toml").write_text(RECIPE)
        (tmp_path / words.replace("NAME", "toy")).write_text("# A title\n\nProse.")
        [*found] = experiments.list_experiments(tmp_path, clips=["mine"])
        assert [one.weights for one in found] == ["", "formula"][: len(found)]
    (tmp_path / "toy.md").unlink()
    assert [one.weights for one in experiments.list_experiments(tmp_path, clips=["mine"])] == ["formula"]


@pytest.mark.parametrize("name", ["small_connections", "small_filters", "small_gates"])
def test_ablations_on_real_clips_start_from_the_streams_of_small(name):
    """So these are trained once for all three recipes."""
    small, ablation = (
        tomllib.loads((ROOT / "recipes" / path).read_text()) for path in ("small.toml", f"experiments/{name}.toml")
    )
    for stage in ("videos", "appearance", "motion"):
        [there], [here] = ([one for one in recipe["stage"] if one["id"] == stage] for recipe in (small, ablation))
        assert here == there
    assert ablation["sweep"]["seed"] == small["sweep"]["seed"]


def test_missing_clips_are_one_line_and_no_failure(made, tmp_path):
    folder = made[1]
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_experiments.py", "--quick", "--recipes", folder, "--only", "clips",
         "--data", tmp_path, "--workspace", tmp_path / "work"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"clips on weizmann: not run: no folder of clips {tmp_path / 'weizmann'}" in done.stdout
    assert "Not run." in (tmp_path / "work" / "experiments.md").read_text()


RENDERS = """\
[recipe]
name = "{name}"
about = "a few rendered videos"
data = "{data}"

[[stage]]
id = "videos"
uses = "prepare"
dataset = "synthetic"
dataset_options = {{ train = {train}, test = 4, size = 32 }}
short_side = 32
"""


@pytest.mark.slow
def test_several_experiments_run_at_once(tmp_path):
    """Each has a log; those on one set of videos wait for each other; a failure is named and stops no other."""
    for name, data, train in (("first", "a", 4), ("again", "a", 4), ("broken", "b", -1), ("other", "c", 4)):
        (tmp_path / f"{name}.toml").write_text(RENDERS.format(name=name, data=data, train=train))
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_experiments.py", "--quick", "--recipes", tmp_path, "--jobs", "2",
         "--workspace", tmp_path / "work"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    for name in ("first", "again", "other"):
        assert f"{name}: done in " in done.stdout
    assert "broken: failed" in done.stdout
    logs = tmp_path / "work" / "logs"
    assert "train" in (logs / "broken.log").read_text()
    assert sorted(log.stem for log in logs.iterdir()) == ["again", "broken", "first", "other"]
    assert sorted(path.name for path in (tmp_path / "work" / "data").iterdir()) == ["a", "c"]


def row(name: str, here: float, there: float, half: float = 0.01) -> ranking.Row:
    paper = {data: PaperAccuracy(name, there, "Table 2, ResNet-50", "split 1") for data in ranking.DATA}
    return ranking.Row(name, here, (here - half, here + half), paper, "Table 2", {})


@pytest.mark.parametrize(("here", "words"), [
    ((0.5, 0.6, 0.7, 0.8, 0.9), "10 of 10 pairs of rows are in the paper's order, 10 of them clearly"),
    ((0.5, 0.6, 0.7, 0.8, 0.9), "10 of them clearly; Kendall's tau is 1.00 (p = 0.017): the order agrees with the paper's. No pair"),
    ((0.9, 0.8, 0.7, 0.6, 0.5), "Kendall's tau is −1.00 (p = 0.017): the order contradicts the paper's"),
    ((0.5, 0.6, 0.7), "3 of 3 pairs of rows are in the paper's order, 3 of them clearly. No pair"),  # no order of 3 is sure
    ((0.7, 0.705, 0.702, 0.701, 0.703), "so few rows don't show whether the orders are related. No pair is clearly against"),
    ((0.5, 0.6, 0.9, 0.7, 0.8), "Clearly against the paper's order: `c` above `d`; `c` above `e`."),
    ((0.5, 0.5, 0.5, 0.5, 0.5), "all rows have the same accuracy here"),
])  # fmt: skip
def test_order_of_the_rows_is_compared_with_the_papers(here, words):
    rows = [
        row(name, accuracy, 0.8 + number / 100)
        for number, (name, accuracy) in enumerate(zip("abcde"[: len(here)], here, strict=True))
    ]
    assert words in ranking.compare_orders(rows, "ucf101")


@pytest.mark.parametrize(
    ("p_value", "words"), [(0.01, "Clearly against the paper's order: `b` above `a`."), (0.2, "No pair is")]
)
def test_rows_that_were_compared_differ_by_their_p_not_by_their_intervals(p_value, words):
    a, b, c = row("a", 0.5, 0.9, half=0.2), row("b", 0.6, 0.8, half=0.2), row("c", 0.55, 0.7, half=0.2)
    assert words in ranking.compare_orders([a, b._replace(p_values={"a": p_value}), c], "ucf101")


BASELINE = {
    "fusion": "multiply", "site": "residual", "direction": "motion_to_appearance", "gated_units": "second_unit",
    "injector": "none", "temporal_pool": "average",
}  # fmt: skip


@pytest.mark.parametrize(("others", "table"), [
    (("Table 3",), "Table 3"), (("Table 2", "Table 3"), "Table 2"), (("Table 2",), "Table 2"),
])  # fmt: skip
def test_network_without_filters_is_a_row_of_the_table_of_filters(others, table):
    """The paper has the same errors in Table 2 and in the first row of Table 3."""
    baseline = find_nearest("ucf101", "fused", NetworkSummary("resnet50", "resnet50", BASELINE), "1")
    assert baseline.source == "Table 2, ResNet-50"
    first = row("none", 0.5, 0)._replace(paper={"ucf101": baseline})
    rows = [first, *(row(name, 0.5, 0.9)._replace(table=name) for name in others)]
    assert [one.table for one in ranking.move_baseline(rows)] == [table, *others]
