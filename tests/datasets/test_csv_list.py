"""A CSV of videos: classes, groups and splits as a table."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import call, errors_of
from helpers.films import film, moving

from stmn.datasets.csv_list import CsvList
from stmn.errors import DataError
from stmn.idt.source import TrackSource
from stmn.idt.trajectories.parameters import TrackParameters
from stmn.store.format.read import Store
from stmn.video.decode import decode_video

FAST = ["--short-side", "32", "--workers", "1", "--flow", "farneback"]


def listed(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")
    return path


def test_list_is_all_that_prepare_needs(tmp_path):
    """Paths are relative to the list, or absolute; a missing file is skipped, and counted."""
    film(tmp_path / "films" / "clips" / "a.mp4", moving(3, 32, 32))
    film(tmp_path / "films" / "née, two words.mp4", moving(4, 32, 32))
    elsewhere = film(tmp_path / "elsewhere" / "c.mp4", moving(5, 32, 32))
    path = listed(
        tmp_path / "films" / "actions.csv",
        "path,class,group,split",
        "./clips/a.mp4,wave,anna,train",
        '"née, two words.mp4",clap your hands,bert,test',
        "",
        f"{elsewhere},wave,carl,",
        "gone.mp4,wave,anna,train",
    )
    result = call("prepare", path, *FAST, "-w", tmp_path, "--allow-failures", "1")
    assert result.exit_code == 0, result.stderr
    assert "skipped 'gone.mp4': " in result.stderr
    with Store(tmp_path / "data" / "actions") as store:
        assert {v.id: (v.class_name, v.group, v.frames) for v in store.videos.values() if v.status == "ok"} == {
            "clips/a.mp4": ("wave", "anna", 3), "née, two words.mp4": ("clap your hands", "bert", 4),
            str(elsewhere): ("wave", "carl", 5),
        }  # fmt: skip
        assert "no such video file" in store.videos["gone.mp4"].reason
        assert store.header.dataset["name"] == "csv"
        assert store.header.splits == {
            "1": {"train": ["clips/a.mp4", "gone.mp4"], "test": ["née, two words.mp4"]},
        }  # fmt: skip
    counts = json.loads((tmp_path / "data" / "actions" / "run.json").read_text())["results"]
    assert (counts["videos"], counts["ok"], counts["skipped"]) == (4, 3, 1)


def test_several_splits(tmp_path):
    path = listed(tmp_path / "a.csv", "path;class;Split1;split2;fps", "a.avi;wave;train;test;25", "b.avi;wave;TEST;;25")
    dataset = CsvList(path)
    assert dataset.splits() == {
        "1": {"train": ["a.avi"], "test": ["b.avi"]}, "2": {"train": [], "test": ["a.avi"]},
    }  # fmt: skip
    assert [(v.id, v.path, v.class_name) for v in dataset.videos()] == [
        ("a.avi", tmp_path / "a.avi", "wave"), ("b.avi", tmp_path / "b.avi", "wave"),
    ]  # fmt: skip


def test_without_a_split_whole_groups_are_tested(tmp_path):
    rows = [f"{c}/{person}{n}.avi,{c},p{person}" for c in ("wave", "clap") for person in range(10) for n in range(3)]
    dataset = CsvList(listed(tmp_path / "a.csv", "path,class,group", *rows), test_share=0.2)
    groups = {v.id: v.group for v in dataset.videos()}
    [parts] = dataset.splits().values()
    train, test = ({groups[i] for i in parts[part]} for part in ("train", "test"))
    assert not train & test
    assert (len(parts["train"]), len(parts["test"])) == (48, 12)
    # without groups, videos of each class
    dataset = CsvList(listed(tmp_path / "b.csv", "path,class", *(row.rpartition(",")[0] for row in rows)))
    [parts] = dataset.splits().values()
    assert [sum(i.startswith(c) for i in parts["test"]) for c in ("wave", "clap")] == [9, 9]


def test_files_of_spreadsheets_and_old_disks_are_read(tmp_path):
    """A byte-order mark, Windows line ends, blanks, quoted lines, names that are not UTF-8."""
    text = b'\xef\xbb\xbfPath, Class ,split\r\n a.avi , wave,train\r\n"two\nlines.avi",wave,test\r\nlatin\xe9.avi,wave,test\r\n'
    (tmp_path / "a.csv").write_bytes(text)
    videos = CsvList(tmp_path / "a.csv").videos()
    assert [v.id for v in videos] == ["a.avi", "two\nlines.avi", "latin\\xe9.avi"]
    assert os.fsencode(videos[2].path).endswith(b"/latin\xe9.avi")
    assert CsvList(tmp_path / "a.csv").splits()["1"]["test"] == ["two\nlines.avi", "latin\\xe9.avi"]


@pytest.mark.parametrize(("lines", "words"), [
    (["path,class", "a.avi"], "line 2: 1 cells, but the header has 2"),
    (["path,class", "a.avi,wave", ",wave"], "line 3: no path"),
    (["path,class", "a.avi,"], "line 2: no class"),
    (["path,class", "a.avi,wave", "", "./a.avi,clap"], "line 4: the same path as in line 2: a.avi"),
    (["path,class,split", "a.avi,wave,tain"], "line 2: split is 'tain' (did you mean 'train'?); it must be train, val, test or empty"),
    (["path,class,split2,split3", "a.avi,,,x"], "line 2: no class (1 more line is wrong)"),
    (["path,klass", "a.avi,wave"], "line 1: no column 'class'; it has: path, klass"),
    (["path,class,gruop", "a.avi,wave,g"], "line 1: unknown column 'gruop' (did you mean 'group'?)"),
    (["path,class,class", "a.avi,wave,g"], "line 1: two columns 'class'"),
    (["path,class,split,split2", "a.avi,wave,train,test"], "line 1: columns 'split' and 'split2'; write split1, split2, ..."),
    (["path,class", '"a.avi,wave'], "line 2: unexpected end of data"),
    (["path,class"], "lists no videos"),
    (["file,label", "a.avi,wave"], "line 1: not a list of videos: it needs the columns path, class (and group, split), or those of Kinetics or AVA; it has: file, label"),
    ([""], "line 1: not a list of videos: it needs the columns path, class (and group, split), or those of Kinetics or AVA; it has: none"),
])  # fmt: skip
def test_error_is_one_line_that_names_the_line(lines, words, tmp_path):
    path = listed(tmp_path / "a.csv", *lines)
    result = call("prepare", path, "mine", *FAST, "-w", tmp_path)
    assert result.exit_code == 1
    [line] = errors_of(result)
    assert line.startswith(str(path))
    assert words in line
    assert not (tmp_path / "data").exists()


def test_missing_list_is_named(tmp_path):
    result = call("prepare", tmp_path / "none.csv", "mine", "-w", tmp_path)
    assert errors_of(result) == [f"{tmp_path / 'none.csv'}: no such CSV file"]
    with pytest.raises(DataError, match="no such CSV file"):
        CsvList(tmp_path)


def test_one_file_written_in_two_ways_is_one_video(tmp_path):
    for other in ("./clips/a.avi", "clips//a.avi", "clips/../clips/a.avi", f"{tmp_path}/clips/a.avi"):
        path = listed(tmp_path / "a.csv", "path,class", "clips/a.avi,wave", f"{other},clap")
        with pytest.raises(DataError, match="line 3: the same path as in line 2: "):
            CsvList(path)
    assert [v.id for v in CsvList(listed(path, "path,class", "x/../clips/./a.avi,wave")).videos()] == ["clips/a.avi"]


def test_class_corrected_in_the_list_changes_in_the_store(tmp_path):
    film(tmp_path / "a.mp4", moving(3, 32, 32))
    path = listed(tmp_path / "a.csv", "path,class,group,split", "a.mp4,wvae,g1,train")
    assert call("prepare", path, "mine", *FAST, "-w", tmp_path).exit_code == 0
    listed(path, "path,class,group,split", "a.mp4,wave,g2,test")
    assert call("prepare", path, "mine", *FAST, "-w", tmp_path).exit_code == 0
    with Store(tmp_path / "data" / "mine") as store:
        [video] = store.part("1", "test")
        assert (video.class_name, video.group, store.header.classes) == ("wave", "g2", ["wave"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings_and_line_ends(encoding, end, tmp_path):
    """Spreadsheets save "Unicode text" as UTF-16."""
    text = end.join(["path\tclass\tsplit", "née.avi\tça\ttrain", '" b.avi "\twave\tval', "\t\t", ""])
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    dataset = CsvList(tmp_path / "a.csv")
    assert [(v.id, v.class_name) for v in dataset.videos()] == [("née.avi", "ça"), ("b.avi", "wave")]
    assert dataset.splits() == {"1": {"train": ["née.avi"], "test": ["b.avi"]}}


@pytest.mark.parametrize(("content", "said"), [
    (b"path,class\na.avi,w\x00ave\n", "is not text; name a folder of videos, or a list of them as CSV"),
    (b"\xff\xfep\x00a\x00\x00\xd8", "is damaged UTF-16 text; save it as UTF-8"),
])  # fmt: skip
def test_what_is_no_text_is_one_line(content, said, tmp_path):
    (tmp_path / "a.csv").write_bytes(content)
    [line] = errors_of(call("prepare", tmp_path / "a.csv", "mine", "-w", tmp_path))
    assert line == f"{tmp_path / 'a.csv'}: {said}"


@pytest.mark.parametrize("written", [
    r"clips\A b.mp4", "Clips/a B.MP4", "clips/A b", "clips/A b.avi", r"C:\films\clips\A b.mp4", "/home/anna/clips/A b.mp4",
    "'clips/A b.mp4'", "films/clips/A b.mp4",
])  # fmt: skip
def test_path_that_is_written_otherwise_is_found(written, tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "A b.mp4").touch()
    dataset = CsvList(listed(tmp_path / "a.csv", "path,class,split", f"{written},wave,train"))
    [video] = dataset.videos()
    assert (video.id, video.path) == ("clips/A b.mp4", tmp_path / "clips" / "A b.mp4")
    assert dataset.splits()["1"]["train"] == [video.id]
    assert list(dataset.notes([video])) == [
        f"1 name of the list is spelled differently on disk, such as '{written}', which is 'clips/A b.mp4'"
    ]


def test_path_that_fits_several_files_or_none_is_not_found(tmp_path):
    (tmp_path / "clips").mkdir()
    for name in ("a.mp4", "A.mp4", "b.mp4", "b.avi"):
        (tmp_path / "clips" / name).touch()
    (tmp_path / "1.mp4").touch()
    path = listed(tmp_path / "a.csv", "path,class", "clips/A.MP4,x", "clips/b,x", "clips/b.mp4,x", "wave/1.mp4,x")
    dataset = CsvList(path)
    assert [bool(dataset.lacks(v)) for v in dataset.videos()] == [True, True, False, True]


def test_columns_that_are_not_used_are_named(tmp_path):
    dataset = CsvList(listed(tmp_path / "a.csv", "path,class,fps,note", "a.avi,wave,25,"))
    assert list(dataset.notes(dataset.videos())) == ["columns not used: fps, note"]


# segments


def test_segments_of_one_file(tmp_path):
    """Frames t with start <= t < end, at 25 frames per second; segments of a file are a group."""
    clip = film(tmp_path / "a.mp4", moving(50, 32, 32))
    path = listed(
        tmp_path / "a.csv", "path,class,start,end", "a.mp4,wave,0.4,0.8", "a.mp4,clap,0:00:00.8,", "a.mp4,run,,0.4",
        "a.mp4,sit,2.1,3",
    )  # fmt: skip
    result = call("prepare", path, "mine", *FAST, "-w", tmp_path, "--allow-failures", "1")
    assert result.exit_code == 0, result.stderr
    with Store(tmp_path / "data" / "mine") as store:
        assert {v.id: (v.class_name, v.frames, v.group) for v in store.videos.values()} == {
            "a.mp4#0.4-0.8": ("wave", 10, "a.mp4"), "a.mp4#0.8-": ("clap", 30, "a.mp4"), "a.mp4#0-0.4": ("run", 10, "a.mp4"),
            "a.mp4#2.1-3": ("sit", 0, "a.mp4"),
        }  # fmt: skip
        whole = np.stack(list(decode_video(clip, 32))[:32]).astype(int)  # then the picture comes round again
        kept = store.frames("a.mp4#0.4-0.8", [0, 9]).permute(0, 2, 3, 1).numpy()
        assert [int(np.abs(whole - frame).mean((1, 2, 3)).argmin()) for frame in kept] == [10, 19]
        assert "its segment 2.1-3 s: holds no frames" in store.videos["a.mp4#2.1-3"].reason
    os.utime(clip, ns=(10**9, 10**9))
    again = call("prepare", path, "mine", *FAST, "-w", tmp_path, "--allow-failures", "1")
    assert "preparing it again" not in again.stderr


@pytest.mark.parametrize(("lines", "words"), [
    (["path,class,start,end", "a.avi,wave,3,2"], "line 2: ends at 2, not after its start, 3"),
    (["path,class,start,end", "a.avi,wave,x,2"], "line 2: start is 'x'; it must be seconds, such as 2.5, or H:MM:SS"),
    (["path,class,start,end", "a.avi,wave,1,2", "a.avi,clap,1.0,2"], "line 3: the same path as in line 2: a.avi#1-2"),
    (["path,class,start,start_time", "a.avi,wave,1,2"], "line 1: columns 'start' and 'start_time' both say the start"),
    (["path,class,start_frame", "a.avi,wave,1"], "line 1: column 'start_frame': give the start in seconds, as 'start'"),
])  # fmt: skip
def test_wrong_segments_are_one_line(lines, words, tmp_path):
    with pytest.raises(DataError) as caught:
        CsvList(listed(tmp_path / "a.csv", *lines))
    assert words in str(caught.value)


# lists without a header line


@pytest.mark.parametrize(("name", "lines", "columns", "first"), [
    ("a.csv", ["clips/a.mp4,wave", "b.mp4,clap"], "path, class", ("clips/a.mp4", "wave")),
    ("a.tsv", ["clips/a.mp4\tlong jump", "b.mp4\tclap"], "path, class", ("clips/a.mp4", "long jump")),
    ("a.txt", ["clips/my film.mp4 0", "b.mp4 1"], "path, class", ("clips/my film.mp4", "0")),
    ("a.csv", ["-5KQ6,902,903.5,wave", "b,1,2,clap"], "path, start, end, class", ("-5KQ6#902-903.5", "wave")),
])  # fmt: skip
def test_columns_are_guessed_and_named(name, lines, columns, first, tmp_path):
    dataset = CsvList(listed(tmp_path / name, *lines))
    videos = dataset.videos()
    assert (len(videos), (videos[0].id, videos[0].class_name)) == (2, first)
    assert list(dataset.notes(videos)) == [f"no header line: its columns are {columns}"]


def test_tracks_of_a_segment_stay_in_it(tmp_path):
    """Improved dense trajectories are read from the files."""
    still, moved = moving(1, 96, 128, seed=1)[0], moving(60, 96, 128, dx=2, seed=2)
    for picture in moved:
        picture[:40], picture[:, :40] = still[:40], still[:, :40]  # a part of the picture moves, not the camera
    film(tmp_path / "a.mp4", moved)
    path = listed(tmp_path / "a.csv", "path,class,start,end", "a.mp4,wave,0.4,1.2")
    [video] = CsvList(path).videos()
    rows = [tracks.rows for tracks in TrackSource(tmp_path, "videos", TrackParameters(), "csv", path).read(video)]
    ends = np.concatenate(rows)[:, 0]
    assert len(ends)
    assert ends.max() <= 19  # frames of the segment, from 0
