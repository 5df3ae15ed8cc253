"""AVA's lists: what persons do at moments of a film, as segments around these moments."""

from pathlib import Path

import pytest
from helpers.commands import call, errors_of
from helpers.films import film, moving

from stmn.datasets.ava import Ava
from stmn.store.format.read import Store

FAST = ["--short-side", "32", "--workers", "1", "--flow", "farneback", "--fps", "5"]
BOX = "0.077,0.151,0.283,0.811"
CLASSES = 'item {\n  name: "bend/bow (at the waist)"\n  id: 1\n}\nitem {\n  name: "walk"\n  id: 14\n}\n'
#: at 2 s two persons walk, at 4 s one also bends, at 0.5 s one bends
MOMENTS = [
    f"abc,0002,{BOX},14,0",
    f"abc,0002,{BOX},14,1",
    f"abc,0004,{BOX},1,0",
    f"abc,0004,{BOX},14,0",
    f"abc,0.5,{BOX},1,0",
]


def listed(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_moments_are_segments_of_the_film(tmp_path):
    film(tmp_path / "videos" / "abc.mkv", moving(30, 32, 32), rate=5)
    listed(tmp_path / "ava_action_list_v2.2.pbtxt", CLASSES)
    path = listed(tmp_path / "ava_train_v2.2.csv", *MOMENTS)
    listed(tmp_path / "ava_val_v2.2.csv", f"def,0902,{BOX},14,0")
    result = call("prepare", path, "mine", *FAST, "-w", tmp_path, "--allow-failures", 1)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.splitlines()[:3] == [
        "segments: 1.5 s on each side of a time stamp, the whole frame; boxes of persons don't count",
        "1 of 4 moments left out: several actions; --dataset-options several=each takes each",
        "split 1: trains on ava_train_v2.2.csv, tests on ava_val_v2.2.csv",
    ]
    with Store(tmp_path / "data" / "mine") as store:
        assert {v.id: (v.class_name, v.group, v.frames) for v in store.videos.values()} == {
            "walk/abc#0.5-3.5": ("walk", "abc", 15),
            "bend/bow (at the waist)/abc#0-2": ("bend/bow (at the waist)", "abc", 10),
            "walk/def#900.5-903.5": ("walk", "def", 0),
        }
        assert store.header.splits == {
            "1": {"train": ["walk/abc#0.5-3.5", "bend/bow (at the waist)/abc#0-2"], "test": ["walk/def#900.5-903.5"]}
        }


def test_each_action_can_be_a_video(tmp_path):
    listed(tmp_path / "a.pbtxt", CLASSES)
    found = Ava(listed(tmp_path / "a.csv", *MOMENTS), several="each", seconds=1)
    assert [v.id.split("/", 1)[1] if v.class_name == "walk" else v.segment for v in found.videos()] == [
        "abc#1-3", "3-5", "abc#3-5", "0-1.5"
    ]  # fmt: skip
    assert "1 of 3 moments have several actions: each is a video, of the same pictures" in found.notes([])


@pytest.mark.parametrize(("lines", "classes", "names"), [
    ([f"a,2,{BOX},7", f"b,2,{BOX},8"], "", ["7", "8"]),  # the first versions had no persons; no class list
    (["video_id,middle_frame_timestamp,x1,y1,x2,y2,action_id,person_id", f"a,2,{BOX},run,1"], "", ["run"]),
    ([f"a,2,{BOX},14,1", "a,3,,,,,,"], CLASSES, ["walk"]),  # nobody is there at 3 s
    ([f"a,2,{BOX},2,1"], 'label {\n name: "sit \\"down\\""\n label_id: 2\n label_type: PERSON }\n', ['sit "down"']),
])  # fmt: skip
def test_lists_of_other_versions(lines, classes, names, tmp_path):
    if classes:
        listed(tmp_path / "classes.pbtxt", classes)
    assert [video.class_name for video in Ava(listed(tmp_path / "a.csv", *lines)).videos()] == names


def test_cut_files_begin_at_an_offset(tmp_path):
    [video] = Ava(listed(tmp_path / "a.csv", f"a,0902,{BOX},run,1"), offset=900).videos()
    assert (video.start, video.end) == (0.5, 3.5)


@pytest.mark.parametrize(("lines", "options", "words"), [
    ([f"a,x,{BOX},1,0"], [], "line 1: not a list of videos"),
    ([f"a,2,{BOX},1,0", f"a,x,{BOX},1,0"], [], "line 2: time stamp 'x' must be seconds, 0 or more"),
    ([f"a,2,{BOX},1,0"], ["offset=900"], "line 1: time stamp '2' must be seconds, 900 or more"),
    ([f"a,2,{BOX},15,0"], [], "line 1: action 15 is not in the class list"),
    ([f",2,{BOX},1,0"], [], "line 1: no video_id"),
    ([f"a,2,{BOX},1,0", f"a,2,{BOX},14,0"], [], "no moment has a single action; --dataset-options several=each takes"),
    ([f"a,2,{BOX},1,0"], ["several=all"], "several is 'all'; it must be leave_out or each"),
    ([f"a,2,{BOX},1,0"], ["seconds=0"], "seconds must be above 0"),
    ([f"a,2,{BOX},1,0"], ["classes=none.pbtxt"], "none.pbtxt: can't be read: No such file or directory"),
    ([f"a,2,{BOX},1,0"], ["videos=none"], "none: no such folder of videos"),
])  # fmt: skip
def test_wrong_lists_are_one_line(lines, options, words, tmp_path):
    listed(tmp_path / "classes.pbtxt", CLASSES)
    path = listed(tmp_path / "a.csv", *lines)
    flags = [word for option in options for word in ("--dataset-options", option)]
    result = call("prepare", path, "mine", "-w", tmp_path, *flags)
    assert result.exit_code in (1, 2)
    [line] = errors_of(result)
    assert words in line


def test_class_lists_that_disagree_are_one_line(tmp_path):
    listed(tmp_path / "a.pbtxt", CLASSES)
    listed(tmp_path / "b.pbtxt", CLASSES.replace("walk", "run"))
    path = listed(tmp_path / "a.csv", *MOMENTS)
    [line] = errors_of(call("prepare", path, "mine", "-w", tmp_path))
    assert line == (
        f"{tmp_path / 'b.pbtxt'}: calls class 14 'run', and another list 'walk'; name one with --dataset-options classes=FILE"
    )
