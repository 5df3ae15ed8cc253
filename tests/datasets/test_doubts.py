"""What `stmn prepare` says of a list before it decodes a video."""

import shutil
import unicodedata
from pathlib import Path

import pytest
from helpers.commands import call, errors_of
from helpers.films import film, moving

from stmn.datasets.base import VideoEntry
from stmn.datasets.doubts import find_doubts, find_mirror_pairs
from stmn.store.format.header import read_header

FAST = ["--short-side", "32", "--workers", "1", "--flow", "farneback"]


def doubts(train: list[str], test: list[str], missing: tuple[str, ...] = ()) -> list[str]:
    """What is said of a split of videos CLASS/NAME."""
    videos = [VideoEntry(i, Path(), i.split("/")[0]) for i in [*train, *test] if i not in missing]
    return list(find_doubts(videos, {"1": {"train": train, "test": test}}, mirror=True))


def test_nothing_is_said_of_a_list_without_doubts():
    assert doubts(["run/a", "jump/a"], ["run/b", "jump/b"]) == []


def test_class_of_one_part_is_named():
    assert doubts(["run/a", "jump/a", "hop/a"], ["run/b", "sit/b"]) == [
        "split 1: 1 class has no training video: sit", "split 1: 2 classes have no test video: hop, jump",
    ]  # fmt: skip
    assert doubts(["run/a"], []) == [
        "all videos are of one class, 'run'; there is nothing to tell apart", "split 1 has no test video",
    ]  # fmt: skip


def test_listed_video_that_is_not_there_is_counted():
    assert doubts(["run/a", "run/c", "jump/a"], ["run/b", "jump/b"], missing=("run/c",)) == [
        "1 of 5 videos in the lists of the splits is missing, the first: 'run/c'"
    ]


@pytest.mark.parametrize(("one", "other"), [("Jump", "jump"), ("long jump", "long_jump"), ("LongJump", "long-jump")])
def test_classes_written_alike_are_named(one, other):
    first, second = sorted([one, other])
    assert doubts([f"{one}/a", f"{other}/a"], [f"{one}/b", f"{other}/b"]) == [
        f"classes '{first}' and '{second}' differ only in how they are written; they are different classes here"
    ]


def test_accents_in_two_encodings_are_told_apart():
    """As file systems and archives of different systems store them: both look the same."""
    composed, decomposed = (unicodedata.normalize(form, "\u00e9") for form in ("NFC", "NFD"))
    [line] = doubts([f"{composed}/a", f"{decomposed}/a"], [f"{composed}/b", f"{decomposed}/b"])
    assert line.startswith(r"classes 'e\u0301' and '\xe9' differ only in how they are written")


@pytest.mark.parametrize(("classes", "pairs"), [
    (["swipe left", "swipe right", "stop"], [("swipe left", "swipe right")]),
    (["TurnLeft", "TurnRight", "LEFT", "RIGHT"], [("LEFT", "RIGHT"), ("TurnLeft", "TurnRight")]),
    (["clockwise", "counterclockwise"], [("clockwise", "counterclockwise")]),
    (["left", "bright"], []),
])  # fmt: skip
def test_classes_that_change_places_in_a_mirror(classes, pairs):
    assert find_mirror_pairs(classes) == pairs


def test_mirrors_are_forbidden_or_exchange_classes(tmp_path):
    """It changes nothing in the pictures, so a prepared set takes it when it is prepared again."""
    for name in ("swipe left", "swipe right"):
        for number in range(3):
            film(tmp_path / "v" / name / f"{number}.mp4", moving(2, 32, 32))
    line = ["prepare", tmp_path / "v", "mine", *FAST, "-w", tmp_path]
    said = call(*line).stderr
    assert (
        "'swipe left' and 'swipe right' change places in a mirror, and training mirrors half of the videos; "
        "--mirror-pairs left=right exchanges them, --no-mirror forbids mirrors"
    ) in said
    assert read_header(tmp_path / "data" / "mine").keeps == ["crop", "mirror"]
    paired = call(*line, "--mirror-pairs", "left=right")
    assert (paired.exit_code, "mirror" in paired.stderr) == (0, False)
    assert read_header(tmp_path / "data" / "mine").mirror_pairs == {
        "swipe left": "swipe right",
        "swipe right": "swipe left",
    }
    for flags, words in (
        (["up=down"], "mirror_pairs = up=down: no two classes change places so; classes: swipe left, swipe right"),
        (["left=right", "--no-mirror"], "prepare: mirror_pairs is what a mirror does, and mirror = false"),
    ):
        refused = call(*line, "--mirror-pairs", *flags)
        assert refused.exit_code == 2
        assert words in errors_of(refused)[0]
    again = call(*line, "--no-mirror")
    assert (again.exit_code, "mirror" in again.stderr) == (0, False)
    assert read_header(tmp_path / "data" / "mine").keeps == ["crop"]


def test_same_file_in_two_parts_leads_to_data_check(tmp_path):
    clip = film(tmp_path / "v" / "train" / "run" / "a.mp4", moving(3, 32, 32))
    for name in ("train/jump/b.mp4", "test/jump/c.mp4"):
        film(tmp_path / "v" / name, moving(3, 32, 32, seed=len(name)))
    shutil.copy(clip, film(tmp_path / "v" / "test" / "run" / "d.mp4", moving(2)))
    result = call("prepare", tmp_path / "v", "mine", "-w", tmp_path, *FAST)
    assert result.exit_code == 0
    assert (
        "split 1: 1 video of test is in train under another name, the first: 'test/run/d.mp4' (as 'train/run/a.mp4'); "
        "stmn data check also finds copies that were encoded again"
    ) in result.stderr.splitlines()
