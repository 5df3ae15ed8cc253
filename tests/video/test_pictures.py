"""A video's pictures are those that a player shows: shape, orientation, colours, and which stream is the film."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from helpers.films import film, moving

from stmn.errors import DataError
from stmn.video.decode import decode_video, iter_frames

#: what red and blue weigh in the luma
BT601, BT709, BT2020 = (0.299, 0.114), (0.2126, 0.0722), (0.2627, 0.0593)
RED, GREEN, GREY = (200, 40, 60), (30, 180, 90), (128, 128, 128)


def flat(colour: tuple[int, ...], height: int = 48, width: int = 64) -> np.ndarray:
    """A picture of one colour."""
    return np.full((height, width, len(colour)), colour, np.uint8)


def first(path: Path, short_side: int | None = None) -> np.ndarray:
    return next(decode_video(path, short_side))


def stretched(path: Path, pictures: list, pixel: Fraction) -> Path:
    """A film whose pixels are `pixel` times as wide as high."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.codec_context.qmax = "yuv420p", 3
        stream.codec_context.sample_aspect_ratio = pixel
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def with_matrix(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """The same MP4 with another display matrix, which takes (x, y) to (a x + c y, b x + d y)."""
    data = path.read_bytes()
    place = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    path.write_bytes(data[:place] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[place + 36 :])
    return path


@pytest.mark.parametrize(("pixel", "shape"), [
    (Fraction(16, 11), (24, 47, 3)),  # 64 x 1.45 by 48
    (Fraction(1, 2), (36, 24, 3)),
    (Fraction(1), (24, 32, 3)),
    (Fraction(200), (24, 32, 3)),  # no pixel is like that: the header is damaged
])  # fmt: skip
def test_pixels_become_square(pixel, shape, tmp_path):
    path = stretched(tmp_path / "a.mp4", moving(3), pixel)
    assert first(path, 24).shape == shape
    full = {Fraction(16, 11): (48, 93), Fraction(1, 2): (96, 64)}.get(pixel, (48, 64))
    frame = next(iter_frames(path))
    assert frame.size == full == frame.picture().shape[:2]


@pytest.mark.parametrize(("matrix", "shown"), [
    ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    ((1, 0, 0, -1), lambda p: p[::-1]),
    ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
    ((0, -1, -1, 0), lambda p: p.transpose(1, 0, 2)[::-1, ::-1]),
])  # fmt: skip
def test_mirrored_video_is_shown_as_its_matrix_says(matrix, shown, tmp_path):
    [picture] = moving(1, 48, 64, seed=4)
    path = with_matrix(film(tmp_path / "a.mp4", [picture] * 2, "libx264", "yuv444p"), matrix)
    assert np.abs(first(path).astype(int) - shown(picture)).mean() < 8


def test_turned_video_of_wide_pixels(tmp_path):
    path = with_matrix(stretched(tmp_path / "a.mp4", moving(3), Fraction(2)), (0, 1, -1, 0))
    assert first(path).shape == (128, 48, 3) and first(path, 24).shape == (64, 24, 3)


def with_clap(path: Path, width: int, height: int, right: int, down: int) -> Path:
    """The same MP4 with a clean aperture of this size, whose middle lies `right` and `down` of the picture's."""
    data = bytearray(path.read_bytes())
    box = struct.pack(">I4s8i", 40, b"clap", width, 1, height, 1, right, 1, down, 1)
    at, end, sizes = 0, len(data), []
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        while data[at + 4 : at + 8] != name:
            at += struct.unpack(">I", data[at : at + 4])[0]
        sizes.append(at)
        end = at + struct.unpack(">I", data[at : at + 4])[0]
        at += 16 if name == b"stsd" else 8
    for place in sizes:
        data[place : place + 4] = struct.pack(">I", struct.unpack(">I", data[place : place + 4])[0] + len(box))
    data[end:end] = box
    path.write_bytes(data)
    return path


def test_cropping_of_an_mp4(tmp_path):
    pictures = moving(2, 48, 64, seed=4)
    path = with_clap(film(tmp_path / "a.mp4", pictures, "libx264", "yuv444p"), 40, 30, 4, -3)
    found = first(path)
    assert found.shape == (30, 40, 3) and next(iter_frames(path)).size == (30, 40)
    assert np.abs(found.astype(int) - pictures[0][6:36, 16:56]).mean() < 8
    assert first(path, 15).shape == (15, 20, 3)


def test_cropping_of_a_matroska_file(tmp_path):
    pictures = moving(2, 48, 64, seed=4)
    path = film(tmp_path / "a.mkv", pictures, "ffv1", "yuv444p")
    unit, left = bytes.fromhex("54b28104"), bytes.fromhex("54cc8108")  # DisplayUnit, PixelCropLeft of 8
    assert path.read_bytes().count(unit) == 1
    path.write_bytes(path.read_bytes().replace(unit, left))
    assert np.abs(first(path).astype(int) - pictures[0][:, 8:]).mean() < 3


def test_cropping_that_leaves_nothing_is_ignored(tmp_path):
    path = with_clap(film(tmp_path / "a.mp4", moving(2), "libx264", "yuv444p"), 64, 48, 100, 0)
    assert first(path).shape == (48, 64, 3)


def test_odd_sides_are_kept(tmp_path):
    pictures = moving(3, 47, 63)
    [found, *_] = decode_video(film(tmp_path / "a.mkv", pictures, "ffv1", "yuv444p"))
    assert found.shape == (47, 63, 3) and np.abs(found.astype(int) - pictures[0]).mean() < 3


def test_two_fields_become_one_picture(tmp_path):
    """A bar that moves 8 pixels from one field to the next: frames show it in steps of a comb, a player does not."""

    def bar(time: int) -> np.ndarray:
        picture = flat((20, 20, 20), 96, 128)
        picture[:, 8 * time : 8 * time + 16] = 220
        return picture

    path = tmp_path / "a.mpg"
    with av.open(str(path), "w") as container:
        options = {"flags": "+ilme+ildct", "qmin": "1", "qmax": "2"}
        stream = container.add_stream("mpeg2video", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 128, 96, "yuv420p", 4_000_000
        for number in range(6):
            woven = bar(2 * number)
            woven[1::2] = bar(2 * number + 1)[1::2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(woven, format="rgb24")))
        container.mux(stream.encode())
    frames = list(iter_frames(path))
    assert len(frames) == 6 and [round(25 * frame.seconds) for frame in frames] == list(range(6))
    for frame in frames[1:-1]:  # the comb has every other line 200 levels darker
        rows = frame.picture()[8:-8].astype(int)
        assert np.abs(rows[1:] - rows[:-1]).mean(axis=(0, 2)).max() < 30


def luma_chroma(colour: tuple[int, ...], red: float, blue: float, full: bool) -> tuple[int, int, int]:
    """8-bit Y, Cb, Cr of a colour, for a matrix that gives red and blue these weights in the luma."""
    r, g, b = (level / 255 for level in colour)
    y = red * r + (1 - red - blue) * g + blue * b
    chroma = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
    below, luma_levels, chroma_levels = (0, 255, 255) if full else (16, 219, 224)
    return round(below + luma_levels * y), *(round(128 + chroma_levels * level) for level in chroma)


def tagged(path: Path, planes: list[tuple[int, int, int]], width: int = 64, **tags: int) -> Path:
    """A film of pictures of one colour each, given as Y, Cb, Cr, with colour tags in its header."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, 48, "yuv444p"
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for levels in planes:
            frame = av.VideoFrame(width, 48, "yuv444p")
            for plane, level in zip(frame.planes, levels, strict=True):
                plane.update(bytes([level]) * plane.buffer_size)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("tag", "weights"), [(1, BT709), (6, BT601), (9, BT2020)])
def test_matrix_and_range_are_those_of_the_header(tag, weights, full, tmp_path):
    planes = [luma_chroma(colour, *weights, full) for colour in (RED, GREEN, GREY)]
    path = tagged(tmp_path / "a.mkv", planes, colorspace=tag, color_range=2 if full else 1)
    for found, colour in zip(decode_video(path), (RED, GREEN, GREY), strict=True):
        assert np.abs(found.astype(int) - colour).max() <= 3


@pytest.mark.parametrize(("width", "weights"), [(64, BT601), (1280, BT709)])
def test_matrix_of_a_header_that_names_none(width, weights, tmp_path):
    """As in players: large pictures have that of BT.709."""
    path = tagged(tmp_path / "a.mkv", [luma_chroma(GREEN, *weights, False)], width)
    assert np.abs(first(path).astype(int) - GREEN).max() <= 3


def test_matrix_that_is_not_known_is_a_guess(tmp_path):
    """YCgCo (8): the picture is there, its colours as of BT.601, and a note says so."""
    path = tagged(tmp_path / "a.mkv", [luma_chroma(GREEN, *BT601, False)] * 3, colorspace=8)
    notes: list[str] = []
    [frame, *_] = iter_frames(path, say=notes.append)
    assert np.abs(frame.picture().astype(int) - GREEN).max() <= 3
    assert notes == ["its colour matrix (number 8 of ITU-T H.273) can't be undone: its colours are a guess"]


def coded(path: Path, codes: list[int], transfer: int, primaries: int) -> Path:
    """A film of grey pictures with 10-bit luma `codes` of limited range and a transfer function of HDR."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        about = stream.codec_context
        about.color_trc, about.color_primaries, about.colorspace, about.color_range = transfer, primaries, 9, 1
        for code in codes:
            frame = av.VideoFrame(64, 48, "yuv420p10le")
            for plane, value in zip(frame.planes, (code, 512, 512), strict=True):
                plane.update(np.full(plane.buffer_size // 2, value, "<u2"))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(("transfer", "white"), [(16, 572), (18, 721)])
def test_hdr_is_mapped_to_what_a_display_shows(transfer, white, tmp_path):
    """PQ (16) and HLG (18). BT.2408 puts the white of a page at 58 % of PQ and 75 % of HLG."""
    codes = [64, 64 + (white - 64) // 4, (64 + white) // 2, white, 940]
    found = [int(picture[0, 0, 0]) for picture in decode_video(coded(tmp_path / "a.mkv", codes, transfer, 9))]
    assert found == sorted(found) and found[0] == 0 and found[-1] == 255
    assert 180 < found[3] < 250, "white is bright, and leaves room for what is brighter"
    for picture in decode_video(tmp_path / "a.mkv"):
        assert np.ptp(picture, axis=2).max() <= 3, "grey stays grey"


@pytest.mark.parametrize(("primaries", "green"), [
    (9, (0.3293, 0.9195, 0.0880)),  # BT.2020: BT.2087-0, the second column of M2
    (12, (0.1775, 0.9668, 0.0724)),  # Display P3
])  # fmt: skip
def test_wide_colours_become_those_of_bt709(primaries, green, tmp_path):
    """The green of BT.709, written in the light of wider primaries."""
    levels = luma_chroma(tuple(round(255 * light ** (1 / 2.4)) for light in green), *BT2020, False)
    tagged(tmp_path / "a.mkv", [levels], colorspace=9, color_primaries=primaries)
    red, green, blue = first(tmp_path / "a.mkv")[0, 0].tolist()
    assert green > 250 and red < 40 and blue < 40


@pytest.mark.parametrize(("alpha", "shown"), [(255, (200, 40, 60)), (128, (100, 20, 30)), (0, (200, 40, 60))])
def test_what_shines_through_is_black(alpha, shown, tmp_path):
    """Alpha of 0 everywhere means that the writer did not use it."""
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgra"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(flat((*RED, alpha)), format="rgba")))
        container.mux(stream.encode())
    assert np.abs(first(tmp_path / "a.mkv").astype(int) - shown).max() <= 1


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_alpha_of_webm_is_black_too(codec, tmp_path):
    """It lies beside the picture, and most decoders ignore it."""
    picture = np.concatenate([flat((*RED, 255))[:, :32], flat((*RED, 0))[:, 32:]], axis=1)
    with av.open(str(tmp_path / "a.webm"), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"auto-alt-ref": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuva420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgba")))
        container.mux(stream.encode())
    shown = list(decode_video(tmp_path / "a.webm"))
    assert len(shown) == 3
    for picture in shown:
        assert np.abs(picture[:, 4:28].mean(axis=(0, 1)) - RED).max() < 6
        assert picture[:, 36:60].max() <= 2


def several(path: Path, streams: list[tuple[Disposition, tuple[int, ...]]]) -> Path:
    """A file with several video streams, each of one colour."""
    with av.open(str(path), "w") as container:
        made = []
        for disposition, _ in streams:
            still = bool(disposition & Disposition.attached_pic)
            stream = container.add_stream("mjpeg" if still else "mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p" if still else "yuv420p"
            stream.disposition = disposition
            made.append(stream)
        for stream, (disposition, colour) in zip(made, streams, strict=True):
            for _ in range(1 if disposition & Disposition.attached_pic else 5):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(flat(colour), format="rgb24")))
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize(("ending", "streams"), [
    ("mkv", [(Disposition(0), RED), (Disposition.default, GREEN)]),
    ("mkv", [(Disposition(0), GREEN), (Disposition(0), RED)]),
    ("mp4", [(Disposition.attached_pic, RED), (Disposition.default, GREEN)]),
])  # fmt: skip
def test_the_film_is_the_stream_that_a_player_shows(ending, streams, tmp_path):
    path = several(tmp_path / f"a.{ending}", streams)
    frames = list(decode_video(path))
    assert len(frames) == 5 and np.abs(frames[2].astype(int) - GREEN).max() < 12


def test_a_cover_that_comes_before_the_film(tmp_path):
    """In MP4 the covers stand in `udta`, which some programs write before the tracks."""
    path = several(tmp_path / "a.mp4", [(Disposition.default, GREEN), (Disposition.attached_pic, RED)])
    data = path.read_bytes()
    moov = data.index(b"moov") - 4
    boxes, at = [], moov + 8
    while at < len(data):
        [size] = struct.unpack(">I", data[at : at + 4])
        boxes.append(data[at : at + size])
        at += size
    boxes.sort(key=lambda box: (box[4:8] != b"mvhd", box[4:8] != b"udta"))
    path.write_bytes(data[: moov + 8] + b"".join(boxes))
    with av.open(str(path)) as container:
        assert container.streams.video[0].disposition & Disposition.attached_pic
    frames = list(decode_video(path))
    assert len(frames) == 5 and np.abs(frames[2].astype(int) - GREEN).max() < 12


def test_a_cover_is_no_film(tmp_path):
    """As in music files."""
    with av.open(str(tmp_path / "a.mp3"), "w") as container:
        sound = container.add_stream("libmp3lame", rate=44100)
        cover = container.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt, cover.disposition = 64, 48, "yuvj420p", Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(flat(RED), format="rgb24")))
        for start in range(0, 11520, 1152):
            part = av.AudioFrame.from_ndarray(np.zeros((2, 1152), np.float32), format="fltp", layout="stereo")
            part.sample_rate, part.pts = 44100, start
            container.mux(sound.encode(part))
        container.mux(sound.encode())
    with pytest.raises(DataError, match="holds no video stream"):
        next(decode_video(tmp_path / "a.mp3"))
