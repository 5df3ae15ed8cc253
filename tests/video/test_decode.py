"""Decoding and writing video files."""

import numpy as np
import pytest
from helpers.films import film, moving

from stmn.datasets.synthetic import Synthetic
from stmn.errors import DataError
from stmn.video.decode import decode_video, probe_video
from stmn.video.write import write_video


def test_frames_come_in_order_at_the_asked_size(tmp_path):
    pictures = moving(5, 48, 64, dx=4)
    path = film(tmp_path / "a.mkv", pictures, "ffv1", "yuv444p")
    assert (probe_video(path).width, probe_video(path).height, probe_video(path).fps) == (64, 48, 25.0)
    for given, found in zip(pictures, decode_video(path), strict=True):
        assert (found.shape, found.dtype) == ((48, 64, 3), np.uint8)
        assert np.abs(found.astype(int) - given).mean() < 3
    assert [frame.shape for frame in decode_video(path, short_side=24)] == [(24, 32, 3)] * 5


def test_written_video_is_read_again(tmp_path):
    pictures = moving(5, 48, 64, dx=9)
    write_video(tmp_path / "a.mp4", pictures)
    for given, found in zip(pictures, decode_video(tmp_path / "a.mp4"), strict=True):
        assert np.abs(found.astype(int) - given).mean() < 12
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_same_pictures_are_the_same_file_each_time(tmp_path):
    """x264's code for AVX-512 wrote another one now and then, by where things lay in memory."""
    rendered = Synthetic(tmp_path, train=24, test=12)
    [video] = [video for video in rendered.videos() if video.id == "train/which_moves_00006.mp4"]
    rng, lying_about, files = np.random.default_rng(0), [], set()
    for _ in range(60):
        write_video(tmp_path / "a.mp4", rendered.render(video))
        files.add((tmp_path / "a.mp4").read_bytes())
        lying_about = [*lying_about[-20:], rng.bytes(int(rng.integers(1, 100_000)))]
    assert len(files) == 1


def test_unfinished_file_never_has_its_name(tmp_path):
    def broken():
        yield from moving(3, 48, 64)
        raise RuntimeError("out of pictures")

    with pytest.raises(RuntimeError, match="out of pictures"):
        write_video(tmp_path / "a.mp4", broken())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["take:2.mkv", "concat:a|b.mkv", "pipe:0.mkv", "50%.mkv"])
def test_relative_path_is_never_an_address(name, tmp_path, monkeypatch):
    film(tmp_path / name, moving(3), "ffv1")
    monkeypatch.chdir(tmp_path)
    assert len(list(decode_video(name))) == 3


@pytest.mark.parametrize(("name", "content", "words"), [
    ("none.avi", None, "none.avi: no such video file"),
    ("text.avi", b"text", "text.avi: not a readable video: Invalid data found when processing input"),
])  # fmt: skip
def test_unreadable_video_is_named(name, content, words, tmp_path):
    if content:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(decode_video(tmp_path / name))
    assert str(caught.value) == f"{tmp_path}/{words}"


def test_video_in_an_unknown_format_is_named(tmp_path):
    path = film(tmp_path / "a.avi", moving(3))
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"Q9Z7"))
    with pytest.raises(DataError, match=r"a\.avi: its video is in a format that FFmpeg can't decode$"):
        probe_video(path)
    with pytest.raises(DataError, match="in a format that FFmpeg can't decode"):
        next(decode_video(path))
