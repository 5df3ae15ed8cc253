"""`[sweep]` in a recipe: lists of options, seeds and splits become a grid of stages and one table."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from helpers.commands import call, errors_of, write_recipe

from stmn.errors import UsageError
from stmn.evaluation.scores import load_scores
from stmn.recipe.expand import expand
from stmn.recipe.load import load_recipe
from stmn.store.format.header import Folds, read_header
from stmn.workspace import Workspace

TINY = 'arch = "resnet18"\nwidth = 0.125\nsize = 32\nweights = "none"\nbatch = 4\nsteps = 1\nschedule = "cosine"\nvalidation = 0.0'
STREAMS = tuple(
    f'id = "{name}"\nuses = "train-stream"\nmodality = "{modality}"\n{TINY}'
    for name, modality in (("appearance", "rgb"), ("motion", "flow"))
)
FUSED = 'id = "fused"\nuses = "fuse"\nappearance = "appearance"\nmotion = "motion"\nchunks = 2\nbatch = 4\nsteps = 1\nvalidation = 0.0'
TESTS = tuple(f'id = "test-{name}"\nuses = "evaluate"\nmodel = "{name}"\nchunks = 2' for name in ("motion", "fused"))
ALL = (*STREAMS, FUSED, *TESTS)


def swept(path: Path, sweep: str, *stages: str, head: str = 'name = "toy"\ndata = "synthetic"') -> Path:
    """A recipe with a sweep."""
    recipe = write_recipe(path / "toy.toml", head, *(stages or ALL))
    recipe.write_text(f"{recipe.read_text()}\n{sweep}\n")
    return recipe


def instances(recipe: Path, *splits: str, folds: bool = True) -> dict[str, dict]:
    """Id -> options of all instances."""
    return {stage.id: stage.given for stage in expand(load_recipe(str(recipe)), splits, folds).stages}


def test_a_calibration_names_its_model(tmp_path):
    """It takes the first instance, and the scores of that one's test: not whichever model is the newest."""
    last = 'id = "calibrated"\nuses = "calibrate"\nscores = ["test-fused"]'
    with pytest.raises(UsageError, match="stage 'calibrated': in a sweep it must name its model"):
        load_recipe(str(swept(tmp_path, "[sweep]\nseed = [0, 1]", *ALL, last)))
    found = instances(swept(tmp_path, "[sweep]\nseed = [0, 1]", *ALL, f'{last}\nmodel = "fused"'))
    assert found["calibrated"] == {"model": "fused[seed=0]", "scores": ["test-fused[seed=0]"]}


def test_a_stage_depends_on_its_own_axes_and_on_those_of_its_inputs(tmp_path):
    found = instances(swept(tmp_path, '[sweep]\nseed = [0, 1]\n[sweep.fused]\nfusion = ["multiply", "add"]'))
    assert list(found) == [
        "appearance[seed=0]", "appearance[seed=1]", "motion[seed=0]", "motion[seed=1]",
        "fused[fusion=multiply, seed=0]", "fused[fusion=multiply, seed=1]", "fused[fusion=add, seed=0]", "fused[fusion=add, seed=1]",
        "test-motion[seed=0]", "test-motion[seed=1]",
        "test-fused[fusion=multiply, seed=0]", "test-fused[fusion=multiply, seed=1]", "test-fused[fusion=add, seed=0]",
        "test-fused[fusion=add, seed=1]", "table",
    ]  # fmt: skip
    one = found["fused[fusion=add, seed=1]"]
    assert (one["fusion"], one["seed"], one["appearance"], one["motion"]) == (
        "add",
        1,
        "appearance[seed=1]",
        "motion[seed=1]",
    )
    assert found["test-fused[fusion=add, seed=1]"]["model"] == "fused[fusion=add, seed=1]"
    rows = ["test-motion"] * 2 + ["test-fused[fusion=multiply]"] * 2 + ["test-fused[fusion=add]"] * 2
    assert (found["table"]["rows"], found["table"]["seeds"]) == (rows, [0, 1] * 3)


