"""UCF101 and HMDB51: their published lists, all three splits, whatever blanks and line ends they have."""

import shutil
from pathlib import Path

import pytest
from helpers.commands import call
from helpers.films import film, moving

from stmn.datasets.hmdb51 import HMDB51
from stmn.datasets.ucf101 import UCF101
from stmn.store.format.read import Store

FAST = ["--short-side", "32", "--workers", "1", "--flow", "farneback"]


@pytest.mark.parametrize(("name", "lists", "clip", "counts"), [
    ("ucf101", "ucfTrainTestlist", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", [(9537, 3783), (9586, 3734), (9624, 3696)]),
    ("hmdb51", "testTrainMulti_7030_splits", "wave/TrumanShow_wave_f_nm_np1_fr_med_26.avi", [(3570, 1530)] * 3),
])  # fmt: skip
def test_prepared_set_has_the_three_published_splits(name, lists, clip, counts, tmp_path, shared_data):
    shutil.copytree(shared_data / "splits" / name, tmp_path / name / lists)
    (tmp_path / name / clip).parent.mkdir()
    shutil.copy(shared_data / "clips" / clip.split("/")[1], tmp_path / name / clip)
    result = call("prepare", tmp_path / name, "--dataset", name, *FAST, "-w", tmp_path)
    assert result.exit_code == 0, result.stderr
    with Store(tmp_path / "data" / name) as store:
        splits = store.header.splits
        assert [(len(splits[n]["train"]), len(splits[n]["test"])) for n in ("1", "2", "3")] == counts
        assert [sum(clip in ids for ids in splits[n].values()) for n in ("1", "2", "3")] == [1, 1, 1]
        assert {i for parts in splits.values() for ids in parts.values() for i in ids if i != i.strip()} == set()


def test_published_lines_end_in_blanks(shared_data):
    lines = (shared_data / "splits" / "hmdb51" / "wave_test_split1.txt").read_text().split("\n")
    assert all(line.endswith(" ") for line in lines if line)


@pytest.mark.parametrize("end", ["\n", " \n", "\r\n", " \r\n", "\t\n"])
def test_blanks_and_line_ends(end, tmp_path):
    film(tmp_path / "wave" / "a_wave_1.avi", moving(2, 32, 32))
    (tmp_path / "trainlist01.txt").write_bytes(f"wave/v_wave_g01_c01.avi 1{end}wave/v_wave_g02_c01.avi 1{end}".encode())
    (tmp_path / "testlist01.txt").write_bytes(f"wave/v_wave_g03_c01.avi{end}{end}".encode())
    assert UCF101(tmp_path).splits() == {
        "1": {"train": ["wave/v_wave_g01_c01.avi", "wave/v_wave_g02_c01.avi"], "test": ["wave/v_wave_g03_c01.avi"]},
    }  # fmt: skip
    (tmp_path / "wave_test_split2.txt").write_bytes(f"a_wave_1.avi 1{end}two words.avi 2{end}c.avi 0{end}".encode())
    assert HMDB51(tmp_path).splits() == {"2": {"train": ["wave/a_wave_1.avi"], "test": ["wave/two words.avi"]}}


def test_names_that_differ_in_case_or_ending_are_matched(tmp_path):
    """Published: HandstandPushups/v_HandStandPushups_g01_c01.avi. Some copies spell it otherwise, or are MP4."""
    for name in ("v_HandstandPushups_g01_c01.avi", "v_HandstandPushups_g02_c01.mp4"):
        (tmp_path / "HandstandPushups").mkdir(exist_ok=True)
        (tmp_path / "HandstandPushups" / name).touch()
    listed = [f"HandstandPushups/v_HandStandPushups_g0{n}_c01.avi" for n in (1, 2, 3)]
    (tmp_path / "trainlist01.txt").write_text(f"{listed[0]} 37\n{listed[2]} 37\n")
    (tmp_path / "testlist01.txt").write_text(listed[1].replace("/", "\\") + "\n")
    dataset = UCF101(tmp_path)
    first, second = dataset.videos()
    assert dataset.splits() == {"1": {"train": [first.id, listed[2]], "test": [second.id]}}
    assert list(dataset.notes([first, second])) == [
        f"2 names of the list are spelled differently on disk, such as '{listed[0]}', which is '{first.id}'"
    ]


def in_ucf101_layout(root: Path, classes: list[str]) -> Path:
    """Empty files named as UCF101's videos are, two groups in each class."""
    for name in classes:
        for group in (1, 2):
            path = root / "videos" / name / f"v_{name}_g{group:02d}_c01.avi"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return root


def groups_of(root: Path, **options: str) -> set[str]:
    return {video.group for video in UCF101(root, **options).videos()}


def test_group_of_the_same_name_in_two_classes_is_one_group(tmp_path):
    """Except in UCF101 itself, whose g01 is another recording in each class."""
    own = in_ucf101_layout(tmp_path / "own", ["hug", "kick"])
    assert groups_of(own) == groups_of(own, groups="shared") == {"g01", "g02"}
    assert groups_of(own, groups="per_class") == {"hug_g01", "hug_g02", "kick_g01", "kick_g02"}
    official = in_ucf101_layout(tmp_path / "official", ["Archery", "TaiChi", "YoYo"])  # some of its classes will do
    assert len(groups_of(official)) == 6
    assert groups_of(official, groups="shared") == {"g01", "g02"}
    mixed = in_ucf101_layout(tmp_path / "mixed", ["Archery", "TaiChi", "hug"])
    assert groups_of(mixed) == {"g01", "g02"}
    with pytest.raises(ValueError, match="groups is 'mine'; it must be per_class or shared"):
        UCF101(own, groups="mine")


def test_prepare_says_what_a_group_is_and_takes_a_correction(tmp_path):
    """Pictures don't depend on groups, so nothing is prepared again."""
    root = tmp_path / "own"
    for name in ("hug", "kick"):
        film(root / "videos" / name / f"v_{name}_g01_c01.avi", moving(3, 32, 32))
    (root / "splits").mkdir()
    (root / "splits" / "trainlist01.txt").write_text("hug/v_hug_g01_c01.avi 1\nkick/v_kick_g01_c01.avi 2\n")
    (root / "splits" / "testlist01.txt").write_text("")
    line = ["prepare", root, "--dataset", "ucf101", *FAST, "-w", tmp_path]
    first = call(*line)
    assert (
        "groups: the gNN of a name is the same person or recording in all classes; "
        "if that is wrong: --dataset-options groups=per_class"
    ) in first.stderr
    assert "groups       1, 1 of them in several classes" in call("data", "info", "own", "-w", tmp_path).stdout
    again = call(*line, "--dataset-options", "groups=per_class")
    assert again.exit_code == 0, again.stderr
    assert "groups: the gNN of a name is another recording in each class, as in UCF101\n" in again.stderr
    with Store(tmp_path / "data" / "own") as store:
        assert {video.group for video in store.videos.values()} == {"hug_g01", "kick_g01"}
