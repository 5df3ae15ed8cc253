"""Folders as people have them: what is a video, what is a class, and what is left out is counted."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.commands import STMN, call, errors_of
from helpers.films import film, moving, sound

from stmn.datasets.folder import Folder
from stmn.datasets.kinetics import Kinetics
from stmn.errors import DataError
from stmn.prediction.api import find_videos
from stmn.store.format.read import Store

FAST = ["--short-side", "32", "--workers", "1", "--flow", "farneback"]


def touched(root: Path, *names: str) -> Path:
    """Empty files: only their names matter here."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def ids(root: Path) -> list[str]:
    return [video.id for video in Folder(root).videos()]


def lost(root: Path) -> dict[str, str]:
    return {item.path.relative_to(root).as_posix(): item.reason for item in Folder(root).left_out()}


def test_a_mixed_folder(tmp_path):
    """Everything that FFmpeg reads is taken; everything else is counted in a line, and listed for machines."""
    root = tmp_path / "v"
    clip = film(root / "run" / "a.MTS", moving(20, 64, 96), "mpeg2video")
    film(root / "run" / "session 1" / "b.mp4", moving(2, 32, 32))
    for copy in ("jump/no ending", "jump/._a.mts", ".ipynb_checkpoints/x.mts", "run/@eaDir/a.mts", "loose.dat"):
        (root / copy).parent.mkdir(exist_ok=True)
        shutil.copy(clip, root / copy)
    (root / "jump" / "nothing.mov").symlink_to("/nowhere.mov")
    (root / "run" / "again").symlink_to("..")
    sound(root / "jump" / "song.mka")
    touched(root, "README.txt", "Thumbs.db", "jump/notes.txt", "jump/Thumbs.db", "empty/desktop.ini")
    line = ["prepare", root, "mine", *FAST, "-w", tmp_path]
    result = call(*line)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.splitlines()[:3] == [
        "5 files left out: 1 in no class folder, 1 .txt (no video), 1 broken link, 1 .mka (no video), "
        "1 link to a folder that holds it",
        "deeper than CLASS/VIDEO: 1 of 3 videos, such as 'run/session 1/b.mp4'; the class is the top folder",
        "folders without a video are not classes: 1 (empty)",
    ]  # fmt: skip
    with Store(tmp_path / "data" / "mine") as store:
        assert {v.id: (v.class_name, v.frames) for v in store.videos.values()} == {
            "run/a.MTS": ("run", 20), "run/session 1/b.mp4": ("run", 2), "jump/no ending": ("jump", 20),
        }  # fmt: skip
        assert store.header.classes == ["jump", "run"]
    events = [json.loads(text) for text in call(*line, "--json").stdout.splitlines()]
    assert {event["left_out"]: event["reason"] for event in events if "left_out" in event} == {
        f"{root}/loose.dat": "in no class folder", f"{root}/jump/notes.txt": ".txt (no video)",
        f"{root}/jump/nothing.mov": "broken link", f"{root}/jump/song.mka": ".mka (no video)",
        f"{root}/run/again": "link to a folder that holds it",
    }  # fmt: skip


@pytest.mark.parametrize("ending", [
    ".MTS", ".m2t", ".mxf", ".f4v", ".dv", ".y4m", ".h264", ".3g2", ".mjpeg", ".ivf", ".mpe", ".DIVX", ".rmvb", ".qt",
])  # fmt: skip
def test_endings_of_videos(ending, tmp_path):
    assert ids(touched(tmp_path, f"wave/a{ending}")) == [f"wave/a{ending}"]


def test_what_only_looks_like_a_video(tmp_path):
    """FFmpeg can show text, and a song's cover is a stream of video."""
    (tmp_path / "wave").mkdir()
    (tmp_path / "wave" / "a.nfo2").write_text("\x1b[31mtext\n" * 100)
    (tmp_path / "wave" / "b.data").write_bytes(bytes(range(256)) * 40)
    touched(tmp_path, "wave/c.mp4", "wave/d")
    assert ids(tmp_path) == ["wave/c.mp4"]
    assert lost(tmp_path) == {
        "wave/a.nfo2": ".nfo2 (no video)", "wave/b.data": ".data (no video)", "wave/d": "without an ending (no video)",
    }  # fmt: skip


def test_links_to_folders_are_followed(tmp_path):
    touched(tmp_path / "elsewhere", "a.mp4")
    touched(tmp_path / "v", "jump/b.mp4")
    (tmp_path / "v" / "run").symlink_to(tmp_path / "elsewhere")
    assert ids(tmp_path / "v") == ["jump/b.mp4", "run/a.mp4"]


def test_a_link_to_itself_is_one_line(tmp_path):
    (tmp_path / "videos").symlink_to(tmp_path / "videos")
    refused = call("prepare", tmp_path / "videos", "mine", "-w", tmp_path)
    assert refused.exit_code == 1
    assert errors_of(refused) == [f"{tmp_path}/videos: Too many levels of symbolic links"]


def test_hidden_files_are_ignored_everywhere(tmp_path):
    root = touched(tmp_path, "run/a.mp4", "run/._a.mp4", ".trash/b.mp4", "run/.c/c.mp4", "__MACOSX/run/a.mp4")
    assert ids(root) == ["run/a.mp4"]
    assert lost(root) == {}
    assert [Path(video.place).relative_to(root).as_posix() for video in find_videos([str(root)])] == ["run/a.mp4"]
    touched(tmp_path, "videos/wave/id_000001_000011.mp4", "videos/._x/id_000001_000011.mp4")
    (tmp_path / "k.csv").write_text("label,youtube_id,time_start,time_end,split\nwave,id,1,11,train\n")
    assert [v.path.parent.name for v in Kinetics(tmp_path / "k.csv").videos()] == ["wave"]


