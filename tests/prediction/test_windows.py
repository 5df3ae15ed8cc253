"""Long videos and streams: sliding windows, the timeline, and a clean end."""

import csv
import json
import os
import signal
from contextlib import contextmanager, suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import av
import pytest
import torch
from helpers.commands import call, errors_of, start
from helpers.films import film, moving
from helpers.predicting import lines, model_of

import stmn
from stmn.prediction.windows import TimedFrame, count_windows, slide_window
from stmn.video.decode import iter_frames


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_window_is_classified_as_a_video_of_its_own(trained, tmp_path):
    """50 frames at 25 per second: windows of one second, every half second."""
    pictures = moving(20) + moving(30, dx=-2, seed=1)
    model = stmn.load(model_of(trained, "fused"))
    windows = list(model.windows(film(tmp_path / "a.mkv", pictures, "ffv1", "yuv444p"), length=1, step=0.5, chunks=3))
    assert [(w.start, w.end) for w in windows] == [(0, 1), (0.5, 1.5), (1, 2)]
    for number, window in enumerate(windows):
        first = round(12.5 * number + 0.01)
        part = film(tmp_path / f"{number}.mkv", pictures[first : 25 + round(12.5 * number + 0.01)], "ffv1", "yuv444p")
        torch.testing.assert_close(
            window.logits, torch.stack(model.logits(part, chunks=3)).mean(dim=0), rtol=0, atol=1e-4
        )
    assert not torch.allclose(windows[0].logits, windows[2].logits, atol=1e-3)


@pytest.mark.parametrize(("frames", "spans"), [
    (10, [(0, 0.4)]),  # shorter than a window
    (25, [(0, 1)]),
    (30, [(0, 1), (0.2, 1.2)]),  # the last window ends with the video
    (75, [(0, 1), (0.5, 1.5), (1, 2), (1.5, 2.5), (2, 3)]),
])  # fmt: skip
def test_windows_reach_the_end_of_any_video(frames, spans, trained, tmp_path):
    model = stmn.load(model_of(trained, "appearance"))
    windows = model.windows(film(tmp_path / "a.mkv", moving(frames)), length=1, step=0.5)
    assert [(round(w.start, 2), round(w.end, 2)) for w in windows] == spans