def test_rows_are_of_test_videos_or_of_held_out_ones_if_nothing_else_is_tested(tmp_path):
    """So a recipe can compare options without test videos; scores that choose weights are no row beside tests."""
    held_out = [f'{test}\npart = "validation"' for test in TESTS]
    late = 'id = "late"\nuses = "evaluate"\nlate_fusion = ["test-motion", "test-fused"]'
    streams = (*STREAMS, FUSED)
    rows = instances(swept(tmp_path, "[sweep]\nseed = [3]", *streams, *held_out, late))["table"]["rows"]
    assert rows == ["test-motion", "test-fused", "late"]
    rows = instances(swept(tmp_path, "[sweep]\nseed = [3]", *streams, held_out[0], TESTS[1]))["table"]["rows"]
    assert rows == ["test-fused"]
    folds = instances(swept(tmp_path, '[sweep]\nsplit = "all"', *streams, *held_out), "1", "2")
    assert not any("join" in given for given in folds.values()), "held-out videos of folds overlap"


def test_rows_of_scores_that_a_stage_reads_are_of_the_videos_of_those(tmp_path):
    held_out = 'id = "held-out"\nuses = "evaluate"\nmodel = "motion"\npart = "validation"'
    late = 'id = "late"\nuses = "evaluate"\nlate_fusion = ["held-out", "held-out"]'
    idt = 'id = "idt"\nuses = "fuse-idt"\nscores = "held-out"'
    sweep = "[sweep]\nseed = [3]"
    assert instances(swept(tmp_path, sweep, *STREAMS, held_out, late, idt))["table"]["rows"] == [
        "held-out",
        "late",
        "idt",
    ]
    assert instances(swept(tmp_path, sweep, *ALL, held_out, late))["table"]["rows"] == ["test-motion", "test-fused"]


def test_what_held_out_videos_have_no_row_for_is_refused_before_anything_runs(tmp_path):
    held_out = [f'{test}\npart = "validation"' for test in TESTS]
    streams = (*STREAMS, FUSED)
    for words, sweep, tests in (
        ("against = 'box shapes alone': it guesses test videos", 'seed = [3]\nagainst = "box shapes alone"', held_out),
        (
            "stage 'test-motion': stream_weights = folds needs scores of all folds",
            'split = "all"',
            [f'{held_out[0]}\nstream_weights = "folds"', held_out[1]],
        ),
        ("[sweep.test-motion] part: can't be swept", '[sweep.test-motion]\npart = ["test", "validation"]', TESTS),
    ):
        with pytest.raises(UsageError, match=re.escape(words)):
            instances(swept(tmp_path, f"[sweep]\n{sweep}", *streams, *tests), "1", "2")


def test_a_stage_with_a_seed_of_its_own_is_trained_once(tmp_path):
    found = instances(swept(tmp_path, "[sweep]\nseed = [5, 6]", STREAMS[0] + "\nseed = 9", *ALL[1:]))
    assert "appearance" in found and found["appearance"]["seed"] == 9
    assert found["fused[seed=6]"]["appearance"] == "appearance"


def test_folds_are_joined_and_other_splits_are_not(tmp_path):
    recipe = swept(tmp_path, '[sweep]\nsplit = "all"\nagainst = "motion"', *ALL, 'id = "page"\nuses = "report"')
    found = instances(recipe, "1", "2")
    assert found["test-motion[split=all]"] == {"join": ["test-motion[split=1]", "test-motion[split=2]"], "split": "all"}
    assert found["table"]["evaluations"] == ["test-motion[split=all]", "test-fused[split=all]"]
    assert found["table"]["against"] == "test-motion", "the row of that model"
    assert found["page"] == {"evaluations": found["table"]["evaluations"], "table": "table"}
    apart = instances(recipe, "1", "2", folds=False)
    assert apart["table"]["evaluations"] == [
        f"test-{name}[split={split}]" for name in ("motion", "fused") for split in (1, 2)
    ]
    assert apart["page"]["evaluations"] == ["test-motion[split=1]", "test-fused[split=1]"]


