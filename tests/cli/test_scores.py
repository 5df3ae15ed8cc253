"""`stmn scores`: show, convert, compare and fuse scores files."""

import csv
import json
import sys
from pathlib import Path

import pytest
import torch
from helpers.commands import call, errors_of

from stmn.evaluation.scores import Scores, load_scores

IDS, CLASSES, LABELS = ["a [1].avi", "b,2.avi", "c.avi", "d.avi"], ["clap", "wave"], [0, 1, 1, 0]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """`rgb` has three of four videos correct, `flow` all; `held` are scores of other videos."""
    values = {
        "rgb": [[2.0, 0], [0, 2], [3, 0], [1, 0]],
        "flow": [[1.0, 0], [0, 1], [0, 4], [1, 0]],
    }
    found = {}
    for name, rows in values.items():
        about = {"words": "25 chunks, set split 1 test", "part": "test", "average": "logits"}
        scores = Scores(IDS, CLASSES, LABELS, {name: torch.tensor(rows)}, about, ["g1", "g1", "g2", "g3"])
        held = Scores(
            list("stuvxy"), CLASSES, [0, 1] * 3, {name: torch.tensor(rows[1:3] * 3).float()}, {"part": "validation"}
        )
        for label, one in ((name, scores), (f"{name}-held", held)):
            found[label] = tmp_path / f"{label}.safetensors"
            one.save(found[label])
    return found


def scores(*arguments: object, code: int = 0) -> list[str]:
    """The lines it prints with single blanks, or its error lines."""
    result = call("scores", *arguments)
    assert result.exit_code == code, result.stderr
    return [" ".join(line.split()) for line in result.stdout.splitlines()] if not code else errors_of(result)


def test_show(files):
    lines = scores("show", files["rgb"], "--videos", "5")
    assert lines[0] == f"{files['rgb']}: 25 chunks, set split 1 test"
    assert lines[1] == "% 95 % interval (over 3 groups)"
    assert lines[2].startswith("top-1 75.0 ") and any(line.startswith("rgb alone 75.0 ") for line in lines)
    assert any(line.startswith("calibration error ") for line in lines)
    assert not any(line.startswith("top-5") for line in lines)  # of two classes it is always 100 %
    assert any(
        line == "3 groups are too few to say how much groups differ, so the intervals are wide." for line in lines
    )
    assert "c.avi wave clap 95 %" in lines  # the softmax of 3 and 0
    result = json.loads("\n".join(scores("show", files["rgb"], "--json")))
    assert (result["accuracy"], result["videos"], result["protocol"]["part"]) == (0.75, 4, "test")


def test_convert_to_csv_and_parquet(files, tmp_path):
    for ending in ("csv", "parquet"):
        out = tmp_path / f"out.{ending}"
        assert scores("convert", files["rgb"], out) == [f"{out}: 4 videos, 6 columns"]
        [line] = scores("convert", files["rgb"], out, code=2)
        assert line == f"{out}: already exists; use --force to overwrite it"
        scores("convert", files["rgb"], out, "--force")
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["video"] for row in rows] == IDS
    assert rows[2] == {
        "video": "c.avi", "group": "g2", "class": "wave", "predicted": "clap", "rgb: clap": "3.0", "rgb: wave": "0.0",
    }  # fmt: skip
    from pyarrow.parquet import read_table

    table = read_table(tmp_path / "out.parquet").to_pydict()
    assert table["video"] == IDS and table["rgb: clap"] == [2.0, 0.0, 3.0, 1.0]


