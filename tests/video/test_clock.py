"""When frames are shown, and frames at another rate: `prepare --fps`, `data info`, `predict`."""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.commands import call
from helpers.films import Picture, film, moving

from stmn.store.format.read import Store
from stmn.video.decode import decode_video, iter_frames

SMALL = ["--short-side", "32", "--workers", "1"]


def numbered(count: int) -> list[Picture]:
    """Pictures whose grey level is five times their number."""
    return [np.full((48, 64, 3), 5 * number, np.uint8) for number in range(count)]


def timed(path: Path, milliseconds: list[int], rate: int = 25) -> Path:
    """A film whose frames are shown at these times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time, picture in zip(milliseconds, numbered(len(milliseconds)), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def shown(path: Path, fps: float) -> list[tuple[float, int]]:
    """Time and number of the frames at a rate."""
    return [(round(f.seconds, 4), round(f.picture()[0, 0, 0] / 5)) for f in iter_frames(path, fps)]


def evenly(count: int, rate: int) -> list[int]:
    return [round(1000 * number / rate) for number in range(count)]


@pytest.mark.parametrize(("rate", "fps", "numbers"), [
    (50, 25, range(0, 50, 2)),
    (25, 25, range(25)),
    (30, 25, [round(1.2 * number) for number in range(25)]),
    (25, 50, [number // 2 + number % 2 for number in range(49)] + [24]),
])  # fmt: skip
def test_a_rate_takes_the_nearest_frames(rate, fps, numbers, tmp_path):
    """A second stays a second."""
    path = timed(tmp_path / "a.mkv", evenly(rate, rate), rate)
    assert shown(path, fps) == [(round(i / fps, 4), number) for i, number in enumerate(numbers)]
    assert {frame.rate for frame in iter_frames(path, fps)} == {fps}


def test_a_rate_evens_out_a_variable_one(tmp_path):
    path = timed(tmp_path / "a.mkv", [0, 40, 50, 500, 510, 1000])
    assert shown(path, 5) == [(0.0, 0), (0.2, 2), (0.4, 3), (0.6, 4), (0.8, 5), (1.0, 5)]


def test_frames_without_time_stamps_follow_the_rate(tmp_path):
    """As in H.264 without a container."""
    path = film(tmp_path / "a.h264", moving(10), "libx264")
    assert [round(25 * frame.seconds) for frame in iter_frames(path)] == list(range(10))


def test_wild_time_stamps_are_replaced(tmp_path):
    """One that leaps by minutes, or back, counts as one step; the next right one counts again."""
    path = timed(tmp_path / "a.mkv", [0, 40, 400_000, 400_040])
    assert [round(frame.seconds, 3) for frame in iter_frames(path)] == [0, 0.04, 0.08, 0.12]


def test_one_motion_at_three_rates_becomes_one_set(tmp_path):
    """Without --fps the flow of films with a higher rate is smaller, and a warning says so."""
    for rate in (25, 50):
        pictures = moving(rate // 5 + 1, 48, 64, dx=100 // rate)
        path = tmp_path / "v" / "run" / f"{rate}.mkv"
        film(path, pictures, "ffv1", "yuv444p", rate)
    plain = call("prepare", tmp_path / "v", "plain", "-w", tmp_path, *SMALL)
    assert "videos have 25 to 50 frames per second, so the flow of one motion differs up to 2.0 times" in plain.stderr
    info = json.loads(call("data", "info", "plain", "-w", tmp_path, "--json").stdout)
    assert info["rates"] == [{"fps": 25.0, "videos": 1}, {"fps": 50.0, "videos": 1}]
    told = call("data", "info", "plain", "-w", tmp_path).stdout
    assert "25 (1), 50 (1) frames per second" in told and "prepare --fps 25 makes a set of one rate" in told

    same = call("prepare", tmp_path / "v", "same", "-w", tmp_path, *SMALL, "--fps", "25")
    assert same.exit_code == 0 and "differs" not in same.stderr
    with Store(tmp_path / "data" / "same") as store:
        assert {video.id: (video.frames, video.fps) for video in store.videos.values()} == {
            "run/25.mkv": (6, 25.0), "run/50.mkv": (6, 25.0),
        }  # fmt: skip
        speeds = [store.fields(video, range(5))[:, 0].float().mean() - 128 for video in store.videos]
        assert speeds[0] == pytest.approx(speeds[1], abs=1)
    mixed = call("prepare", tmp_path / "v", "same", "-w", tmp_path, *SMALL)
    assert mixed.exit_code == 2 and "was prepared with fps = 25.0, not None" in mixed.stderr


def test_frames_that_come_without_a_rate_keep_their_number(tmp_path):
    path = film(tmp_path / "a.avi", moving(5))
    assert len(list(decode_video(path))) == len(list(iter_frames(path, 25))) == 5