def test_windows_go_by_time_if_the_rate_varies(trained, tmp_path):
    """12 frames in the first second, 48 in the second."""
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        times = [round(1000 * t / 12) for t in range(12)] + [1000 + round(1000 * t / 48) for t in range(49)]
        for milliseconds, picture in zip(times, moving(61), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert [round(1000 * f.seconds) for f in iter_frames(tmp_path / "a.mkv")] == times
    found = lines(model_of(trained, "fused"), tmp_path / "a.mkv", "--window", 1, "--step", 1)
    assert [(line["start_s"], line["end_s"]) for line in found[:2]] == [(0, 1), (1, 2)]


def test_timeline_holds_every_window_and_class(trained, tmp_path):
    video = film(tmp_path / "a.avi", moving(60))
    result = call(
        "predict", model_of(trained, "fused"), video, "--timeline", tmp_path / "t.csv", "--window", 1, "--step", 0.5
    )
    assert result.exit_code == 0, result.stderr
    assert len(result.stdout.splitlines()) == 1 and result.stdout.strip().endswith("(mean of 4 windows)")
    rows = table(tmp_path / "t.csv")
    assert list(rows[0]) == [
        "start_s",
        "end_s",
        "class",
        "score",
        "video",
        *(f"score_{c}" for c in ("down", "left", "right", "up")),
    ]
    assert [(row["start_s"], row["end_s"]) for row in rows] == [
        ("0.000", "1.000"), ("0.500", "1.500"), ("1.000", "2.000"), ("1.400", "2.400")
    ]  # fmt: skip
    for row in rows:
        scores = {name: float(row[f"score_{name}"]) for name in ("down", "left", "right", "up")}
        assert sum(scores.values()) == pytest.approx(1, abs=1e-5)
        assert max(scores, key=scores.__getitem__) == row["class"] and float(row["score"]) == scores[row["class"]]
    # without a timeline the windows are printed
    shown = lines(model_of(trained, "fused"), video, "--window", 1, "--step", 0.5)
    assert [f"{line['start_s']:.3f}" for line in shown[:-1]] == [row["start_s"] for row in rows]
    assert list(shown[-1]) == ["video", "windows", "scores"]


def test_broken_video_leaves_nothing_in_the_timeline(trained, tmp_path):
    good, bad = film(tmp_path / "good.avi", moving(60)), film(tmp_path / "bad.avi", moving(100))
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size * 3 // 4])
    out = tmp_path / "out" / "t.csv"
    both = call("predict", model_of(trained, "appearance"), bad, good, "--timeline", out, "--window", 1)
    assert both.exit_code == 1 and len(errors_of(both)) == 1
    assert both.stderr.splitlines()[-1] == f"timeline: {out}"
    assert {row["video"] for row in table(out)} == {str(good)}
    out.unlink()
    alone = call("predict", model_of(trained, "appearance"), bad, "--timeline", out, "--window", 1)
    assert alone.exit_code == 1 and "bad.avi: " in errors_of(alone)[0] and "timeline:" not in alone.stderr
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("frames", range(1, 90, 4))
@pytest.mark.parametrize(("length", "step"), [(1, 0.5), (1, 1), (0.4, 0.1), (2, 0.7), (0.5, 1.3)])
def test_windows_are_counted_before_they_are_made(frames, length, step):
    rate = Fraction(25)
    passing = [TimedFrame(float(t / rate), rate, torch.zeros(1), None) for t in range(frames)]
    windows = list(slide_window(passing, length, step))
    assert count_windows(float(frames / rate), float(rate), length, step) == len(windows)


def test_progress_counts_up_to_its_total(trained, tmp_path):
    """Also if the header announces too few frames."""
    video = film(tmp_path / "a.avi", moving(55))
    flags = ("--timeline", tmp_path / "t.csv", "--window", 1, "--step", 0.5)
    result = call("predict", model_of(trained, "appearance"), video, *flags)
    assert f"{video}: 4/4 windows" in result.stderr and len(table(tmp_path / "t.csv")) == 4

    header = bytearray(video.read_bytes())
    for chunk, field in ((b"avih", 16), (b"strh", 32)):
        at = header.index(chunk) + 8 + field
        header[at : at + 4] = (20).to_bytes(4, "little")
    video.write_bytes(header)
    result = call("predict", model_of(trained, "appearance"), video, *flags, "--force")
    assert f"{video}: 1/1 windows" in result.stderr and len(table(tmp_path / "t.csv")) == 4


@pytest.mark.parametrize(("flags", "words"), [
    (["--window", 0], "--window 0: must be a number of seconds above 0"),
    (["--step", "nan"], "--step nan: must be a number of seconds above 0"),
    (["--window", 0.01], "a window of 0.01 s holds one frame, and one frame has no motion; make it longer"),
    (["--timeline", "t.txt"], "--timeline t.txt: the name must end in .csv"),
    (["--timeline", "/proc/no/t.csv"], "/proc/no/t.csv: can't be written: "),
    (["--gate-part", "conv3"], "--gate-part needs an overlay: add --overlay OUT.mp4"),
])  # fmt: skip
def test_unusable_window_options_are_one_line(flags, words, trained, tmp_path):
    refused = call("predict", model_of(trained, "fused"), film(tmp_path / "a.avi", moving(30)), *flags)
    assert refused.exit_code != 0
    [line] = errors_of(refused)
    assert words in line


# Streams without a known end


@contextmanager
def sent(path: Path):
    """Serve a file without saying how long it is, as cameras do; gives the address."""

    class Sender(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(path.read_bytes())

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Sender)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/live.ts"
    server.shutdown()
    server.server_close()


def test_stream_is_classified_window_by_window(trained, tmp_path):
    video = film(tmp_path / "a.ts", moving(75), "libx264")
    with sent(video) as address:
        result = call("predict", model_of(trained, "fused"), address, "--json", "--timeline", tmp_path / "t.csv")
        assert result.exit_code == 0
        notice, written = result.stderr.splitlines()
        assert notice.endswith("treated as the end of the stream") and written == f"timeline: {tmp_path / 't.csv'}"
        found = [json.loads(line) for line in result.stdout.splitlines()]
        assert {line["video"] for line in found} == {address}
    *windows, mean = found
    assert [line["start_s"] for line in windows] == [0, 0.5, 1] and mean["windows"] == 3
    of_file = lines(model_of(trained, "fused"), video, "--window", 2)
    assert [line["scores"] for line in windows] == [line["scores"] for line in of_file[:-1]]
    assert [row["start_s"] for row in table(tmp_path / "t.csv")] == ["0.000", "0.500", "1.000"]


def test_endless_pipe_is_printed_live_and_ends_at_ctrl_c(trained, tmp_path):
    data = film(tmp_path / "a.ts", moving(400), "libx264").read_bytes()
    begun = len(data) * 3 // 4
    read, write = os.pipe()
    process = start("predict", model_of(trained, "fused"), "-", "--window", 1, "--step", 1, "--json", stdin=read)
    os.close(read)
    try:
        with open(write, "wb", buffering=0) as pipe:
            feeder = Thread(target=pipe.write, args=(data[:begun],))
            feeder.start()
            first = json.loads(process.stdout.readline())  # the pipe is still open
            assert (first["start_s"], first["end_s"]) == (0, 1)
            feeder.join()
            process.send_signal(signal.SIGINT)
            Event().wait(1)
            with suppress(BrokenPipeError):  # it stops at the next frame, which may have come already
                pipe.write(data[begun:])
            out, errors = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    *windows, mean = [first, *map(json.loads, out.splitlines())]
    assert 1 <= mean["windows"] == len(windows) <= 17