def test_weights_by_folds_are_those_of_the_join(tmp_path):
    weighted = f'{TESTS[1].replace("test-fused", "weighted")}\nstream_weights = "folds"'
    recipe = swept(tmp_path, '[sweep]\nsplit = "all"', *ALL, weighted)
    found = instances(recipe, "1", "2")
    assert found["weighted[split=2]"] == found["test-fused[split=2]"], "one run for both"
    assert found["weighted[split=all]"] == {
        "join": ["weighted[split=1]", "weighted[split=2]"], "split": "all", "stream_weights": "folds",
    }  # fmt: skip
    assert not [line for line in errors_of(call("run", recipe, "--dry-run", "-w", tmp_path)) if "other folds" in line]
    alone = swept(tmp_path, "[sweep]\nseed = [1, 2]", *ALL, weighted)
    result = call("run", alone, "--dry-run", "-w", tmp_path)
    assert any("stream_weights = folds chooses on other folds" in line for line in errors_of(result))


def test_variants_are_named_combinations_of_options(tmp_path):
    variants = '[[sweep.fused]]\nlabel = "direct +"\nfusion = "add"\nsite = "direct"\n[[sweep.fused]]\nlabel = "paper"'
    found = instances(swept(tmp_path, f"[sweep]\nseed = [0]\n{variants}"))
    assert (found["fused[direct +, seed=0]"]["fusion"], found["fused[direct +, seed=0]"]["site"]) == ("add", "direct")
    assert "fusion" not in found["fused[paper, seed=0]"]
    assert found["table"]["rows"] == ["test-motion", "test-fused[direct +]", "test-fused[paper]"]


def test_one_option_of_two_stages_is_told_apart(tmp_path):
    found = instances(swept(tmp_path, "[sweep.appearance]\nlr = [0.1, 0.2]\n[sweep.motion]\nlr = [0.1]"))
    assert "fused[appearance.lr=0.2, motion.lr=0.1]" in found and "appearance[appearance.lr=0.1]" in found


def test_trajectories_join_the_grid(tmp_path):
    """Tracks depend on no split; SVMs and what is averaged with them are joined over folds like any test."""
    tracks = 'id = "tracks"\nuses = "idt-extract"\nfrom = "store"'
    svm = 'id = "svm"\nuses = "idt-score"\nfrom = "store"\nseed = 0'
    both = 'id = "both"\nuses = "fuse-idt"\nscores = "test-motion"\nidt_scores = "svm"'
    found = instances(swept(tmp_path, '[sweep]\nseed = [1, 2]\nsplit = "all"', *ALL, tracks, svm, both), "1", "2")
    assert [name for name in found if name.startswith(("tracks", "svm"))] == [
        "tracks", "svm[split=1]", "svm[split=2]", "svm[split=all]",
    ]  # fmt: skip
    assert found["both[seed=2, split=1]"]["idt_scores"] == "svm[split=1]"
    assert found["both[seed=2, split=all]"]["join"] == ["both[seed=2, split=1]", "both[seed=2, split=2]"]
    assert {"svm", "both", "test-motion", "test-fused"} == set(found["table"]["rows"])


def test_an_input_may_be_swept(tmp_path):
    found = instances(
        swept(tmp_path, '[sweep.test-fused]\nmodel = ["fused", "motion"]\n[sweep.fused]\nfusion = ["add", "multiply"]')
    )
    tested = {name: one["model"] for name, one in found.items() if name.startswith("test-fused")}
    assert tested == {
        "test-fused[model=fused, fusion=add]": "fused[fusion=add]",
        "test-fused[model=fused, fusion=multiply]": "fused[fusion=multiply]",
        "test-fused[model=motion]": "motion",
    }