@pytest.mark.parametrize(("parts", "split", "said"), [
    (["train", "test"], {"train": "train", "test": "test"}, []),
    (["Training", "Val"], {"train": "Training", "test": "Val"}, ["split 1: Val/ is the test part"]),
    (["train", "val", "test"], {"train": "train", "test": "test", "validation": "val"},
     ["split 1: val/ is neither trained on nor tested"]),
])  # fmt: skip
def test_folders_of_parts_are_the_split(parts, split, said, tmp_path):
    root = touched(
        tmp_path, *(f"{part}/{name}/{part}.mp4" for part in parts for name in ("run", "jump")), "a.mp4", "new/run/b.mp4"
    )
    folder = Folder(root)
    assert {video.class_name for video in folder.videos()} == {"run", "jump"}
    assert folder.splits() == {
        "1": {part: [f"{top}/jump/{top}.mp4", f"{top}/run/{top}.mp4"] for part, top in split.items()}
    }
    assert [*folder.notes(folder.videos()), *folder.split_notes()] == said
    assert {item.path.name for item in folder.left_out()} == {"a.mp4", "b.mp4"}
    assert all(item.reason.startswith("outside ") for item in folder.left_out())


@pytest.mark.parametrize(("names", "classes", "said"), [
    (["videos/run/a.mp4", "videos/jump/b.mp4", "splits/1.txt"], {"run", "jump"}, ["the class folders are those in videos/"]),
    (["Clips/train/run/a.mp4", "Clips/test/run/b.mp4"], {"run"}, ["the class folders are those in Clips/"]),
    (["videos/run/a.mp4", "videos/b.mp4"], {"videos"}, None),
    (["videos/run/a.mp4", "run/b.mp4"], {"videos", "run"}, None),
    (["walk/ann/a.mp4", "walk/bob/b.mp4"], {"walk"}, None),
])  # fmt: skip
def test_class_folders_may_lie_in_a_folder_called_videos(names, classes, said, tmp_path):
    folder = Folder(touched(tmp_path, *names))
    videos = folder.videos()
    assert {video.class_name for video in videos} == classes
    assert all(video.path.is_file() for video in videos)
    if said:
        assert list(folder.notes(videos)) == said and videos[0].id.count("/") == names[0].count("/") - 1


def test_parts_without_classes_are_refused(tmp_path):
    """Classes called train and test would be wrong labels."""
    root = touched(tmp_path / "v", "train/a.mp4", "test/b.mp4")
    with pytest.raises(DataError, match="its videos are in no class folders"):
        Folder(root).videos()
    assert ids(touched(tmp_path / "w", "train/a.mp4", "test/b.mp4", "car/c.mp4")) == [
        "car/c.mp4",
        "test/b.mp4",
        "train/a.mp4",
    ]


def test_a_folder_without_class_folders_is_one_line(tmp_path):
    root = touched(tmp_path / "v", "a.mp4", "b.mp4")
    result = call("prepare", root, "mine", "-w", tmp_path)
    assert result.exit_code == 1
    assert errors_of(result) == [
        f"{root}: no videos in folders named after classes (CLASS/VIDEO.mp4); 2 lie in no folder"
    ]


def test_file_that_crashes_ffmpeg_is_left_out(tmp_path):
    """Files of unknown endings, and headers, are looked at in a process of their own."""
    clip = film(tmp_path / "v" / "run" / "a.avi", moving(3, 32, 32)).read_bytes()
    for name in ("b.avi", "crash", "d.dat"):
        (tmp_path / "v" / "run" / name).write_bytes(clip)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(CRASHING)
    line = ["prepare", tmp_path / "v", "mine", "--flow", "farneback", "--workers", "1", "-w", tmp_path]
    result = subprocess.run(
        [STMN, *line],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines()[0] == "1 file left out: 1 on which FFmpeg hangs or crashes"
    assert "most videos are smaller than the short side, 256 pixels, such as 32x32" in result.stderr
    with Store(tmp_path / "data" / "mine") as store:
        assert sorted(store.videos) == ["run/a.avi", "run/b.avi", "run/d.dat"]


CRASHING = """
import av, os
def open_or_crash(file, *args, **options):
    number = options.get("options", {}).get("fd", 0)
    if os.readlink(f"/proc/self/fd/{number}").endswith("/crash"):
        os._exit(3)
    return really_open(file, *args, **options)
really_open, av.open = av.open, open_or_crash
"""


@pytest.mark.parametrize("part", ["train", "Val"])
def test_one_part_alone_holds_the_classes(part, tmp_path):
    """As it is left of a download: the part is no class."""
    found = Folder(touched(tmp_path, *(f"{part}/{name}/{n}.mp4" for name in ("run", "jump") for n in range(5))))
    videos = found.videos()
    assert {video.class_name for video in videos} == {"run", "jump"} and videos[0].id == f"{part}/jump/0.mp4"
    assert sorted(map(len, found.splits()["1"].values())) == [4, 6]
    assert list(found.notes(videos)) == [
        f"there is {part}/ alone: its folders are the classes, and the split is made here"
    ]
    # without folders inside it is a class like any other
    assert [video.class_name for video in Folder(touched(tmp_path / "b", f"{part}/a.mp4")).videos()] == [part]


def test_video_in_place_of_a_folder_is_one_line(tmp_path):
    clip = film(tmp_path / "a.mp4", moving(2))
    assert errors_of(call("prepare", clip, "mine", "-w", tmp_path)) == [
        f"{clip}: is a file; name the folder that holds the folders of classes, or a list of videos"
    ]
