"""No good video is refused, and no damage passes in silence: what headers announce, lost packets, cut files."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.films import film, moving

from stmn.errors import DataError
from stmn.video.decode import decode_video, iter_frames

PICTURES = moving(50, dx=2)


def read(path: Path, **options: object) -> tuple[int, list[str]]:
    """How many frames a video has, and the notes on it."""
    notes: list[str] = []
    return sum(1 for _ in iter_frames(path, say=notes.append, **options)), notes


def film_with_sound(path: Path, codec: str, sound_codec: str, start: float, seconds: float) -> Path:
    """Fifty pictures that begin after `start` seconds, and a tone of `seconds` seconds from the beginning on."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream(sound_codec, rate=16000, layout="mono")
        sound.bit_rate = 32000
        packets = []
        for number, picture in enumerate(PICTURES):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(25 * start) + number, Fraction(1, 25)
            packets += video.encode(frame)
        for begin in range(0, round(16000 * seconds), 1024):
            part = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            part.sample_rate, part.pts, part.time_base = 16000, begin, Fraction(1, 16000)
            packets += sound.encode(part)
        packets += video.encode() + sound.encode()
        for packet in sorted(packets, key=lambda one: one.dts * one.time_base):
            container.mux(packet)
    return path


def late_start(folder: Path) -> Path:
    """Matroska states when the last picture ends, not how long there are pictures."""
    return film_with_sound(folder / "a.mkv", "libx264", "aac", 2, 4)


def long_sound(folder: Path) -> Path:
    """WMV states one length for all its streams."""
    return film_with_sound(folder / "a.wmv", "wmv2", "wmav2", 0, 4)


def long_sound_of_one_length(folder: Path) -> Path:
    """Some programs write no lengths of streams into Matroska files, only that of the longest."""
    path = film_with_sound(folder / "a.mkv", "libx264", "aac", 0, 4)
    path.write_bytes(path.read_bytes().replace(b"DURATION", b"LENGTHOF"))
    return path


