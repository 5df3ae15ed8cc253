"""Files of tracks and of boxes."""

import gzip

import numpy as np
import pytest

from stmn.errors import DataError
from stmn.idt.trajectories.boxes import read_boxes
from stmn.idt.trajectories.tracks import Tracks, read_tracks, write_tracks


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(3, 436)).astype(np.float32)


@pytest.mark.parametrize("name", ["clip.txt", "clip.txt.gz"])
def test_rows_survive_as_text(rows, name, tmp_path):
    write_tracks(tmp_path / name, Tracks(rows))
    read = read_tracks(tmp_path / name)
    assert np.array_equal(read.rows, rows)
    assert read.points is None


def test_text_is_that_of_the_original_program(rows, tmp_path):
    write_tracks(tmp_path / "a.gz", Tracks(rows))
    lines = gzip.decompress((tmp_path / "a.gz").read_bytes()).decode().splitlines()
    assert [len(line.split("\t")) for line in lines] == [436] * 3
    assert [np.float32(word) for word in lines[1].split("\t")] == rows[1].tolist()


def test_parts_of_a_row(rows):
    tracks = Tracks(rows)
    parts = [tracks.info, tracks.trajectory, tracks.hog, tracks.hof, tracks.mbhx, tracks.mbhy]
    assert [part.shape[1] for part in parts] == [10, 30, 96, 108, 96, 96]
    assert np.array_equal(np.concatenate(parts, axis=1), rows)
    assert len(Tracks.INFO) == 10


def test_no_tracks_are_a_file_too(tmp_path):
    write_tracks(tmp_path / "none.txt", Tracks(np.zeros((0, 436), np.float32)))
    assert read_tracks(tmp_path / "none.txt").rows.shape == (0, 436)


def test_rows_with_points_are_read(rows, tmp_path):
    points = np.arange(90, dtype=np.float32).reshape(3, 30)
    wide = np.concatenate([rows[:, :10], points, rows[:, 10:]], axis=1)
    np.savetxt(tmp_path / "wide.txt", wide, fmt="%.9g", delimiter=" ")
    read = read_tracks(tmp_path / "wide.txt")
    assert np.array_equal(read.rows, rows)
    assert np.array_equal(read.points, points.reshape(3, 15, 2))


@pytest.mark.parametrize(("text", "message"), [
    ("\t".join(["1"] * 435), "line 1: 435 columns, not 436"),
    ("\t".join(["1"] * 436) + "\n" + "\t".join(["1"] * 466), "line 2: 466 columns, not 436"),
    ("\t".join(["1"] * 435 + ["x"]), "line 1: 'x' is not a number"),
    ("\xff\xfe", "is not text of numbers"),
])  # fmt: skip
def test_wrong_files_are_named_with_their_line(text, message, tmp_path):
    path = tmp_path / "wrong.txt"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message) as caught:
        read_tracks(path)
    assert str(caught.value).startswith(str(path))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="can't be read"):
        read_tracks(tmp_path / "none.txt")
    (tmp_path / "plain.gz").write_text("1\t2\n")
    with pytest.raises(DataError, match="can't be read"):
        read_tracks(tmp_path / "plain.gz")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"1\t" * 9000)[:20])
    with pytest.raises(DataError, match="can't be read"):
        read_tracks(tmp_path / "cut.gz")


def test_boxes_of_a_frame(tmp_path):
    path = tmp_path / "clip.bb"
    path.write_text("0\n1 10 20 30 40 0.9\n2 1 2 3 4 0.5 5 6 7 8 0.4\n")
    boxes = read_boxes(path)
    assert {frame: found.tolist() for frame, found in boxes.items()} == {
        0: [], 1: [[10, 20, 30, 40]], 2: [[1, 2, 3, 4], [5, 6, 7, 8]],
    }  # fmt: skip


@pytest.mark.parametrize("line", ["1 10 20 30 40", "1.5 1 2 3 4 5", "1 a b c d e", "1 10 20 nan 40 0.9"])
def test_boxes_that_make_no_sense(line, tmp_path):
    (tmp_path / "clip.bb").write_text(f"0 1 2 3 4 1\n{line}\n")
    with pytest.raises(DataError, match=r"clip\.bb, line 2: "):
        read_boxes(tmp_path / "clip.bb")