@pytest.mark.parametrize(("sweep", "mistake"), [
    ("sweep = 3", "[sweep] is not a table"),
    ("[sweep]\nsed = [1]", "[sweep] unknown key 'sed' (did you mean 'seed'?)"),
    ("[sweep]\nfused = [1]", "[sweep] unknown key 'fused' (did you mean 'fused'?); options of a stage go into [sweep.fused]"),
    ("[sweep]\nseed = 3", "[sweep] seed = 3: must be a list of values"),
    ("[sweep]\nsplit = 3", '[sweep] split = 3: must be a list of values, or "all"'),
    ("[sweep]\nseed = []", "[sweep] seed = []: is an empty list"),
    ("[sweep]\nseed = [-1]", "[sweep] seed = -1: "),
    ("[sweep]\nsplit = [1]", "[sweep] split = 1: "),
    ("[sweep]\nseed = [1, 2, 1]", "[sweep] seed: has 1 twice"),
    ("[sweep]\nagainst = 3", "[sweep] against: must be the name of a row"),
    ("[sweep]\nagainst = 'test-moton'", "[sweep] against = 'test-moton': no such row (did you mean 'test-motion'?)"),
    ("[sweep]\nagainst = 'fused'\n[sweep.fused]\nfusion = ['add', 'multiply']", "[sweep] against = 'fused': several rows are of it; name one: test-fused[fusion=add], "),
    ("[sweep.fusd]\nfusion = ['add']", "[sweep.fusd] no stage has this id (did you mean 'fused'?)"),
    ("[sweep.fused]\nfusio = ['add']", "[sweep.fused] unknown option 'fusio' (did you mean 'fusion'?)"),
    ("[sweep.fused]\nfusion = 'add'", "[sweep.fused] fusion = 'add': must be a list of values"),
    ("[sweep.fused]\nfusion = ['add', 'multipy']", "[sweep.fused] fusion: unknown fusion 'multipy' (did you mean 'multiply'?)"),
    ("[sweep.fused]\nlr = [0.1, 'much']", "[sweep.fused] lr = 'much': "),
    ("[sweep.test-motion]\nframes = [5]", "[sweep.test-motion] option 'frames' is called 'chunks' now"),
    ("[sweep.test-motion]\ntemporal_window = [2]", "stage 'test-motion[temporal_window=2]': temporal_window needs temporal_pool"),
    ("[[sweep.fused]]\nfusion = 'add'", '[[sweep.fused]] 1: needs a name of its own: label = "..."'),
    ("[[sweep.fused]]\nlabel = 'a'\nfusion = 'ad'", "[[sweep.fused]] 1 ('a'): fusion: unknown fusion 'ad' (did you mean 'add'?)"),
    ("[[sweep.fused]]\nlabel = 'a'\n[[sweep.fused]]\nlabel = 'a'\nlr = 0.1", "[[sweep.fused]] 2 ('a'): another variant has this label"),
    ("[[sweep.fused]]\nlabel = 'a'\n[[sweep.fused]]\nlabel = 'b'", "[[sweep.fused]] 2 ('b'): has the same options as 'a'"),
    (f"[sweep]\nseed = {list(range(1001))}", "[sweep] seed: has 1,001 values; a sweep makes 1,000 stages at most"),
    ("[sweep.fused]\n" + "\n".join(f"{key} = {[n / 50 for n in range(1, 50)]}" for key in ("lr", "momentum", "dropout")), "[sweep] makes more than 1,000 stages"),
    (f"[sweep]\nseed = {list(range(400))}", "[sweep] makes more than 1,000 stages"),
])  # fmt: skip
def test_mistakes_of_a_sweep_are_one_line_each(sweep, mistake, tmp_path):
    recipe = swept(tmp_path, "" if sweep == "sweep = 3" else sweep)
    if sweep == "sweep = 3":
        recipe.write_text(f"{sweep}\n{recipe.read_text()}")
    result = call("recipes", "validate", recipe)
    assert result.exit_code == 2 and [line for line in errors_of(result) if line.startswith(f"{recipe}: {mistake}")], (
        result.stderr
    )


def test_all_mistakes_of_a_recipe_and_its_sweep_are_listed(tmp_path):
    recipe = swept(tmp_path, "[sweep]\nsed = [1]\n[sweep.fused]\nlr = ['a', 'b']", *ALL, 'id = "x"\nuses = "reprt"')
    assert len(errors_of(call("recipes", "validate", recipe))) == 4


def test_in_a_sweep_inputs_are_named(tmp_path):
    recipe = swept(tmp_path, "[sweep]\nseed = [0, 1]", *STREAMS, 'id = "test"\nuses = "evaluate"')
    with pytest.raises(UsageError, match="stage 'test': in a sweep it must name its model or late_fusion or join"):
        load_recipe(str(recipe))


# What it runs


