"""`stmn compare` on the terminal, as JSON and as a page."""

import json
import shutil

import pytest
from helpers.commands import call, errors_of
from helpers.paper_sized import CLASSES, drawn_scores, named_scores
from typer.testing import CliRunner

from stmn.cli.main import app
from stmn.evaluation.scores import Scores, load_scores


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    return drawn_scores(tmp_path_factory.mktemp("compared"), classes=8)


def changed(path, folder, **changes):
    """A copy of a scores file in which something is different."""
    old = load_scores(path)
    values = {name: getattr(old, name) for name in ("ids", "classes", "labels", "streams", "protocol")} | changes
    folder.mkdir()
    Scores(**values).save(folder / "scores.safetensors")
    return folder / "scores.safetensors"


def test_each_evaluation_has_a_line_and_its_p_value(scores):
    result = call("compare", *scores.values())
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0][-7:] == ["top-5", "per", "class", "appearance", "motion", "points", "p"]
    printed = {line[0]: line for line in lines[1:5]}
    assert list(printed) == ["appearance", "motion", "late", "fused"]
    for name, path in scores.items():
        shown = json.loads(call("scores", "show", path, "--json").stdout)
        low, high = shown["intervals"]["accuracy"]
        expected = [f"{100 * value:.1f}" for value in (shown["accuracy"], low, high, shown["top5"])]
        assert [printed[name][1], printed[name][2], printed[name][4], printed[name][5]] == expected
    paired = json.loads(call("scores", "compare", scores["appearance"], scores["fused"], "--json").stdout)
    assert f"{100 * paired['difference']:+.1f}" in printed["fused"]
    assert printed["appearance"][-2:] == ["-", "-"]


def test_json_has_everything(scores):
    printed = json.loads(call("compare", scores["late"], scores["fused"], "--json").stdout)
    late, fused = printed["runs"]
    paired = json.loads(call("scores", "compare", scores["late"], scores["fused"], "--json").stdout)
    assert printed["first"] == late["name"] and "against_first" not in late
    assert fused["against_first"]["p_value"] == paired["p_value"]
    assert fused["against_first"]["difference"] == pytest.approx(fused["accuracy"] - late["accuracy"])
    assert len(fused["against_first"]["classes"]) == 8 and set(fused["streams"]) == {"appearance", "motion"}
    assert fused["protocol_differs"] == []


def test_different_protocols_are_marked(scores, tmp_path):
    other = changed(scores["fused"], tmp_path / "few", protocol={"chunks": 5, "split": "1", "data": "big"})
    result = call("compare", scores["late"], other, "--page", tmp_path / "page.html")
    assert "few *" in result.stdout
    assert "* few: chunks 5 instead of 25" in result.stdout
    page = (tmp_path / "page.html").read_text()
    assert "chunks 5 instead of 25" in page and "measured in different ways" in page


def shown_at(width: int, *files: object) -> list[str]:
    """What a terminal of that width shows, line by line."""
    return CliRunner().invoke(app, ["compare", *map(str, files)], env={"COLUMNS": str(width)}).stdout.splitlines()


def test_narrow_terminal_shows_every_run(scores):
    shown = shown_at(80, *scores.values())
    assert max(map(len, shown[:5])) <= 80 and "…" not in "".join(shown)
    assert [line.split()[0] for line in shown[1:5]] == ["appearance", "motion", "late", "fused"]
    assert any(line.startswith("fused: appearance") for line in shown)  # the streams moved below the table


@pytest.mark.parametrize("width", [120, 80, 60])
def test_long_names_hide_no_number(tmp_path, width):
    names = ["test-appearance-resnet50-hmdb51-split1", "test-fused-multiply-both", "x" * 70, "a name of several words"]
    files = named_scores(tmp_path, names, CLASSES[:8])
    compared = json.loads(call("compare", *files, "--json").stdout)["runs"]
    lines = shown_at(width, *files)
    end = next(number for number, line in enumerate(lines) if "videos, 8 classes" in line)
    shown = " ".join(lines[:end])
    assert max(map(len, lines[:end])) <= width and "…" not in shown
    for run in compared:
        difference = run.get("against_first", {"difference": 0.0})["difference"]
        numbers = [run["accuracy"], *run["intervals"]["accuracy"], run["top5"], run["mean_class_accuracy"]]
        assert {f"{100 * number:.1f}" for number in numbers} <= set(shown.split())
        assert f"{100 * difference:+.1f}".replace("-", "−") in shown.split() or not difference
    assert shown.count("<") == sum(run.get("against_first", {"p_value": 1})["p_value"] < 0.001 for run in compared)
    first = next(line.index("top-1") for line in lines if "top-1" in line)
    labels = "".join("".join(line[:first] for line in lines[:end]).split())
    assert all("".join(name.split()) in labels for name in names)


def test_runs_by_name(own):
    made = [run for run in own.runs() if run.record["verb"] == "evaluate"]
    printed = json.loads(call("compare", *(run.name for run in made), "-w", own.root, "--json").stdout)
    assert [run["name"] for run in printed["runs"]] == [run.name for run in made]
    assert [run["accuracy"] for run in printed["runs"]] == [run.results["accuracy"] for run in made]
    assert {run["label"] for run in printed["runs"]} == {"appearance-resnet18", "motion-resnet18", "fused-multiply"}


def test_what_cannot_be_compared_is_one_line(scores, tmp_path):
    old = load_scores(scores["fused"])
    others = [f"other/{video}" for video in old.ids]
    moved = [(label + 1) % 8 for label in old.labels]
    wrong = {
        "scores of other classes": drawn_scores(tmp_path / "nine", classes=9)["late"],
        "does not score the same videos": changed(scores["fused"], tmp_path / "videos", ids=others),
        "different true classes": changed(scores["fused"], tmp_path / "truth", labels=moved),
        "no such file, and no finished run": "missing",
    }
    for words, path in wrong.items():
        result = call("compare", scores["late"], path, "--page", tmp_path / "page.html")
        assert result.exit_code in (1, 2) and len(result.stderr.splitlines()) == 1
        assert words in errors_of(result)[0]
        assert not (tmp_path / "page.html").exists()
    assert errors_of(call("compare", scores["late"])) == ["compare: name at least two evaluations"]


def test_existing_page_is_not_overwritten(scores, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("mine")
    result = call("compare", scores["late"], scores["fused"], "--page", page)
    assert "--force" in errors_of(result)[0] and page.read_text() == "mine"
    assert call("compare", scores["late"], scores["fused"], "--page", page, "--force").exit_code == 0
    assert "Gains and losses" in page.read_text()


def test_hostile_names_are_only_text(scores, tmp_path):
    classes = [f"<script>{number}</script>" for number in range(8)]
    named = changed(scores["late"], tmp_path / "one", classes=classes)
    shutil.copytree(tmp_path / "one", tmp_path / "[bold]two")
    page = tmp_path / "page.html"
    result = call("compare", named, tmp_path / "[bold]two" / "scores.safetensors", "--page", page)
    assert "[bold]two" in result.stdout
    assert "<script" not in page.read_text() and "&lt;script&gt;" in page.read_text()
