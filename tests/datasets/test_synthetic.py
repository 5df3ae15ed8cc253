"""`synthetic`: what the videos show, measured on the decoded files."""

import hashlib
from collections import Counter

import av
import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from scipy.stats import ks_2samp, kstest

from stmn.datasets.rendering import which_moves
from stmn.datasets.synthetic import DIRECTIONS, Synthetic
from stmn.errors import UsageError
from stmn.video.decode import decode_video


def frames_of(dataset: Synthetic, video) -> np.ndarray:
    """(frames, H, W, 3) uint8, decoded from the video's file."""
    return np.stack(list(decode_video(dataset.fetch(video))))


def disc(frames: np.ndarray, t: int, hue: str) -> np.ndarray:
    """The pixels of the reddish or bluish disc at time t: those that are not ground and have that hue."""
    frame, still = frames[t].astype(int), np.median(frames, axis=0)
    lean = (frame[..., 0] - frame[..., 2]) * (1 if hue == "red" else -1)
    return (np.abs(frame - still).sum(axis=-1) > 40) & (lean > 20)


def centre(found: np.ndarray) -> np.ndarray:
    """The centre (x, y) of pixels on a torus, as angles."""
    turns = np.exp(2j * np.pi * np.argwhere(found)[:, ::-1] / len(found))
    return np.angle(turns.sum(axis=0))


def direction(frames: np.ndarray, hue: str) -> str:
    """The direction in which the centre of a disc moves; it goes less than half round the torus."""
    first, last = (centre(disc(frames, t, hue)) for t in (0, len(frames) - 1))
    moved = np.angle(np.exp(1j * (last - first)))
    return max(DIRECTIONS, key=lambda name: float(moved @ DIRECTIONS[name]))


def are_apart(dataset: Synthetic, video) -> bool:
    """True if neither disc covers the other, or nearly, in the first and the last frame."""
    masks = dataset.masks(video.id, [0, 13])
    near = np.stack([binary_dilation(np.pad(mask, 3, "wrap"), iterations=3)[3:-3, 3:-3] for mask in masks["target"]])
    return not (near & masks["distractor"]).any()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Synthetic:
    return Synthetic(tmp_path_factory.mktemp("synthetic"), train=100, test=20)


@pytest.fixture(scope="module")
def videos(dataset) -> dict[str, np.ndarray]:
    """Id -> frames of all videos."""
    return {video.id: frames_of(dataset, video) for video in dataset.videos()}


def test_videos_are_h264_in_mp4(dataset, videos):
    for video in dataset.videos()[:3]:
        with av.open(str(video.path)) as container:
            stream = container.streams.video[0]
            assert "mp4" in container.format.name
            assert stream.codec_context.name == "h264"
            assert (stream.width, stream.height, stream.average_rate) == (64, 64, 25)
        assert videos[video.id].shape == (14, 64, 64, 3)


def test_class_is_the_direction_of_the_reddish_disc(dataset, videos):
    shown = [video for video in dataset.videos() if are_apart(dataset, video)]
    assert len(shown) > 60
    found = {video.id: direction(videos[video.id], "red") for video in shown}
    assert found == {video.id: video.class_name for video in shown}


def test_masks_say_where_the_two_discs_are(dataset, videos):
    """The mean hue under the mask is stronger than under the mask moved by two pixels."""
    for video in dataset.videos()[::10]:
        masks = dataset.masks(video.id, [0, 13])
        assert not (masks["target"] & masks["distractor"]).any()
        if (binary_dilation(masks["target"], iterations=3) & masks["distractor"]).any():
            continue  # one of them covers the other, or nearly
        for name, sign in (("target", 1), ("distractor", -1)):
            assert masks[name].shape == (2, 64, 64)
            for mask, frame in zip(masks[name], videos[video.id][[0, 13]].astype(int), strict=True):
                lean = sign * (frame[..., 0] - frame[..., 2])
                moved = [lean[np.roll(mask, shift, axis)].mean() for shift in (-2, 2) for axis in (0, 1)]
                assert lean[mask].mean() > max(20, *moved)


def test_bluish_disc_moves_in_another_direction(dataset, videos):
    shown = [video for video in dataset.videos() if are_apart(dataset, video)]
    others = {video.id: direction(videos[video.id], "blue") for video in shown}
    assert all(others[video.id] != video.class_name for video in shown)
    assert set(others.values()) == set(DIRECTIONS)


