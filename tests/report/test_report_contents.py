"""What a report says besides the numbers: the paper's results, gains of gates, all splits, and what made it."""

import json
import re

import pytest
from conftest import run_stage, train_tiny
from helpers.commands import call, errors_of
from helpers.paper_sized import CLASSES, drawn_scores, paper_sized

from stmn.evaluation.scores import load_scores
from stmn.report.paper import NetworkSummary, find_nearest
from stmn.report.samples import choose_samples
from stmn.store.format.header import read_header

GATES = {
    "fusion": "multiply", "site": "residual", "direction": "motion_to_appearance", "gated_units": "second_unit",
    "injector": "none", "temporal_init": "centre", "temporal_pool": "none",
}  # fmt: skip


def text_of(html: str) -> str:
    """The text of a page, without tags and line breaks."""
    return " ".join(re.sub(r"<[^<>]+>", " ", html).split())


def report_of(workspace, *arguments: object) -> str:
    result = call("report", "-w", workspace.root, "--samples", 0, *arguments)
    assert result.exit_code == 0, result.stderr
    return open(result.stdout.splitlines()[-1].removeprefix("report: ")).read()


@pytest.fixture(scope="module")
def ucf101(paper_pages):
    """The text of a report of scores of 101 classes on a set that the plugin ucf101 made."""
    return text_of(paper_pages["report"].read_text())


def test_paper_results_are_shown_for_its_data_sets(ucf101):
    for number, source in (
        ("82.3", "Table 4, ResNet-50"),
        ("87.0", "Table 4, ResNet-50"),
        ("91.7", "Table 4, ResNet-50"),
    ):
        assert f"{number} {source} mean of 3 splits" in ucf101
    assert "94.2 Table 5, ours mean of 3 splits" in ucf101
    assert "multiply, residual, motion to appearance Table 2, ResNet-50 split 1 91.3" in ucf101  # error 8.72


@pytest.mark.parametrize(("dataset", "classes"), [("ucf101", 6), ("folder", 7)])
def test_paper_results_are_hidden_for_other_sets(tmp_path, dataset, classes):
    workspace, scores = (
        paper_sized(tmp_path / "work", dataset, CLASSES[:classes]),
        drawn_scores(tmp_path / "s", classes),
    )
    assert "Table 4" not in report_of(workspace, "--evaluations", scores["motion"])


@pytest.mark.parametrize(
    ("dataset", "role", "networks", "split", "accuracy", "source"),
    [
        ("ucf101", "motion", NetworkSummary(motion="resnet152"), "1", 0.872, "Table 4, ResNet-152"),
        ("hmdb51", "appearance", NetworkSummary(appearance="resnet50"), "2", 0.489, "Table 4, ResNet-50"),
        ("hmdb51", "late_fusion", NetworkSummary("resnet152", "resnet152"), "all", 0.638, "Table 4, ResNet-152"),
        ("hmdb51", "fused", NetworkSummary("resnet50", "resnet152", GATES), "all", 0.689, "Table 5, ours"),
        ("ucf101", "idt", NetworkSummary(), "1", 0.949, "Table 5, ours + IDT"),
        ("hmdb51", "idt", NetworkSummary(), "1", 0.722, "Table 5, ours + IDT"),
        ("ucf101", "fused", NetworkSummary("resnet50", "resnet50", GATES), "1", 0.9128, "Table 2, ResNet-50"),
        ("ucf101", "fused", NetworkSummary("resnet50", "resnet50", GATES), "2", 0.942, "Table 5, ours"),
        ("hmdb51", "fused", NetworkSummary("resnet50", "resnet50", GATES | {"fusion": "add"}), "1", 0.5811, "Table 2, ResNet-50"),
        ("hmdb51", "fused", NetworkSummary("resnet50", "resnet50", GATES | {"injector": "last_unit"}), "1", 0.651,
         "Table 3, ResNet-50"),
    ],
)  # fmt: skip
def test_nearest_paper_result_is_found(dataset, role, networks, split, accuracy, source):
    found = find_nearest(dataset, role, networks, split)
    assert (found.accuracy, found.source) == (pytest.approx(accuracy), source)
    assert found.splits == ("split 1" if source[:7] in ("Table 2", "Table 3") else "mean of 3 splits")


def test_both_rows_of_table_3_are_given_if_both_fit():
    gates = GATES | {"injector": "residual", "temporal_pool": "max"}
    found = find_nearest("ucf101", "fused", NetworkSummary("resnet50", "resnet50", gates), "1")
    assert (found.accuracy, found.also) == (pytest.approx(0.9326), pytest.approx(0.94))
    assert find_nearest("ucf101", "other", NetworkSummary(), "1") is None


def test_gain_of_gates_is_that_of_scores_compare(ucf101, tmp_path):
    """The page and `stmn scores compare` print the same numbers."""
    scores = drawn_scores(tmp_path)
    printed = json.loads(call("scores", "compare", scores["late"], scores["fused"], "--json").stdout)
    found = re.search(
        r"better in (\d+) of 101 classes and worse in (\d+) . Over 303 videos the difference is \+([\d.]+) points",
        ucf101,
    )
    assert float(found[3]) == pytest.approx(100 * printed["difference"], abs=0.05)
    assert f"{printed['second_alone']} videos are correct with gates only" in ucf101
    assert int(found[1]) > int(found[2]) > 0 and "Largest gains" in ucf101 and "Largest losses" in ucf101


