"""Unusual videos: rotated, of variable rate, of ten bits, with strange metadata, truncated."""

import io
import shutil
import struct
import uuid
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.films import film, moving
from PIL import Image

from stmn.errors import DataError
from stmn.video.decode import decode_video


def frames(path: Path) -> list:
    return list(decode_video(path))


def coarse(picture: np.ndarray) -> np.ndarray:
    """The mean colours of a 4 x 4 grid, which no codec changes much."""
    height, width = (side // 4 * 4 for side in picture.shape[:2])
    return picture[:height, :width].reshape(4, height // 4, 4, width // 4, 3).mean(axis=(1, 3))


@pytest.mark.parametrize(("matrix", "turns"), [
    ((1, 0, 0, 1), 0), ((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1),
])  # fmt: skip
def test_rotated_video_is_decoded_upright(matrix, turns, tmp_path):
    """The matrix of an MP4's track takes (x, y) to (a x + c y, b x + d y); phones write the second one."""
    [picture] = moving(1, 48, 64, seed=4)
    data = film(tmp_path / "a.mp4", [picture] * 3, "libx264", "yuv444p").read_bytes()
    place = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    written = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(data[:place] + written + data[place + 36 :])
    upright = np.rot90(picture, turns)
    for found in frames(tmp_path / "a.mp4"):
        assert found.shape == upright.shape
        assert np.abs(coarse(found) - coarse(upright)).max() < 6
    # the short side is that of the upright frame
    assert {frame.shape[:2] for frame in decode_video(tmp_path / "a.mp4", 24)} == {(32, 24) if turns % 2 else (24, 32)}


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_each_frame_of_a_variable_rate_video_comes_once(ending, tmp_path):
    pictures = moving(6, 48, 64, dx=9)
    with av.open(str(tmp_path / f"a.{ending}"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for milliseconds, picture in zip((0, 40, 50, 500, 510, 2000), pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    for given, found in zip(pictures, frames(tmp_path / f"a.{ending}"), strict=True):
        assert np.abs(coarse(found) - coarse(given)).max() < 10


@pytest.mark.parametrize(("codec", "pix_fmt", "colour"), [
    ("ffv1", "yuv420p10le", True), ("libx264", "yuv420p10le", True), ("ffv1", "gray10le", False), ("ffv1", "gray16le", False),
])  # fmt: skip
def test_ten_and_sixteen_bits_are_decoded_to_eight(codec, pix_fmt, colour, tmp_path):
    pictures = moving(3, 48, 64)
    for given, found in zip(pictures, frames(film(tmp_path / "a.mkv", pictures, codec, pix_fmt)), strict=True):
        assert found.dtype == np.uint8
        if colour:
            assert np.abs(coarse(found) - coarse(given)).max() < 10
        else:
            assert np.ptp(found, axis=2).max() <= 2, "grey"
            luma = given @ np.array([0.299, 0.587, 0.114])
            assert np.abs(found.mean(axis=2) - luma).mean() < 4


def test_metadata_that_are_not_utf8(tmp_path):
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Pippi XXXX"
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for picture in moving(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    data = path.read_bytes()
    assert b"XXXX" in data
    path.write_bytes(data.replace(b"XXXX", b"L\xe4ng"))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(path))
    assert len(frames(path)) == 3


def with_picture(wmv: bytes, picture: bytes) -> bytes:
    """A WMV with a picture attached: `WM/Picture` in an Extended Content Description Object of ASF's header."""
    value = b"\x03" + struct.pack("<I", len(picture)) + "image/png\0".encode("utf-16-le") + "\0".encode("utf-16-le")
    value += picture  # 3: the front cover
    name = "WM/Picture\0".encode("utf-16-le")
    content = struct.pack("<HH", 1, len(name)) + name + struct.pack("<HH", 1, len(value)) + value
    guid = uuid.UUID("D2D0A440-E307-11D2-97F0-00A0C95EA850").bytes_le
    added = guid + struct.pack("<Q", 24 + len(content)) + content
    size, count = struct.unpack_from("<QI", wmv, 16)  # of the Header Object
    return wmv[:16] + struct.pack("<QI", size + len(added), count + 1) + wmv[28:30] + added + wmv[30:]


def test_picture_attached_to_a_wmv_is_no_film(tmp_path):
    film(tmp_path / "a.wmv", moving(5), "wmv2")
    expected = frames(tmp_path / "a.wmv")
    png = io.BytesIO()
    Image.new("RGB", (24, 24), "red").save(png, "png")
    (tmp_path / "b.wmv").write_bytes(with_picture((tmp_path / "a.wmv").read_bytes(), png.getvalue()))
    with av.open(str(tmp_path / "b.wmv")) as container:  # FFmpeg sees the picture
        assert [stream.codec_context.name for stream in container.streams.video].count("png") == 1
    found = frames(tmp_path / "b.wmv")
    assert len(found) == 5 and all((one == other).all() for one, other in zip(expected, found, strict=True))


def test_real_metadata_that_are_not_utf8(shared_data):
    [clip] = shared_data.glob("clips/hmdb51_*cartwheel*")
    assert len(frames(clip)) == 83


def test_a_header_without_frames(tmp_path):
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    assert frames(tmp_path / "a.avi") == []


@pytest.mark.parametrize(("ending", "codec", "options", "words"), [
    ("avi", "mpeg4", {}, r"breaks off after \d+ of 100 frames"),
    ("mkv", "libx264", {}, r"breaks off after \d+ of \d+ frames"),
    ("webm", "libvpx", {}, r"breaks off after \d+ of \d+ frames"),
    ("flv", "flv", {}, r"breaks off after \d+ of \d+ frames"),
    ("wmv", "wmv2", {}, r"breaks off after \d+ of \d+ frames"),
    ("mp4", "libx264", {"movflags": "faststart"}, r"(breaks off after|lacks) \d+ of .*100 frames"),
    ("mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}, r"(breaks off after|lacks) \d+ of .*\d+ frames"),
    ("mp4", "libx264", {}, "not a readable video"),  # its index is at the end
])  # fmt: skip
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_truncated_video_is_an_error_after_its_frames(ending, codec, options, words, share, tmp_path):
    whole = tmp_path / f"whole.{ending}"
    with av.open(str(whole), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for picture in moving(100):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    assert len(frames(whole)) == 100
    part = tmp_path / f"part.{ending}"
    part.write_bytes(whole.read_bytes()[: round(share * whole.stat().st_size)])
    with pytest.raises(DataError, match=rf"part\.{ending}: {words}"):
        frames(part)


def test_header_with_a_few_frames_too_many_is_accepted(tmp_path):
    """As in most of HMDB51 and UT-Interaction."""
    data = film(tmp_path / "a.avi", moving(50)).read_bytes()
    assert data.count(struct.pack("<I", 50)) >= 2  # in the file's header and in the stream's
    (tmp_path / "a.avi").write_bytes(data.replace(struct.pack("<I", 50), struct.pack("<I", 52)))
    with av.open(str(tmp_path / "a.avi")) as container:
        assert container.streams.video[0].frames == 52
    assert len(frames(tmp_path / "a.avi")) == 50


def test_real_clips_are_whole(shared_data, tmp_path):
    clips = sorted(shared_data.glob("clips/*.avi"))[:3] + sorted(shared_data.glob("ut_interaction/videos/*/*g01*"))[:2]
    assert len(clips) == 5
    for clip in clips:
        shutil.copy(clip, tmp_path)
        assert len(frames(tmp_path / clip.name)) > 40