@pytest.fixture(scope="module")
def ran(prepared: Workspace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Path, str]:
    """A workspace where a sweep over two seeds, two folds and two learning rates has run; its recipe and its output."""
    root = tmp_path_factory.mktemp("swept")
    workspace = Workspace(root / "work")
    shutil.copytree(prepared.root / "data", workspace.root / "data")
    header = read_header(workspace.data_dir("synthetic"))
    videos = sorted(header.listed("1", "train") + header.listed("1", "test"))
    splits = {"1": {"train": videos[1::2], "test": videos[::2]}, "2": {"train": videos[::2], "test": videos[1::2]}}
    made = header.model_copy(update={"splits": splits, "folds": Folds(by="video", count=2)})
    made.write(workspace.data_dir("synthetic"))
    sweep = '[sweep]\nseed = [3, 4]\nsplit = "all"\nagainst = "test-motion[lr=0.1]"\n[sweep.motion]\nlr = [0.1, 0.001]'
    recipe = swept(root, sweep, STREAMS[1], TESTS[0], 'id = "page"\nuses = "report"\nsamples = 1')
    result = call("run", recipe, "-w", workspace.root)
    assert result.exit_code == 0, result.stderr
    return workspace, recipe, result.stdout


def test_a_sweep_ends_with_one_table(ran):
    workspace, _, stdout = ran
    [run] = [run for run in workspace.runs() if run.record["verb"] == "table"]
    table = json.loads(run.output("table").read_text())
    assert [row["name"] for row in table["rows"]] == ["chance", "test-motion[lr=0.1]", "test-motion[lr=0.001]"]
    joined = {run.record["stage"]: run for run in workspace.runs() if "split=all" in run.record.get("stage", "")}
    assert len(joined) == 4 and all(run.results["videos"] == 36 for run in joined.values())
    for row in table["rows"][1:]:
        of = [one.results["accuracy"] for stage, one in joined.items() if row["name"][:-1] + "," in stage]
        assert row["seeds"] == 2 and row["videos"] == 36 and row["accuracy"] == pytest.approx(sum(of) / 2)
        assert row["interval"][0] <= row["accuracy"] < row["interval"][1]
        assert set(row["accuracies"]) == {"3", "4"}
    found = table["rows"][2]["comparison"]
    gain = table["rows"][2]["accuracy"] - table["rows"][1]["accuracy"]
    assert found["difference"] == pytest.approx(gain) and found["paired_seeds"] == 2
    assert (found["alone"] - found["other_alone"]) / 72 == pytest.approx(gain)
    assert "test-motion[lr=0.001]" in stdout and str(run.output("markdown")) in stdout
    rows = list(csv.DictReader(run.output("csv").read_text().splitlines()))
    assert [float(row["accuracy"]) for row in rows] == [row["accuracy"] for row in table["rows"]]
    assert "test-motion\\[lr=0.001\\]" in run.output("markdown").read_text()


def test_the_report_shows_the_table_and_the_first_seed(ran):
    workspace, _, _ = ran
    [run] = [run for run in workspace.runs() if run.record["verb"] == "report"]
    page = run.output("report").read_text()
    assert 'id="methods"' in page and "test-motion[lr=0.001]" in page
    assert {row["name"] for row in run.results["table"]} == {
        f"test-motion[lr={lr}, seed=3, split=all]" for lr in (0.1, 0.001)
    }


def test_report_after_a_sweep_shows_what_the_sweeps_report_shows(ran):
    workspace, _, _ = ran
    result = call("report", "-w", workspace.root, "--samples", 1)
    assert result.exit_code == 0 and "up to date" in result.stderr, result.stderr


def test_only_what_is_missing_runs_again(ran):
    workspace, recipe, _ = ran
    again = call("run", recipe, "-w", workspace.root)
    assert again.exit_code == 0 and again.stderr.count("up to date") == 8 + 8 + 4 + 2, again.stderr
    lost = next(run for run in workspace.runs() if run.record["stage"] == "test-motion[lr=0.1, seed=3, split=2]")
    before = load_scores(lost.output("scores"))
    shutil.rmtree(lost.path)
    dry = call("run", recipe, "-w", workspace.root, "--dry-run")
    assert "10 done" in dry.stdout, "one test is to do, and what joins it"
    repaired = call("run", recipe, "-w", workspace.root)
    assert repaired.exit_code == 0, repaired.stderr
    assert repaired.stderr.count("up to date") == 8 + 7 + 4 + 2, "the same scores give the same joins and table"
    assert load_scores(lost.output("scores")).ids == before.ids
    until = call("run", recipe, "-w", workspace.root, "--until", "motion")
    assert until.exit_code == 0 and until.stderr.count("up to date") == 8
    flags = ["--recipe", recipe, "--stage", "motion[lr=0.001, seed=4, split=2]", "-w", workspace.root]
    assert "up to date" in call("train-stream", *flags).stderr


