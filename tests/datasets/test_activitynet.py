"""ActivityNet's JSON: segments of files, of which many are missing."""

import json
from pathlib import Path

import pytest
from helpers.commands import call, errors_of
from helpers.films import film, moving

from stmn.datasets.activitynet import ActivityNet
from stmn.store.format.read import Store

FAST = ["--short-side", "32", "--workers", "1", "--flow", "farneback"]


def annotated(path: Path, **videos: dict) -> Path:
    path.write_text(json.dumps({"version": "1.3", "database": videos}))
    return path


def part(subset: str, *segments: tuple[float, float, str]) -> dict:
    return {"subset": subset, "duration": 9, "annotations": [{"segment": [a, b], "label": c} for a, b, c in segments]}


def test_each_annotation_is_a_video(tmp_path):
    film(tmp_path / "videos" / "all" / "v_abc.mkv", moving(50, 32, 32))
    path = annotated(
        tmp_path / "an.json", abc=part("training", (0.4, 0.8, "Surfing"), (1, 2, "Ski")), gone=part("validation", (0, 1, "Ski")),
        t1=part("testing"),
    )  # fmt: skip
    result = call("prepare", path, "mine", *FAST, "-w", tmp_path, "--allow-failures", "1")
    assert result.exit_code == 0, result.stderr
    assert "1 of 3 files left out: no annotation\n" in result.stderr
    with Store(tmp_path / "data" / "mine") as store:
        assert {v.id: (v.class_name, v.group, v.frames) for v in store.videos.values()} == {
            "Surfing/abc#0.4-0.8": ("Surfing", "abc", 10), "Ski/abc#1-2": ("Ski", "abc", 25), "Ski/gone#0-1": ("Ski", "gone", 0),
        }  # fmt: skip
        assert store.header.splits == {"1": {"train": ["Surfing/abc#0.4-0.8", "Ski/abc#1-2"], "test": ["Ski/gone#0-1"]}}


def test_testing_is_tested_if_it_is_annotated(tmp_path):
    path = annotated(tmp_path / "a.json", a=part("Validation", (0, 1, "Ski")), b=part("testing", (0, 1, "Ski")))
    assert ActivityNet(path).splits() == {"1": {"train": [], "test": ["Ski/b#0-1"], "validation": ["Ski/a#0-1"]}}


@pytest.mark.parametrize(("text", "words"), [
    ("{", "can't be used: not JSON in line 1: "),
    ("[]", "not in the format of ActivityNet"),
    ('{"database": {}}', "has no annotations"),
    ('{"database": {"a": {"subset": "new", "annotations": [{"segment": [0, 1], "label": "x"}]}}}', "'a': subset is 'new'"),
    ('{"database": {"a": {"subset": "training", "annotations": [{"segment": [2, 1], "label": "x"}]}}}', "needs segment"),
    ('{"database": {"a": {"subset": "training", "annotations": [{"segment": [0, 1]}]}}}', "needs segment"),
])  # fmt: skip
def test_wrong_files_are_one_line(text, words, tmp_path):
    (tmp_path / "a.json").write_text(text)
    result = call("prepare", tmp_path / "a.json", "mine", "-w", tmp_path)
    assert result.exit_code == 1
    [line] = errors_of(result)
    assert line.startswith(f"{tmp_path / 'a.json'}")
    assert words in line
