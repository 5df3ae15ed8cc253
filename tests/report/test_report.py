"""The report of the small trained workspace, and of scores whose classes are named to break a page."""

import base64
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_stage, train_tiny

from stmn.datasets.synthetic import Synthetic
from stmn.errors import DataError, MissingExtra
from stmn.evaluation.inside.estimate import Estimate
from stmn.evaluation.inside.focus import Share, UnitFocus
from stmn.evaluation.inside.probes import GatedUnit
from stmn.evaluation.metrics import measure
from stmn.evaluation.scores import Scores, load_scores
from stmn.options import options_of
from stmn.recipe.execute import execute
from stmn.recipe.plan import plan_stage
from stmn.report.figures.inside import draw_focus
from stmn.report.inside import describe_focus
from stmn.report.words import format_duration, replace_unprintable, strip_fingerprint
from stmn.runtime.files import write_json
from stmn.runtime.progress import Silent
from stmn.store.format.header import read_header
from stmn.workspace import Run, Workspace

HOSTILE = "<img src=x onerror=alert(1)>"
ODD = "a & \"b\" 'c' $\\frac$ #010101"
ABSENT = "without a video"
BASELINE = {"videos": 12, "accuracy": 0.5, "interval": [0.254, 0.746]}


def run(workspace: Workspace, verb: str, **options) -> Run:
    return execute(plan_stage(verb, options_of(verb)(**options), workspace), workspace, Silent())


def evaluations(workspace: Workspace) -> list[Run]:
    return [r for r in workspace.runs() if r.record["verb"] == "evaluate"][::-1]


@pytest.fixture(scope="module")
def workspace(trained, tmp_path_factory) -> Workspace:
    """A copy of the trained workspace; the motion stream was not tested by itself, the fused network by a recipe, and
    a baseline was measured."""
    workspace = Workspace(tmp_path_factory.mktemp("report") / "workspace")
    shutil.copytree(trained.root, workspace.root, ignore=shutil.ignore_patterns("videos", "report-*"))
    appearance, motion, fused = evaluations(workspace)
    shutil.rmtree(motion.path)
    fused.save(recipe="small", stage="both streams")
    for tested in (appearance, fused):
        metrics = json.loads(tested.output("metrics").read_text())
        write_json(tested.output("metrics"), metrics | {"box_shape_baseline": BASELINE})
        tested.save(digests={})
    stream = workspace.newest("model", modality="rgb")
    stream.save(digests={})
    with open(stream.output("metrics"), "a") as log:
        log.write('{"step": 4, "loss": 1.0, "accuracy": 0.5, "validation_error": 0.7}\n{"step": 5, "lo')
    return workspace


@pytest.fixture(scope="module")
def report(workspace) -> Run:
    return run(workspace, "report", samples=4)


@pytest.fixture(scope="module")
def page(report) -> str:
    return report.output("report").read_text(encoding="utf-8")


def with_header(workspace: Workspace, folder: Path, **changes: object) -> Workspace:
    """A workspace in that folder whose set `synthetic` has the videos of another's, and a changed header."""
    data = workspace.data_dir("synthetic")
    shutil.copytree(data, folder / "data" / "synthetic", ignore=shutil.ignore_patterns("videos"))
    read_header(data).model_copy(update=changes).write(folder / "data" / "synthetic")
    return Workspace(folder)


@pytest.fixture(scope="module")
def hostile_page(workspace, tmp_path_factory) -> str:
    """The report of made-up scores of the set's own test videos."""
    ids = read_header(workspace.data_dir("synthetic")).part("1", "test")
    classes = [HOSTILE, ODD, ABSENT]
    path = tmp_path_factory.mktemp("scores") / "<b>bold" / "scores.safetensors"
    workspace = with_header(workspace, path.parents[1] / "work", classes=classes)
    about = {"data": "synthetic", "split": "1", "words": "<i>by hand</i>"}
    labels = [number % 2 for number in range(len(ids))]
    Scores(ids, classes, labels, {"rgb": torch.eye(3).repeat(len(ids), 1)[: len(ids)]}, about).save(path)
    made = run(workspace, "report", evaluations=[str(path)], samples=2, title="<b>Mine</b> \x07")
    return made.output("report").read_text(encoding="utf-8")