def test_most_confident_mistake_comes_first(tmp_path):
    scores = load_scores(drawn_scores(tmp_path)["motion"])
    soft = scores.mean().softmax(dim=1)
    sure, guesses = soft.max(dim=1)
    shown = choose_samples(scores, 20)
    assert all(int(guesses[row]) != scores.labels[row] for row in shown)
    assert sure[shown].tolist() == sorted(sure[shown].tolist(), reverse=True)
    mistakes = [row for row, label in enumerate(scores.labels) if int(guesses[row]) != label]
    assert float(sure[shown[0]]) == pytest.approx(float(sure[mistakes].max()))


def test_training_curves_show_error_and_rate(own):
    train_tiny(own, "rgb", steps=4, validation=0.25, seed=9)
    run_stage(own, "evaluate", model=own.newest("model", modality="rgb").name)
    page = report_of(own)
    [name] = re.findall(r'aria-label="(training [^"]*)"', page)
    assert name == "training loss, accuracy, validation error, rate over steps"
    assert "mathdefault" not in page  # a font's own language, which no browser reads


def test_all_splits_and_their_mean_are_shown(scratch):
    folder = scratch.data_dir("synthetic")
    header = read_header(folder)
    turned = {"train": header.splits["1"]["test"], "test": header.splits["1"]["train"][:8]}  # so these are no folds
    header.model_copy(update={"splits": header.splits | {"2": turned}}).write(folder)
    for split in ("1", "2"):
        train_tiny(scratch, "flow", split=split)
    made = run_stage(scratch, "evaluate", split="all").results
    shown = text_of(report_of(scratch, "--split", "all"))
    assert "all splits" in shown and "split 1 split 2 mean, %" in shown
    printed = [f"{100 * made['splits'][split]['accuracy']:.1f}" for split in ("1", "2")]
    assert re.search(
        rf"{printed[0]} [\d. –]+ 12 videos {printed[1]} [\d. –]+ 8 videos {100 * made['accuracy']:.1f}", shown
    )
    both = text_of(report_of(scratch))  # of split 1, whose evaluation of all splits is shown too
    assert "split 1 split 2 mean, %" in both and "Confusions" in both


def test_an_unfinished_run_is_one_line(own):
    [run] = [run for run in own.runs() if run.results.get("of") == [own.newest("model", modality="flow").name]]
    run.save(status="interrupted")
    for command in (("report", "--evaluations", run.path), ("compare", run.path, run.path)):
        result = call(*command, "-w", own.root)
        assert result.exit_code == 1
        assert errors_of(result) == [f"run {run.name} is not finished (status: interrupted)"]
        assert len(result.stderr.splitlines()) == 1
    for other in own.runs():
        if other.record["verb"] == "evaluate":
            other.save(status="failed")
    [line] = errors_of(call("report", "-w", own.root))
    assert "no finished evaluation" in line and ": failed)" in line


def test_recipe_and_fingerprints_are_shown(own):
    evaluated = own.newest("scores")
    evaluated.save(recipe="small")
    page = text_of(report_of(own, "--evaluations", evaluated.path))
    [run] = [run for run in own.runs() if run.record["verb"] == "report"]
    assert "Recipe small" in page and f"Fingerprint {run.record['fingerprint']}" in page
    assert evaluated.name in page and evaluated.record["fingerprint"] in page
    assert "Calibration" in page and "error" in page


def labels_of(workspace, runs) -> dict[str, str]:
    """Run -> what `stmn compare` calls it."""
    printed = json.loads(call("compare", *(run.name for run in runs), "-w", workspace.root, "--json").stdout)
    return {run["name"]: run["label"] for run in printed["runs"]}


def test_runs_are_called_by_their_stage_id(own):
    """An evaluation by its own stage, or else by the stage that made its model."""
    fused, motion, appearance = [run for run in own.runs() if run.record["verb"] == "evaluate"]
    fused.save(stage="test-fused")
    own.newest("model", modality="flow").save(stage="flow-stream")
    labels = {appearance.name: "appearance-resnet18", motion.name: "flow-stream", fused.name: "test-fused"}
    assert labels_of(own, [appearance, motion, fused]) == labels
    page = text_of(report_of(own))
    assert all(f"{label} {name}" in page for name, label in labels.items())
    assert f"test-fused · evaluate {fused.name}" in page


def test_runs_that_share_a_stage_id_get_their_hash(own):
    fused, motion, appearance = [run for run in own.runs() if run.record["verb"] == "evaluate"]
    for run in (fused, motion):
        run.save(stage="test")
    for modality in ("rgb", "flow"):
        own.newest("model", modality=modality).save(stage="stream")
    labels = labels_of(own, [appearance, motion, fused])
    assert labels[appearance.name] == "stream"
    assert [labels[run.name] for run in (motion, fused)] == [f"test ({run.name[-8:]})" for run in (motion, fused)]
    page = report_of(own)
    curves = page[page.index('aria-label="training loss') :]
    for modality in ("rgb", "flow"):
        assert f"stream ({own.newest('model', modality=modality).name[-8:]})" in curves[: curves.index("</svg>")]
