"""Whole videos from any source, models named in any way, and errors in either."""

import io
import json
import re
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from helpers.commands import STMN, call, errors_of
from helpers.films import film, moving, sound
from helpers.packages import on_path
from helpers.predicting import lines, model_of

import stmn
from stmn.errors import CheckpointError, DataError, StmnError, UsageError
from stmn.evaluation.scores import Scores, load_scores
from stmn.nets.checkpoint import load_checkpoint, save_checkpoint
from stmn.prediction.api import find_videos
from stmn.workspace import Workspace


def scores_of(workspace: Workspace, name: str) -> Scores:
    """The evaluation of a model of the `trained` workspace."""
    run = next(r for r in workspace.runs() if r.makes("scores") and r.record["options"]["model"] == name)
    return load_scores(run.output("scores"))


@pytest.mark.parametrize("name", ["appearance", "motion", "fused"])
def test_video_file_scores_as_its_stored_frames(trained, name):
    """Up to the JPEG compression of the store."""
    evaluated = scores_of(trained, name)
    model = stmn.load(trained.find_input(name, "model").path, device="cpu")
    films = [trained.data_dir("synthetic") / "videos" / video_id for video_id in evaluated.ids]
    from_files = dict(zip(evaluated.streams, zip(*(model.logits(path) for path in films), strict=True), strict=True))
    for stream, stored in evaluated.streams.items():
        found = torch.stack(from_files[stream])
        ours, theirs = found - found.mean(dim=0), stored - stored.mean(dim=0)  # the differences between videos
        assert float((ours - theirs).norm() / theirs.norm()) < 0.2
        others = theirs.roll(1, dims=0)
        assert float((ours - others).norm() / others.norm()) > 0.5  # another video's scores are far from it


@pytest.mark.parametrize("name", ["appearance", "motion", "fused"])
def test_predict_gives_all_classes_best_first(trained, name):
    model = stmn.load(str(trained.find_input(name, "model").path))
    video = next((trained.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))
    predictions = model.predict(str(video))
    assert sorted(p.class_name for p in predictions) == model.classes == ["down", "left", "right", "up"]
    assert [p.score for p in predictions] == sorted((p.score for p in predictions), reverse=True)
    assert sum(p.score for p in predictions) == pytest.approx(1)
    mean = torch.stack(model.logits(video)).mean(dim=0)
    assert predictions[0].class_name == model.classes[int(mean.argmax())]
    assert len(model.logits(video)) == (2 if name == "fused" else 1)


def test_predict_takes_videos_of_any_size_and_length(trained, tmp_path):
    model = stmn.load(trained.find_input("fused", "model").path)
    for frames, height, width in ((60, 48, 64), (8, 120, 80), (2, 40, 40)):
        path = film(tmp_path / f"{frames}.mp4", moving(frames, height, width))
        assert len(model.predict(path)) == 4


def test_single_frame_suffices_for_appearance_only(trained, tmp_path):
    path = film(tmp_path / "one.mp4", moving(1))
    assert len(stmn.load(trained.find_input("appearance", "model").path).predict(path)) == 4
    with pytest.raises(DataError, match=r"one\.mp4: one frame has no motion"):
        stmn.load(trained.find_input("motion", "model").path).predict(path)


def test_appearance_model_computes_no_flow(own, tmp_path):
    path = own.find_input("appearance", "model").path
    net, description = load_checkpoint(path)
    preparation = description.preparation.model_copy(update={"flow": "of another package"})
    save_checkpoint(path, net, type(description)(**(vars(description) | {"preparation": preparation})))
    video = film(tmp_path / "film.mp4", moving(12))
    assert len(stmn.load(path).predict(video)) == 4


def test_load_and_predict_refuse_other_files(trained, tmp_path):
    path = trained.find_input("appearance", "model").path
    model = stmn.load(path)
    (tmp_path / "text.mp4").write_text("not a video")
    for name, what in (("text.mp4", "not a readable video"), ("none.mp4", "no such video file")):
        with pytest.raises(DataError, match=f"{name}: {what}"):
            model.predict(tmp_path / name)
    with pytest.raises(UsageError, match=r"none\.safetensors': no such file"):
        stmn.load(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="not a model file: it describes no network"):
        stmn.load(next(r for r in trained.runs() if r.makes("scores")).output("scores"))
    with pytest.raises(StmnError, match="device"):
        stmn.load(path, device="cude")


# Output