def live_fragment(folder: Path) -> Path:
    """The beginning of a live stream's files, which states no length, and one fragment, whose time stamps go on."""
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    with av.open(str(folder / "whole.mp4"), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "50", "bf": "0", "sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for picture in PICTURES * 3:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    data = (folder / "whole.mp4").read_bytes()
    starts = [at - 4 for at in range(len(data)) if data.startswith(b"moof", at)]
    path = folder / "a.mp4"
    path.write_bytes(data[: starts[0]] + data[starts[2] :])
    return path


def empty_chunks(folder: Path) -> Path:
    """AVI repeats pictures by chunks of no bytes, which its header counts."""
    with av.open(str(folder / "a.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=75)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number, picture in enumerate(PICTURES):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = 3 * number, Fraction(1, 75)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return folder / "a.avi"


@pytest.mark.parametrize("make", [late_start, long_sound, long_sound_of_one_length, live_fragment, empty_chunks])
def test_length_announced_is_not_length_shown(make: Callable[[Path], Path], tmp_path):
    path = make(tmp_path)
    assert read(path) == (50, [])
    assert [round(25 * frame.seconds) for frame in iter_frames(path)] == list(range(50))


def packets_of(path: Path, codec: str = "libx264", **options: str) -> Path:
    """A film with a key frame every ten frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"g": "10", "bf": "0", "sc_threshold": "0"} | options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for picture in PICTURES:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def copied(source: Path, target: Path, packets: slice) -> Path:
    """Some packets of a film in another container, as they are."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        copy = writer.add_stream_from_template(reader.streams.video[0])
        for packet in [packet for packet in reader.demux(video=0) if packet.size][packets]:
            packet.stream = copy
            writer.mux(packet)
    return target


@pytest.mark.parametrize(("ending", "codec"), [
    ("mkv", "libx264"), ("ts", "libx264"), ("avi", "mpeg4"), ("mpg", "mpeg2video"), ("webm", "libvpx"),
])  # fmt: skip
def test_film_that_begins_between_key_frames(ending, codec, tmp_path):
    """As cutters leave it: a player starts at the first key frame. Nothing that can be shown is missing."""
    path = copied(packets_of(tmp_path / "whole.mkv", codec), tmp_path / f"a.{ending}", slice(4, None))
    assert read(path) == (40, ["its first 6 frames need an earlier key frame, which is not in the file"])
    assert next(iter_frames(path)).decoded.key_frame


def test_header_that_announces_too_much_is_noted(tmp_path):
    """Nothing else shows that the film is not whole, so it counts as whole."""
    path = packets_of(tmp_path / "a.mkv")
    data = path.read_bytes()
    assert data.count(b"00:00:02.000") == 1
    path.write_bytes(data.replace(b"00:00:02.000", b"00:00:07.000"))
    assert read(path) == (50, ["its header announces 7.0 s, and it ends after 2.0 s"])


def overwrite(path: Path, numbers: list[int]) -> Path:
    """Zero the packets with these numbers, as a disk that loses blocks."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for number in numbers:
        position, size = places[number]
        data[position : position + size] = bytes(size)
    path.write_bytes(data)
    return path


def test_damaged_packet_costs_its_own_frame(tmp_path):
    path = overwrite(packets_of(tmp_path / "a.mp4"), [25])
    frames, notes = read(path)
    assert frames == 49
    assert notes[0] == "1 of its 50 frames can't be decoded: Invalid data found when processing input"
    seconds = [round(25 * frame.seconds) for frame in iter_frames(path)]
    assert seconds == [*range(25), *range(26, 50)]


def test_how_much_damage_is_accepted_is_an_option(tmp_path):
    path = overwrite(packets_of(tmp_path / "a.mp4"), [5, 15, 25, 35])
    with pytest.raises(DataError, match=r"a\.mp4: 4 of its 50 frames can't be decoded: Invalid data"):
        read(path)
    assert read(path, allow_damage=0.1)[0] == 46
    overwrite(path, [45])
    assert read(path, allow_damage=0.1)[0] == 45
    with pytest.raises(DataError, match="5 of its 50 frames"):
        read(path, allow_damage=0.09)


def test_hole_in_an_avi_is_found_by_its_index(tmp_path):
    path = packets_of(tmp_path / "a.avi", "mpeg4")
    data = path.read_bytes()
    chunks = [at for at in range(len(data)) if data.startswith(b"00dc", at)]
    path.write_bytes(data[: chunks[20]] + bytes(chunks[22] - chunks[20]) + data[chunks[22] :])
    frames, notes = read(path)
    assert frames == 48 and notes[0].startswith("lacks 2 of its 50 frames")


def test_film_that_is_damaged_throughout_names_the_error(tmp_path):
    path = overwrite(packets_of(tmp_path / "a.mp4"), list(range(50)))
    with pytest.raises(DataError, match=r"a\.mp4: none of its frames can be decoded: Invalid data found"):
        read(path)


@pytest.mark.parametrize(("ending", "codec", "pix_fmt"), [
    ("ts", "libx264", "yuv420p"), ("m2ts", "libx264", "yuv420p"), ("gif", "gif", "rgb8"), ("ogv", "libvpx", "yuv420p"),
])  # fmt: skip
def test_cut_recording_that_states_no_length_is_noted(ending, codec, pix_fmt, tmp_path):
    """How much is missing can't be known."""
    path = film(tmp_path / f"a.{ending}", PICTURES, codec, pix_fmt)
    assert read(path) == (50, [])
    path.write_bytes(path.read_bytes()[: round(0.6 * path.stat().st_size) // 192 * 192 + 100])
    frames, notes = read(path)
    assert 0 < frames < 50 and any(note.startswith("the end of the file is missing") for note in notes)


def test_transport_stream_cut_between_its_packets(tmp_path):
    """A shorter recording looks the same: only a frame that is cut can be noted, and what is there is never refused."""
    data = film(tmp_path / "a.ts", moving(50, 120, 160, dx=2), "libx264").read_bytes()
    counts, noted = [], 0
    for packets in range(40, len(data) // 188, 6):
        (tmp_path / "b.ts").write_bytes(data[: 188 * packets])
        frames, notes = read(tmp_path / "b.ts")
        counts.append(frames)
        assert notes in ([], [f"1 of its {frames} frames are damaged"])
        noted += bool(notes)
    assert noted and counts == sorted(counts) and 0 < counts[0] < 25 < counts[-1] <= 50


def test_cut_behind_the_last_picture_is_noted(tmp_path):
    """What is missing is the index. All pictures are there."""
    path = packets_of(tmp_path / "a.avi", "mpeg4")
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 100])
    frames, [note] = read(path)
    assert frames == 50 and note.startswith("the end of the file is missing")


def test_size_that_changes_on_the_way_is_an_error(tmp_path):
    for name, size in (("a", (48, 64)), ("b", (64, 48))):
        film(tmp_path / f"{name}.ts", moving(10, *size), "libx264")
    path = tmp_path / "both.ts"
    path.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    with pytest.raises(DataError, match=r"both\.ts: the frame size changes after 10 frames; cut the video there"):
        list(decode_video(path, 24))