@pytest.mark.parametrize("t", [0, 7, 13])
def test_positions_say_nothing_of_the_directions(t):
    """Whatever the class, both discs are anywhere at any time, and anywhere beside each other."""
    for class_name in DIRECTIONS:
        drawn = [which_moves.draw_motion(np.random.default_rng(seed), class_name, 14, 64) for seed in range(400)]
        red = np.array([discs[target].track[t] for discs, target in drawn])
        blue = np.array([discs[1 - target].track[t] for discs, target in drawn])
        for values in (red, blue, red - blue):
            for axis in (0, 1):
                assert kstest(values[:, axis] % 64 / 64, "uniform").pvalue > 0.001


def test_either_disc_may_cover_the_other():
    upper = Counter(which_moves.draw_motion(np.random.default_rng(seed), "up", 14, 64)[1] for seed in range(100))
    assert min(upper.values()) > 30 and len(upper) == 2


def test_classes_alternate(dataset):
    for part, count in (("train", 100), ("test", 20)):
        classes = [v.class_name for v in dataset.videos() if v.id.startswith(part)]
        assert {name: classes.count(name) for name in DIRECTIONS} == dict.fromkeys(DIRECTIONS, count // 4)


def test_no_video_is_in_both_parts(dataset, videos):
    parts = dataset.splits()["1"]
    assert [len(parts[part]) for part in ("train", "test")] == [100, 20]
    assert not set(parts["train"]) & set(parts["test"])
    assert len({frames.tobytes() for frames in videos.values()}) == 120, "no two videos are alike"


def test_video_is_a_function_of_seed_part_and_number(dataset, videos, tmp_path):
    again = Synthetic(tmp_path / "again", train=2, test=2)  # the size of the set does not matter
    other = Synthetic(tmp_path / "other", train=2, test=2, seed=1)
    for video, changed in zip(again.videos(), other.videos(), strict=True):
        assert video.class_name == changed.class_name
        assert frames_of(again, video).tobytes() == videos[video.id].tobytes()
        assert frames_of(other, changed).tobytes() != videos[video.id].tobytes()


def test_which_moves_is_drawn_to_the_bit_as_ever(tmp_path):
    """Results that were measured on these videos stay comparable."""
    drawn = Synthetic(tmp_path, train=4, test=4)
    digest = hashlib.sha256()
    for video in drawn.videos():
        for picture in drawn.render(video):
            digest.update(picture.tobytes())
    assert digest.hexdigest() == "36862fbc028d182eb7ae9fe122278846655657baae3a6bc74c05fc81d79dceef"


def test_existing_file_is_not_rendered_again(dataset, videos):
    video = dataset.videos()[0]
    made = video.path.stat().st_mtime_ns
    assert dataset.fetch(video) == video.path
    assert video.path.stat().st_mtime_ns == made


def test_grey_frames_hold_nothing_of_the_hue(dataset, videos):
    """Otherwise flow, which sees only grey frames, could tell red from blue."""
    measured = {"red": [], "blue": []}
    levels = {"red": np.zeros(256), "blue": np.zeros(256)}
    for frames in videos.values():
        for hue, found in measured.items():
            for t in (0, 13):
                inside = (frames[t] @ (0.299, 0.587, 0.114))[disc(frames, t, hue)]
                levels[hue] += np.bincount(inside.round().astype(int), minlength=256)
            found.append((inside.mean(), inside.std()))
    red, blue = np.array(measured["red"]), np.array(measured["blue"])
    for column, name in enumerate(("brightness", "contrast")):
        assert ks_2samp(red[:, column], blue[:, column]).pvalue > 0.01, name
    # guessing the hue of a pixel from its grey level, in 16 bins, is hardly better than chance
    shares = [(levels[hue].reshape(16, 16).sum(axis=1) / levels[hue].sum()) for hue in ("red", "blue")]
    assert np.maximum(*shares).sum() / 2 < 0.56
    # the test is sensitive enough: discs that differ by 15 grey levels fail it
    assert ks_2samp(red[:, 0], blue[:, 0] + 15).pvalue < 0.01


def test_mirrored_clip_shows_another_class(dataset, videos):
    """So no augmentation keeps the label, and the loader may use none."""
    mirrored = {"left": "right", "right": "left", "up": "up", "down": "down"}
    for video in filter(lambda video: are_apart(dataset, video), dataset.videos()):
        assert direction(videos[video.id][:, :, ::-1], "red") == mirrored[video.class_name]
    assert dataset.keeps == frozenset()


@pytest.mark.parametrize(("options", "words"), [
    ({"size": 33}, "size must be even, 32 to 4096"), ({"size": 16}, "32 to 4096"), ({"frames": 1}, "frames 2 to 100,000"),
    ({"task": "which_move"}, "unknown task 'which_move' (did you mean 'which_moves'?)"),
])  # fmt: skip
def test_bad_option_is_a_usage_error(options, words, tmp_path):
    with pytest.raises(UsageError) as caught:
        Synthetic(tmp_path, **options)
    assert words in str(caught.value)
