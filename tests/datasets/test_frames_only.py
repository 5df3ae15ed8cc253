"""Videos that are pictures: folders of numbered frames without flow, animated GIF and WebP, MJPEG."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import call
from helpers.films import film, moving
from PIL import Image

from stmn.datasets.csv_list import CsvList
from stmn.datasets.folder import Folder
from stmn.errors import DataError
from stmn.prediction.api import find_videos
from stmn.store.format.read import Store
from stmn.video.decode import decode_video

FAST = ["--short-side", "32", "--workers", "1", "--flow", "farneback"]
SHOWN = moving(12, 32, 48)


def frames(folder: Path, names: str = "{:05d}.jpg", first: int = 1) -> Path:
    """Twelve pictures, numbered."""
    folder.mkdir(parents=True)
    for number, picture in enumerate(SHOWN, first):
        Image.fromarray(picture).save(folder / names.format(number), quality=95, subsampling=0)
    return folder


def error(pictures: list, shown: list = SHOWN) -> float:
    """Mean difference in grey levels; the numbers of pictures agree."""
    return float(np.abs(np.stack(pictures).astype(int) - np.stack(shown)).mean())


@pytest.mark.parametrize(("names", "first"), [("{:05d}.jpg", 1), ("img {}.png", 0), ("it's_{}.bmp", 95)])
def test_frames_come_in_order_of_their_numbers(names, first, tmp_path):
    assert error(list(decode_video(frames(tmp_path / "a", names, first)))) < 6


def test_folders_of_frames_are_videos_and_flow_is_computed(tmp_path):
    frames(tmp_path / "v" / "run" / "1")
    frames(tmp_path / "v" / "jump" / "2")
    (tmp_path / "v" / "jump" / "2" / "00004.jpg").unlink()
    frames(tmp_path / "v" / "jump" / "3")
    (tmp_path / "v" / "jump" / "3" / "00004.jpg").write_bytes(b"no picture")
    line = ["prepare", tmp_path / "v", "mine", *FAST, "-w", tmp_path, "--allow-failures", "2"]
    result = call(*line)
    assert result.exit_code == 0, result.stderr
    assert "3 videos are folders of numbered pictures, such as 'jump/2'" in result.stderr
    with Store(tmp_path / "data" / "mine") as store:
        assert (store.video("run/1").frames, store.video("run/1").fps) == (12, 0)
        assert store.fields("run/1", [10]).shape == (1, 2, 32, 48)
        assert "picture 4 of 1 to 12 is missing" in store.videos["jump/2"].reason
        assert store.videos["jump/3"].status == "skipped"
    frames(tmp_path / "new")
    shutil.copy(tmp_path / "new" / "00004.jpg", tmp_path / "v" / "jump" / "2")
    assert call(*line).exit_code == 0
    with Store(tmp_path / "data" / "mine") as store:
        assert store.video("jump/2").frames == 12


def test_pictures_beside_a_video_are_no_video(tmp_path):
    frames(tmp_path / "run" / "a")
    film(tmp_path / "run" / "a" / "a.mp4", SHOWN)
    frames(tmp_path / "jump")
    folder = Folder(tmp_path)
    assert [v.id for v in folder.videos()] == ["run/a/a.mp4"]
    assert len(folder.left_out()) == 24


def test_frames_without_classes_are_one_line(tmp_path):
    frames(tmp_path / "34870")
    with pytest.raises(DataError, match="its folders hold numbered pictures: list them in a CSV file"):
        Folder(tmp_path).videos()


def test_jesters_list(tmp_path):
    """No header line, a number for each folder of frames."""
    frames(tmp_path / "34870")
    (tmp_path / "train.csv").write_text("34870;Drumming Fingers\n56557;Sliding Two Fingers Right\n")
    dataset = CsvList(tmp_path / "train.csv")
    videos = dataset.videos()
    assert [(v.id, v.class_name) for v in videos] == [
        ("34870", "Drumming Fingers"),
        ("56557", "Sliding Two Fingers Right"),
    ]
    assert [bool(dataset.lacks(v)) for v in videos] == [False, True]


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "apng"])
def test_animations(ending, tmp_path):
    path = tmp_path / "wave" / f"a.{ending}"
    path.parent.mkdir()
    first, *others = map(Image.fromarray, SHOWN)
    first.save(
        path, "png" if ending == "apng" else None, save_all=True, append_images=others, duration=40, lossless=True
    )
    assert error(list(decode_video(path))) < (12 if ending == "gif" else 1)
    if ending != "png":
        assert [v.id for v in Folder(tmp_path).videos()] == [f"wave/a.{ending}"]


def test_still_webp_is_no_video(tmp_path):
    (tmp_path / "wave").mkdir()
    Image.fromarray(SHOWN[0]).save(tmp_path / "wave" / "a.webp")
    with pytest.raises(DataError, match="no videos in folders"):
        Folder(tmp_path).videos()


def test_mjpeg(tmp_path):
    film(tmp_path / "a.mjpeg", SHOWN, "mjpeg", "yuvj420p")
    assert len(list(decode_video(tmp_path / "a.mjpeg"))) == 12


def test_predict_takes_a_folder_of_frames(tmp_path):
    [video] = find_videos([str(frames(tmp_path / "a"))])
    assert (video.kind, video.place) == ("file", str(tmp_path / "a"))
