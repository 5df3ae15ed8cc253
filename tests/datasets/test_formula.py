"""`formula`: pictures and motions that formulas draw, measured on what is rendered and by TV-L1."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from stmn.datasets.formula import Formula
from stmn.errors import UsageError
from stmn.flow.tvl1 import tvl1
from stmn.video.decode import decode_video


def pictures(dataset: Formula, video) -> np.ndarray:
    """(frames, H, W, 3) uint8, before they are encoded."""
    return np.stack(list(dataset.render(video)))


def flow(frames: np.ndarray) -> np.ndarray:
    """(frames - 1, 2, H, W) pixels: TV-L1."""
    grey = torch.from_numpy(frames @ (0.299, 0.587, 0.114)).float()
    return tvl1(grey[:-1], grey[1:]).numpy()


def spectrum(picture: np.ndarray) -> np.ndarray:
    """What a picture shows whatever its colours and place: the amplitudes of its low frequencies."""
    grey = picture @ (0.299, 0.587, 0.114)
    amplitudes = np.abs(np.fft.rfft2((grey - grey.mean()) / (grey.std() + 1e-6)))
    return np.log1p(np.concatenate([amplitudes[:12, :12], amplitudes[-12:, :12]])).ravel()


def share_of_neighbours(features: np.ndarray, labels: np.ndarray) -> float:
    """How often the nearest other picture is of the same class."""
    far = cdist(features, features)
    np.fill_diagonal(far, np.inf)
    return float((labels[far.argmin(axis=1)] == labels).mean())


@pytest.fixture(scope="module")
def patterns(tmp_path_factory) -> Formula:
    return Formula(tmp_path_factory.mktemp("formula"), train=24, test=24, frames=6, size=48, classes=12)


@pytest.fixture(scope="module")
def instances(patterns) -> tuple[np.ndarray, np.ndarray]:
    """(288, 48, 48, 3) pictures of all videos, and their classes."""
    videos = patterns.videos()
    shown = np.concatenate([pictures(patterns, video) for video in videos])
    return shown, np.repeat([int(video.class_name[-4:]) for video in videos], 6)


def test_pattern_class_can_be_seen_in_its_instances(instances):
    shown, labels = instances
    assert share_of_neighbours(np.stack([spectrum(picture) for picture in shown]), labels) > 0.25, "chance is 0.08"


def test_colours_say_nothing_of_a_pattern(instances):
    shown, labels = instances
    assert share_of_neighbours(shown.mean(axis=(1, 2)), labels) < 0.2


def test_every_frame_is_another_instance(patterns, instances):
    shown, _ = instances
    assert len({picture.tobytes() for picture in shown}) == len(shown) == 288


def test_patterns_fill_their_pictures(patterns, instances):
    shown, _ = instances
    assert shown.std(axis=(1, 2)).max(axis=1).min() > 3, "a picture without anything in it"


def test_pattern_videos_are_written_and_read(patterns):
    video = patterns.videos()[0]
    decoded = np.stack(list(decode_video(patterns.fetch(video))))
    assert decoded.shape == (6, 48, 48, 3)
    assert np.abs(decoded - pictures(patterns, video).astype(float)).mean() < 12


@pytest.mark.parametrize("task", ["appearance", "motion"])
def test_formula_video_depends_on_seed_part_number(task, tmp_path):
    few, many, other = (
        Formula(tmp_path / str(i), train=n, test=2, frames=2, size=32, task=task, seed=seed)
        for i, (n, seed) in enumerate([(2, 0), (50, 0), (2, 1)])
    )
    again = {video.id: video for video in many.videos()}
    for video in few.videos():
        assert pictures(few, video).tobytes() == pictures(many, again[video.id]).tobytes()
        assert pictures(few, video).tobytes() != pictures(other, video).tobytes()
    assert len({pictures(few, video).tobytes() for video in few.videos()}) == 4


#: kind of motion -> a number of a flow field (u, v, rows, columns from the centre) that is above 0.5 if it is shown
SIGNS = {
    "move_right": lambda u, v, y, x: u.mean() / np.hypot(u, v).mean(),
    "move_up": lambda u, v, y, x: -v.mean() / np.hypot(u, v).mean(),
    "move_left_down": lambda u, v, y, x: (v - u).mean() / np.sqrt(2) / np.hypot(u, v).mean(),
    "turn_clockwise": lambda u, v, y, x: (x * v - y * u).sum() / (np.hypot(x, y) * np.hypot(u, v)).sum(),
    "turn_anticlockwise": lambda u, v, y, x: (y * u - x * v).sum() / (np.hypot(x, y) * np.hypot(u, v)).sum(),
    "grow": lambda u, v, y, x: (x * u + y * v).sum() / (np.hypot(x, y) * np.hypot(u, v)).sum(),
    "shrink": lambda u, v, y, x: -(x * u + y * v).sum() / (np.hypot(x, y) * np.hypot(u, v)).sum(),
}


@pytest.fixture(scope="module")
def motions(tmp_path_factory) -> Formula:
    return Formula(tmp_path_factory.mktemp("motions"), train=176, test=0, frames=4, size=64, task="motion")


@pytest.mark.parametrize("kind", SIGNS)
def test_scene_moves_as_its_class_says(motions, kind):
    y, x = np.mgrid[:64, :64] - 31.5
    shown = [pictures(motions, video) for video in motions.videos() if video.class_name == f"scene_{kind}"]
    found = [SIGNS[kind](*flow(frames).mean(axis=0), y, x) for frames in shown]
    assert np.median(found) > 0.5, found


def test_object_moves_and_what_is_around_it_hardly(motions):
    """The mean over the frame of how far pixels move is larger where the whole scene does."""
    far = {"object": [], "scene": []}
    for video in motions.videos():
        if "_move_" in video.class_name:
            moved = flow(pictures(motions, video)[:2])
            far[video.class_name.partition("_")[0]].append(np.hypot(*moved[0]).mean())
    assert np.median(far["scene"]) > 2 * np.median(far["object"])


def test_there_are_44_kinds_of_motion(motions):
    classes = {video.class_name for video in motions.videos()}
    assert len(classes) == 44
    assert sorted(name[7:] for name in classes if name[0] == "o") == sorted(n[6:] for n in classes if n[0] == "s")


def test_mirrors_keep_patterns_and_not_motions(patterns, motions):
    assert patterns.keeps == {"crop", "mirror"}
    assert motions.keeps == {"crop"}


@pytest.mark.parametrize(("options", "words"), [
    ({"task": "motions"}, "formula: unknown task 'motions' (did you mean 'motion'?)"),
    ({"task": "motion", "classes": 5}, "formula: classes belongs to task = appearance"),
    ({"classes": 1}, "formula: classes must be 2 to 10,000"), ({"size": 33}, "formula: size must be even, 32 to 4096"),
])  # fmt: skip
def test_bad_formula_option_is_a_usage_error(options, words, tmp_path):
    with pytest.raises(UsageError) as caught:
        Formula(tmp_path, **options)
    assert words in str(caught.value)