class Page(HTMLParser):
    """What a browser would make of the file."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.values: list[float] = []
        self.said = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "data":
            self.values.append(float(dict(attrs)["value"]))

    def handle_data(self, data):
        self.said += data


def test_table_is_what_the_evaluations_measured(workspace, report, page):
    measured = [json.loads(r.output("metrics").read_text()) for r in evaluations(workspace)]
    assert [row["accuracy"] for row in report.results["table"]] == [m["accuracy"] for m in measured]
    assert [row["interval"] for row in report.results["table"]] == [m["interval"] for m in measured]
    assert [row["name"] for row in report.results["table"]] == ["appearance-resnet18", "both streams"]
    expected = []
    for m in measured:
        baseline = m["box_shape_baseline"]
        expected += [m["accuracy"], *m["interval"], m["mean_class_accuracy"], m["chance"]]
        expected += [baseline["accuracy"], *baseline["interval"]]
    assert Page(page).values == pytest.approx(expected)
    assert measured[0]["protocol"]["words"] in page


def test_page_has_figures_pictures_and_curves(page):
    shown = Page(page)
    figures = [attributes["aria-label"] for tag, attributes in shown.tags if tag == "svg"]
    assert len([name for name in figures if name.startswith("confusion matrix")]) == 2
    for start in ("accuracy of each evaluation", "accuracy of each class", "training loss"):
        assert len([name for name in figures if name.startswith(start)]) == 1
    # the motion stream was not tested by itself, but the fused network came from it
    curves = page[page.index('aria-label="training loss') :]
    assert all(
        name in curves[: curves.index("</svg>")]
        for name in ("appearance-resnet18", "motion-resnet18", "fused-multiply")
    )
    assert "held-out training videos" in page
    pictures = [attributes["src"] for tag, attributes in shown.tags if tag == "img"]
    # the wheel; frames and flow of each sample; a frame and the maps of a gate of three videos
    assert len(pictures) == 1 + 4 * 2 * 5 + 3 * 4
    assert all(base64.b64decode(source.split(",")[1]).startswith(b"\x89PNG") for source in pictures)
    ids = [attributes["id"] for _, attributes in shown.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_marks_are_more_than_colour(page):
    marks = {attributes["aria-label"] for _, attributes in Page(page).tags if "mark" in (attributes.get("class") or "")}
    assert marks <= {"correct", "wrong"} and "wrong" in marks
    assert "✗" in page


def test_page_stands_alone(page, workspace, trained):
    assert not re.findall(r"https?://|@import|src=\"(?!data:)|<script|<link", page)
    assert str(workspace.root) not in page and str(trained.root) not in page  # a report is for others too
    targets = {attributes["href"] for tag, attributes in Page(page).tags if tag in ("a", "use", "image")}
    ids = {attributes.get("id") for _, attributes in Page(page).tags}
    assert all(target.startswith("data:") or target[1:] in ids for target in targets)
    assert "prefers-color-scheme: dark" in page
    assert not re.search(r'style="[^"]*#010[12]', page)  # every stand-in colour became a variable


def test_hostile_names_are_only_text(hostile_page):
    shown = Page(hostile_page)
    assert not any(key.startswith("on") for _, attributes in shown.tags for key in attributes)
    for text in (HOSTILE, ODD, "<b>bold", "<i>by hand</i>", "<b>Mine</b> \ufffd"):
        assert text in shown.said and text not in hostile_page


def test_class_without_test_videos(hostile_page):
    classes = hostile_page[hostile_page.index('aria-label="accuracy of each class') :]
    assert ">no test video<" in classes[: classes.index("</svg>")]


def test_baseline_is_shown_if_only_one_evaluation_has_it(own):
    """Scores fused with an SVM's carry no baseline; the page shows the other evaluations' baselines anyway."""
    evaluated = run(own, "evaluate", model="fused")
    fused = run(own, "fuse-idt", scores=str(evaluated.path), features="grid")
    metrics = json.loads((evaluated.path / "metrics.json").read_text())
    baseline = {"videos": 12, "accuracy": 0.875, "interval": [0.6, 0.97]}
    write_json(evaluated.path / "metrics.json", metrics | {"box_shape_baseline": baseline})
    evaluated.save(digests={})
    made = run(own, "report", evaluations=[str(evaluated.path), str(fused.path)])
    assert "87.5" in made.output("report").read_text()


def test_report_is_not_made_twice(workspace, report):
    assert plan_stage("report", options_of("report")(samples=4), workspace).up_to_date
    assert not plan_stage("report", options_of("report")(samples=5), workspace).up_to_date


def test_scores_file_without_a_run(workspace, tmp_path):
    """Nothing is known of it but the scores: no training, no options."""
    path = tmp_path / "elsewhere" / "scores.safetensors"
    path.parent.mkdir()
    shutil.copy(evaluations(workspace)[-1].output("scores"), path)
    made = run(workspace, "report", evaluations=[str(path)], samples=0)
    text = made.output("report").read_text(encoding="utf-8")
    assert made.results["table"][0]["name"] == "elsewhere"
    assert 'id="training"' not in text and 'id="samples"' not in text and str(tmp_path) not in text


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_many_classes_and_missing_videos(workspace, tmp_path):
    torch.manual_seed(0)
    classes = [f"class {number:03d} <i>" for number in range(101)]
    labels = [number % 100 for number in range(200)]
    ids = [f"{number}.avi" for number in range(200)]
    paths = []
    for name in ("one", "two"):
        scores = Scores(ids, classes, labels, {"rgb": torch.randn(200, 101)}, {"words": name, "split": "1"})
        paths.append(tmp_path / name / "scores.safetensors")
        scores.save(paths[-1])
    changed = with_header(workspace, tmp_path / "work", classes=classes, splits={"1": {"train": [], "test": ids}})
    made = run(changed, "report", evaluations=[str(path) for path in paths], samples=3)
    text = made.output("report").read_text(encoding="utf-8")
    assert "Most frequent confusions" in text and "class 100 &lt;i&gt;" in text
    assert "measured in different ways" in text
    assert text.count("No pictures:") == 3
    assert made.results["table"][1]["accuracy"] == measure(scores)["accuracy"]


def test_scores_that_do_not_fit_the_set_are_refused(workspace, tmp_path):
    """Of other classes, of another set, or of videos that the split does not test, whatever --split says."""
    [row] = run(workspace, "report", samples=1).results["table"][:1]
    scores = load_scores(evaluations(workspace)[0].output("scores"))
    train = read_header(workspace.data_dir("synthetic")).part("1", "train")

    def report_of(protocol: dict[str, str], classes=scores.classes, ids=scores.ids, split: str | None = None) -> Run:
        path = tmp_path / "bare" / "scores.safetensors"
        Scores(ids, classes, scores.labels, scores.streams, protocol).save(path)
        return run(workspace, "report", evaluations=[str(path)], samples=0, split=split)

    assert report_of({}).results["table"][0]["accuracy"] == row["accuracy"]
    names = [name + "s" for name in scores.classes]
    for arguments, words in (
        (({}, names), r"scores of other classes than those of data set synthetic \(such as 'downs'\)"),
        (({"data": "other"},), "is of data set other, not of synthetic; leave it out, or name its set with --data"),
        (({"split": "2"},), "has no split '2'"),
        (({}, scores.classes, train[:12]), "does not say its split, and fits none of synthetic; name it with --split"),
        (({}, scores.classes, train[:12], "1"), "12 of its 12 videos are not on the test list of synthetic, split 1"),
    ):
        with pytest.raises(DataError, match=words):
            report_of(*arguments)


def test_parts_that_were_tested_are_named(own):
    """Scores of test and of validation videos on one page: each counted by its own list."""
    train_tiny(own, "flow", validation=0.25, seed=8)
    made = run_stage(own, "evaluate", part="validation", chunks=1)
    tested = evaluations(own)[0]
    scores = load_scores(tested.output("scores"))
    scores.take(range(1, 12)).save(tested.output("scores"))
    tested.save(digests={})
    page = run(own, "report", evaluations=[str(tested.path), str(made.path)], samples=2).output("report").read_text()
    text = " ".join(Page(page).said.split())
    held_out = made.results["videos"]
    assert "2 evaluations on test and validation videos of synthetic, split 1." in text
    assert f"Test videos11 of 12 listed; 1 without scores Validation videos{held_out} Pictures" in text
    assert "could not be read" not in text and "were not run on the same videos" in text


def test_ways_of_testing_a_model_are_rows_of_their_own(own):
    before = [row["name"] for row in run(own, "report", samples=0).results["table"]]
    for option in ({"stream_weights": [1.0, 3.0]}, {"average": "softmax"}, {"precision": "bfloat16"}):
        run_stage(own, "evaluate", model="fused", **option)
    names = [row["name"] for row in run(own, "report", samples=0).results["table"]]
    ways = ("stream weights 1:3", "average softmax", "precision bfloat16")
    assert sorted(names) == sorted([*before, *(f"fused-multiply, {words}" for words in ways)])
    assert names[-1] == "fused-multiply" and set(names[-4:-1]) == {f"fused-multiply, {words}" for words in ways}


def test_nothing_to_report(workspace, tmp_path):
    empty = Workspace(tmp_path)
    shutil.copytree(workspace.data_dir("synthetic"), empty.data_dir("synthetic"))
    with pytest.raises(DataError, match="stmn evaluate"):
        run(empty, "report")


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_missing_extra_is_named(workspace, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"{package}.*stmn\[report\]"):
        run(workspace, "report", samples=0)


def test_words():
    assert strip_fingerprint("fused-multiply-15f78336") == "fused-multiply"
    assert strip_fingerprint("motion-resnet18-f7834fa8/model.safetensors") == "motion-resnet18"
    assert strip_fingerprint("best.safetensors") == "best"
    assert [format_duration(s) for s in (3.34, 186, 7300, None)] == ["3.3 s", "3 min 6 s", "2 h 2 min", "unknown"]
    assert replace_unprintable("a\udcff\x00\nb") == "a\ufffd\ufffd\nb"


def test_inside_of_the_gated_network_is_measured(page, workspace):
    text = " ".join(re.sub(r"<[^<>]+>", " ", page).split())
    assert "Do the gates pick the target? " in text and "Which gradient reaches the motion stream?" in text
    assert "Measured on 12 videos" in text and "What became of the temporal filters?" in text
    assert text.count("add, exchanged before the streams were trained together") == 1
    for figure in ("f-focus", "f-gradients", "f-filters"):
        assert f'id="{figure}' in page or f"#{figure}" in page
    without = run(workspace, "report", evaluations=[e.name for e in evaluations(workspace)], inside=0)
    assert 'id="inside"' not in without.output("report").read_text()


def unit_focus(part: str, lead: float, on: float, receiver: str = "appearance") -> UnitFocus:
    """A gated unit that reads `on` of its signal on the target, and `lead` less on the distractor."""

    def share(target: float, difference: float) -> Share:
        found = {"target": Estimate(target, 0, 1), "distractor": Estimate(target - difference, 0, 1)}
        return Share(found, Estimate(difference, difference - 0.02, difference + 0.02))

    area = {name: Estimate(0.04, 0.04, 0.04) for name in ("target", "distractor")}
    gated = GatedUnit(f"{receiver}_{part}_unit2", receiver, part, 2, 8)
    return UnitFocus(gated, (8, 8), area, share(0.08, 0.0), share(on, lead), None)


def test_findings_inside_are_said_in_words():
    units = [unit_focus("conv2", 0.05, 0.13), unit_focus("conv3", 0.03, 0.1), unit_focus("conv4", 0.01, 0.05)]
    found = describe_focus(units)
    assert found.startswith("The gates pick the target at conv2 and conv3. At conv2 unit 2, 13.0 %")
    assert "13.0 % of what the unit reads falls on the target and 8.0 % on the distractor" in found
    assert "by itself it does not tell the two apart" in found
    assert describe_focus([unit_focus("conv2", 0.01, 0.05)]).startswith("No gate picks the target")


def test_figure_of_gates_names_the_streams_if_both_have_gates():
    into = {name: unit_focus("conv2", 0.05, 0.13, name) for name in ("appearance", "motion")}
    assert "conv2 unit 2 of" not in draw_focus([into["appearance"]], "f")
    assert all(f"conv2 unit 2 of {name}" in draw_focus([*into.values()], "f") for name in into)


@pytest.mark.parametrize("objects", [("target", "elsewhere"), ("other",)])
def test_page_of_what_a_data_set_knows_of_its_objects(workspace, monkeypatch, objects, tmp_path):
    def masks(self, video_id: str, times: list[int]) -> dict:
        return {name: np.ones((len(times), 64, 64), bool) for name in objects}

    monkeypatch.setattr(Synthetic, "masks", masks)
    copy = Workspace(shutil.copytree(workspace.root, tmp_path / "copy"))
    names = [e.name for e in evaluations(copy)]
    page = run(copy, "report", evaluations=names, samples=0, inside=3).output("report").read_text()
    text = " ".join(re.sub(r"<[^<>]+>", " ", page).split())
    assert "Which gradient reaches the motion stream?" in text
    assert ("Do the gates pick the target?" in text) == ("target" in objects) and "distractor" not in text