def test_one_line_per_video_with_the_top_classes(trained, tmp_path):
    for name in ("b/2.mp4", "b/1.avi"):
        film(tmp_path / name, moving(20, seed=len(name)))
    fused = model_of(trained, "fused")
    printed = call("predict", fused, tmp_path / "b", "--top", 2)
    assert [line.partition(": ")[0] for line in printed.stdout.splitlines()] == [
        str(tmp_path / "b" / name) for name in ("1.avi", "2.mp4")
    ]
    assert all(line.count(" %") == 2 for line in printed.stdout.splitlines())
    found = lines(fused, tmp_path / "b", "--top", 4)
    for line in found:
        assert list(line["scores"].values()) == sorted(line["scores"].values(), reverse=True)
        assert sum(line["scores"].values()) == pytest.approx(1, abs=1e-5)
        best = stmn.load(fused).predict(line["video"])[0]
        assert next(iter(line["scores"].items())) == (best.class_name, pytest.approx(best.score, abs=1e-5))


def test_model_is_named_by_file_folder_or_run(trained, tmp_path):
    video = film(tmp_path / "a.avi", moving(20))
    file = model_of(trained, "fused")
    alone = tmp_path / "alone" / "model.safetensors"
    alone.parent.mkdir()
    alone.write_bytes(file.read_bytes())
    found = [
        lines(file, video),
        lines(file.parent, video),
        lines(alone.parent, video),
        lines("fused", video, "-w", trained.root),
    ]
    assert all(one == found[0] for one in found)
    assert errors_of(call("predict", "fusd", video, "-w", trained.root))[0].startswith(
        "'fusd': no such file, and no finished run"
    )


def test_load_names_models_as_the_command_line_does(trained, tmp_path, monkeypatch):
    file = model_of(trained, "fused")
    video = film(tmp_path / "a.avi", moving(20))
    expected = stmn.load(file).predict(video)
    alone = tmp_path / "alone" / "model.safetensors"
    alone.parent.mkdir()
    alone.write_bytes(file.read_bytes())
    for model, workspace in (
        (file.parent, None), (alone.parent, None), (file.parent.name, trained.root), ("fused", str(trained.root)),
    ):  # fmt: skip
        assert stmn.load(model, workspace=workspace).predict(video) == expected
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stmn.toml").write_text(f"workspace = '{trained.root}'\n")
    assert stmn.load("fused").predict(video) == expected
    with pytest.raises(UsageError, match=r"'fusd': no such file, and no finished run .*; there are: fused-"):
        stmn.load("fusd")
    with pytest.raises(UsageError, match="'fused': no such file"):
        stmn.load("fused", workspace=tmp_path)


