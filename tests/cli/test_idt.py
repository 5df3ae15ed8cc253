"""`stmn idt show`: pictures and films of tracks."""

import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import call, errors_of
from helpers.films import count_frames, film, moving
from helpers.motions import add_disc, pan
from PIL import Image

from stmn.video.decode import decode_video

pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A disc that moves against a pan, 20 frames."""
    frames = pan(20, -2, 0)
    add_disc(frames, (40, 48), 2)
    return film(tmp_path_factory.mktemp("clips") / "disc.mp4", frames)


def heads(picture: np.ndarray) -> np.ndarray:
    """(N, 2) x and y of the red pixels."""
    r, g, b = picture.astype(int).transpose(2, 0, 1)
    return np.argwhere((r > 200) & (g < 90) & (b < 90))[:, ::-1]


def test_a_picture_shows_what_removing_camera_motion_removes(clip, tmp_path):
    done = call("idt", "show", clip, "--out", tmp_path / "a.png")
    assert done.exit_code == 0, done.stderr
    words = done.stdout.split()
    assert done.stdout.startswith(f"{tmp_path / 'a.png'}: frame 10 of 20, ")
    kept, all_ = int(words[5]), int(words[7])
    assert 20 < kept < all_ / 2
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    points = heads(picture)
    middle = picture.shape[1] // 2
    left, right = points[points[:, 0] < middle], points[points[:, 0] >= middle]
    assert 0 < len(left) < len(right) / 2
    disc = np.array([60, 48]) * 5  # frames of 128 pixels are enlarged five times
    assert np.median(np.abs(left - disc - (8, 50)), axis=0).max() < 150


def test_one_picture_without_camera_motion_removed(clip, tmp_path):
    done = call("idt", "show", clip, "--no-camera", "--frame", 3, "--out", tmp_path / "a.png")
    assert done.exit_code == 0, done.stderr
    assert "frame 3 of 20" in done.stdout
    assert "if camera" not in done.stdout
    assert Image.open(tmp_path / "a.png").width < 700


def test_a_film_has_every_frame(clip, tmp_path):
    done = call("idt", "show", clip, "-o", tmp_path / "a.mp4", "--warp", "recompute")
    assert done.exit_code == 0, done.stderr
    assert int(done.stdout.split()[-2]) > 20
    assert count_frames(tmp_path / "a.mp4") == 20
    assert all(len(heads(picture)) > 5 for picture in decode_video(tmp_path / "a.mp4"))


def test_boxes_and_scale(clip, tmp_path):
    (tmp_path / "people.bb").write_text("".join(f"{t} {20 + 2 * t} 28 {60 + 2 * t} 68 1\n" for t in range(20)))
    done = call(
        "idt", "show", clip, "--boxes", tmp_path / "people.bb", "--scale", 0.5, "-o", tmp_path / "a.png"
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr


def test_what_can_be_wrong(clip, tmp_path):
    small = film(tmp_path / "small.mp4", moving(20, 24, 30))
    out = tmp_path / "a.png"
    out.touch()
    for arguments, message in [
        (("--out", tmp_path / "a.gif"), "must end in .png (one frame) or .mp4"),
        (("--out", out), "already exists; use --force"),
        (("--out", tmp_path / "b.png", "--frame", 20), "has no frame 20; its 20 frames are 0 to 19"),
        (("--out", tmp_path / "b.mp4", "--frame", 1), "--frame is for a PNG"),
        (("--out", tmp_path / "b.png", "--flow", "stored"), "needs a prepared set"),
        (("--out", tmp_path / "b.png", "--flow", "farnebak"), "did you mean 'farneback'?"),
        (("--out", tmp_path / "b.png", "--boxes", tmp_path / "none.bb"), "none.bb: can't be read"),
    ]:
        [error] = errors_of(call("idt", "show", clip, *arguments))
        assert message in error
    [error] = errors_of(call("idt", "show", small, "--out", tmp_path / "b.png"))
    assert error == f"{small}: frames of 30x24 pixels are smaller than a patch of 32"
    [error] = errors_of(call("idt", "show", tmp_path / "none.mp4", "--out", tmp_path / "b.mp4"))
    assert error == f"{tmp_path / 'none.mp4'}: no such video file"
    assert {path.name for path in tmp_path.iterdir()} == {"small.mp4", "a.png"}


def test_without_opencv_a_line_names_the_extra(clip, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    [error] = errors_of(call("idt", "show", clip, "--out", tmp_path / "a.png"))
    assert error == "idt needs the package 'opencv-contrib-python-headless': pip install 'stmn[opencv]'"