def test_a_table_of_named_evaluations_is_a_command(ran, tmp_path):
    workspace, _, _ = ran
    joined = {run.record["stage"]: run.name for run in workspace.runs() if "split=all" in run.record.get("stage", "")}
    result = call("table", *joined.values(), "--against", "test-motion[lr=0.1]", "-w", workspace.root)
    assert result.exit_code == 0, result.stderr
    assert "test-motion[lr=0.001]: " in result.stderr and "2 seeds" not in errors_of(result)
    for arguments, message in (
        ([], "name the evaluations"),
        ([*joined.values(), "--rows", "a,b"], "rows has 2 for 4 evaluations"),
        (
            [*joined.values(), "--against", "test-moton[lr=0.1]"],
            "no such row (did you mean 'test-motion[lr=0.1]'?)",
        ),
        ([*joined.values(), "--rows", "a,a,a,a", "--seeds", "1,1,2,3"], "are both of seed 1 and split all"),
    ):
        wrong = call("table", *arguments, "-w", workspace.root)
        assert wrong.exit_code in (1, 2) and len(errors_of(wrong)) == 1 and message in wrong.stderr, wrong.stderr


def test_before_prepare_a_dry_run_says_that_splits_are_unknown(tmp_path):
    videos = 'id = "videos"\nuses = "prepare"\ndataset = "synthetic"\nsplit_by = "video"\nfolds = 2'
    recipe = swept(tmp_path, '[sweep]\nsplit = "all"', videos, *ALL, head='name = "toy"\ndata = "new"')
    result = call("run", recipe, "-w", tmp_path / "work", "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "the number of splits is not known yet: stage 'videos' makes them; one is shown here" in result.stdout
    assert not (tmp_path / "work").exists()
    asked = swept(tmp_path, '[sweep]\nsplit = ["7"]', head='name = "toy"\ndata = "new"')
    assert "no prepared data set" in call("run", asked, "-w", tmp_path / "work").stderr


def test_a_training_that_diverges_does_not_stop_the_others(scratch, tmp_path):
    motion = STREAMS[1].replace("steps = 1", "steps = 3")
    recipe = swept(tmp_path, "[sweep.motion]\nlr = [1e30, 0.01]", motion, TESTS[0])
    result = call("run", recipe, "-w", scratch.root)
    assert result.exit_code == 1
    *causes, last = errors_of(result)
    assert len(causes) == 1 and causes[0].startswith("motion[lr=1e+30]: ") and "loss" in causes[0]
    assert last == "1 stage of the sweep failed; 2 stages left out: fix the cause and run again"
    assert "table: left out, because motion[lr=1e+30] failed" in result.stderr
    assert {run.record["stage"] for run in scratch.runs() if run.done} == {"motion[lr=0.01]", "test-motion[lr=0.01]"}
    always = swept(tmp_path, "[sweep.motion]\nlr = [1e30, 2e30, 3e30, 4e30]", motion, TESTS[0])
    ended = call("run", always, "-w", scratch.root)
    assert ended.exit_code == 1 and len(errors_of(ended)) == 1 and "4e+30" not in ended.stderr


def test_a_table_has_the_guess_of_the_largest_class_where_it_beats_chance(own, tmp_path):
    scores = load_scores(own.newest("scores").output("scores"))
    of_first, others = (
        [row for row, label in enumerate(scores.labels) if (label == 0) is first] for first in (True, False)
    )
    scores.take([*of_first, others[0]]).save(tmp_path / "few.safetensors")
    result = call("table", tmp_path / "few.safetensors", "-w", own.root)
    assert result.exit_code == 0, result.stderr
    [table] = own.runs_dir.glob("table-*/table.json")
    chance, largest, *_ = json.loads(table.read_text())["rows"]
    assert chance == {"name": "chance", "accuracy": 1 / len(scores.classes)}
    share = len(of_first) / (len(of_first) + 1)
    assert largest == {"name": f"always {scores.classes[0]}", "accuracy": pytest.approx(share)}