def test_load_takes_the_device_of_the_settings(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STMN_DEVICE", "cude")
    with pytest.raises(UsageError, match="cude"):
        stmn.load(model_of(trained, "motion"))
    assert stmn.load(model_of(trained, "motion"), "cpu", "motion").stream == "motion"


def test_import_does_not_load_torch():
    code = "import sys, stmn; assert callable(stmn.load); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def test_stream_option_uses_one_stream(trained, tmp_path):
    video = film(tmp_path / "a.avi", moving(20))
    appearance, motion = stmn.load(model_of(trained, "fused")).logits(video)
    for name, logits in (("appearance", appearance), ("motion", motion)):
        [line] = lines(model_of(trained, "fused"), video, "--stream", name)
        assert next(iter(line["scores"].values())) == pytest.approx(float(logits.softmax(0).max()), abs=1e-5)
    refused = call("predict", model_of(trained, "motion"), video, "--stream", "appearance")
    assert refused.exit_code == 1
    assert errors_of(refused) == [f"{model_of(trained, 'motion')}: has no stream 'appearance'; it has: motion"]


def test_only_flow_that_chunks_need_is_computed(own, tmp_path, monkeypatch):
    with on_path(tmp_path / "plugins", monkeypatch) as packages:
        packages.install("counting", COUNTING, flow={"counting": "count"})
        import counting

        path = model_of(own, "motion")
        network, description = load_checkpoint(path)
        how = description.preparation.model_copy(update={"flow": "counting"})
        save_checkpoint(path, network, type(description)(**(vars(description) | {"preparation": how})))
        for frames, chunks, computed in ((60, 25, 59), (600, 3, 3 * 10)):
            counting.pairs.clear()
            assert len(lines(path, film(tmp_path / f"{frames}.avi", moving(frames)), "--chunks", chunks)) == 1
            assert sum(counting.pairs) == computed


COUNTING = """
import torch
pairs = []
def count(first, second):
    pairs.append(len(first))
    return torch.stack([second - first] * 2, dim=1)
"""


# Where videos come from


def test_folders_are_replaced_by_their_videos(tmp_path):
    for name in ("b/2.MP4", "b/1.avi", "a/3.mkv", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = list(find_videos([str(tmp_path / "b"), str(tmp_path / "a" / "notes.txt"), str(tmp_path)]))
    assert [Path(one.name).name for one in found] == ["1.avi", "2.MP4", "notes.txt", "3.mkv", "1.avi", "2.MP4"]
    kinds = [(one.kind, one.name) for one in find_videos(["0", "rtsp://camera/1", "-", "/dev/null"])]
    assert kinds == [
        ("camera", "camera 0"),
        ("address", "rtsp://camera/1"),
        ("pipe", "standard input"),
        ("camera", "/dev/null"),
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no videos in this folder"):
        list(find_videos([str(tmp_path / "empty")]))


def test_file_named_like_a_camera_is_a_file(tmp_path, monkeypatch):
    film(tmp_path / "0.mkv", moving(3)).rename(tmp_path / "0")
    monkeypatch.chdir(tmp_path)
    assert [one.kind for one in find_videos(["0", "1"])] == ["file", "camera"]


def test_missing_camera_is_one_line(trained):
    refused = call("predict", model_of(trained, "appearance"), "97")
    assert refused.exit_code == 1
    [line] = errors_of(refused)
    assert line.startswith("camera 97: ") and "is a camera connected?" in line


def test_pipe_gives_what_the_file_gives(trained, tmp_path):
    """Also for an MP4 file with its index at the end."""
    fused = model_of(trained, "fused")
    video = film(tmp_path / "a.mp4", moving(40), "libx264")
    command = f"cat '{video}' | '{STMN}' predict '{fused}' - --json"
    piped = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=100)
    assert piped.returncode == 0, piped.stderr
    assert json.loads(piped.stdout) == lines(fused, video)[0] | {"video": "standard input"}


def test_empty_pipe_is_one_line(trained, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(DataError, match=r"^standard input: holds nothing$"):
        stmn.load(model_of(trained, "appearance")).predict("-")


@contextmanager
def served(folder: Path):
    """Serve a folder over HTTP; gives the address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_online_file_gives_what_the_file_gives(trained, tmp_path):
    video = film(tmp_path / "a.mkv", moving(40))
    with served(tmp_path) as address:
        assert lines(model_of(trained, "fused"), f"{address}/a.mkv") == [
            line | {"video": f"{address}/a.mkv"} for line in lines(model_of(trained, "fused"), video)
        ]
        refused = call("predict", model_of(trained, "fused"), f"{address}/b.mkv")
    assert refused.exit_code == 1
    assert errors_of(refused) == [f"{address}/b.mkv: not a readable video: Server returned 404 Not Found"]


# Errors


def test_video_shorter_than_a_stack_is_padded_with_notice(trained, tmp_path):
    video = film(tmp_path / "short.avi", moving(6))
    for name in ("motion", "fused"):
        found = call("predict", model_of(trained, name), video)
        assert found.exit_code == 0 and found.stdout.startswith(f"{video}: ")
        assert found.stderr.splitlines() == [
            f"{video}: 6 frames are too few for a stack of 10 flow fields: the first and the last field are repeated"
        ]
    assert call("predict", model_of(trained, "appearance"), video).stderr == ""
    assert call("predict", model_of(trained, "fused"), film(tmp_path / "long.avi", moving(11))).stderr == ""


@pytest.mark.parametrize(("make", "words"), [
    (lambda p: p.with_name("none.avi"), "no such video file"),
    (lambda p: p.write_bytes(b"no video") and p, "not a readable video: Invalid data found when processing input"),
    (lambda p: sound(p.with_suffix(".m4a")), "holds no video stream"),
    (lambda p: film(p, moving(1)), "one frame has no motion, and this model reads flow"),
    (lambda p: p.write_bytes(film(p, moving(90)).read_bytes()[:9000]) and p, "(breaks off after|decoding failed after)"),
])  # fmt: skip
def test_bad_video_is_one_line_and_others_are_done(make, words, trained, tmp_path):
    good = film(tmp_path / "good.avi", moving(12))
    path = make(tmp_path / "a.avi")
    found = call("predict", model_of(trained, "fused"), path, good)
    assert found.exit_code == 1
    [error] = errors_of(found)
    assert re.match(f"{re.escape(str(path))}: {words}", error)
    assert [line.partition(": ")[0] for line in found.stdout.splitlines()] == [str(good)]


def test_damaged_model_is_one_line(trained, tmp_path):
    video = film(tmp_path / "a.avi", moving(12))
    (tmp_path / "text.safetensors").write_text("no model at all, but long enough to be read as one")
    for path, words in ((tmp_path / "text.safetensors", "is damaged"), (video, "is damaged")):
        found = call("predict", path, video)
        assert found.exit_code == 1 and [words in line for line in errors_of(found)] == [True]


def test_real_clips_of_all_kinds(trained, shared_data):
    clips = shared_data / "clips"
    found = lines(model_of(trained, "fused"), clips)
    assert len(found) == len([p for p in clips.iterdir() if p.is_file()]) == 6
    assert all(len(line["scores"]) == 4 for line in found)