def test_parquet_without_its_extra_is_one_line(files, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    [line] = scores("convert", files["rgb"], tmp_path / "out.parquet", code=1)
    assert line == "Parquet needs the package 'pyarrow': pip install 'stmn[parquet]'"
    assert not list(tmp_path.glob("*out*"))


def test_compare(files):
    lines = scores("compare", files["rgb"], files["flow"], "--videos")
    assert lines[:2] == [f"75.0 % {files['rgb']}", f"100.0 % {files['flow']}"]
    assert lines[2].startswith("difference +25.0 points [-") and lines[2].endswith(" on 4 videos")
    assert lines[3] == "both correct 3, both wrong 0, only the first correct 0, only the second correct 1"
    assert lines[4:6] == [
        "p = 1, exact sign-flip test over 3 groups", "3 groups can't give a p below 0.25, whatever the difference"
    ]  # fmt: skip
    assert lines[-1] == "c.avi wave clap wave"
    assert json.loads("\n".join(scores("compare", files["rgb"], files["flow"], "--json")))["flipped"] == [
        ["c.avi", "wave", "clap", "wave"]
    ]


def test_scores_that_are_no_logits_have_no_confidence(files, tmp_path):
    """Scores of unit length, or distances from an SVM's planes, have a softmax that means nothing."""
    old = load_scores(files["rgb"])
    for number, changes in enumerate([{"idt": {"words": "SVM"}}, {"parts": [{}, old.protocol]}]):
        path = tmp_path / f"{number}.safetensors"
        Scores(old.ids, old.classes, old.labels, old.streams, old.protocol | changes, old.groups).save(path)
        lines = scores("show", path, "--videos", "5")
        assert not any("calibration" in line for line in lines) and "c.avi wave clap" in lines
        assert json.loads("\n".join(scores("show", path, "--json")))["calibration_error"] is None


def test_fuse_with_given_or_chosen_weights(files, tmp_path):
    out = tmp_path / "late.safetensors"
    lines = scores("fuse", files["rgb"], files["flow"], "-o", out, "--weights", "1,3")
    assert lines[0].startswith(f"{out}: 100.0 % [")
    fused = load_scores(out)
    assert fused.mean()[2].tolist() == pytest.approx([3 / 4, 3 * 4 / 4])
    assert fused.protocol["late_fusion_weights"] == [1.0, 3.0] and fused.groups == ["g1", "g1", "g2", "g3"]

    chosen = tmp_path / "chosen.safetensors"
    held = ["--choose-on", files["rgb-held"], "--choose-on", files["flow-held"]]
    lines = scores("fuse", files["rgb"], files["flow"], "-o", chosen, *held)
    assert lines[0].endswith(", chosen on 6 other videos")
    weights = load_scores(chosen).protocol["late_fusion_weights"]
    assert lines[0].startswith(f"weights {weights[0]:g}, {weights[1]:g}") and weights[1] > weights[0]


def test_mistakes_are_one_line_and_write_nothing(files, tmp_path):
    out = tmp_path / "out.safetensors"
    rgb, flow = files["rgb"], files["flow"]
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(rgb.read_bytes()[:100])
    for arguments, code, line in (
        (("fuse", rgb, "-o", out), 2, "name at least two scores files"),
        (
            ("fuse", rgb, flow, "-o", out, "--weights", "1;3"),
            2,
            "--weights 1;3: must be numbers separated by commas",
        ),
        (("fuse", rgb, flow, "-o", out, "--weights", "1"), 1, "late fusion of 2 scores with 1 weight"),
        (("fuse", rgb, files["flow-held"], "-o", out), 1, "does not score the same videos: no scores of 'a [1].avi'"),
        (("fuse", rgb, flow, "-o", out, "--choose-on", rgb, "--choose-on", flow), 1, "scores of test videos"),
        (("fuse", rgb, flow, "-o", out, "--choose-on", rgb), 2, "--choose-on: 1 scores for the 2 to fuse"),
        (
            ("fuse", rgb, flow, "-o", out, "--choose-on", files["flow-held"], "--choose-on", files["rgb-held"]),
            2,
            "name them in the order of the scores",
        ),
        (("compare", rgb, files["flow-held"]), 1, "does not score the same videos"),
        (("show", broken), 1, "is damaged"),
        (("show", tmp_path / "no.safetensors"), 2, "no such file"),
        (("convert", rgb, tmp_path / "out.xls"), 2, "the name must end in .csv or .parquet"),
    ):
        [said] = scores(*arguments, code=code)
        assert line in said
    assert not out.exists()
