"""`synthetic`: what the videos show, measured on the decoded files."""

import hashlib

import av
import numpy as np
import pytest
from scipy.ndimage import label
from scipy.stats import ks_2samp

from stmn.datasets.synthetic import DIRECTIONS, Synthetic
from stmn.errors import UsageError
from stmn.video.decode import decode_video


def frames_of(dataset: Synthetic, video) -> np.ndarray:
    """(frames, H, W, 3) uint8, decoded from the video's file."""
    return np.stack(list(decode_video(dataset.fetch(video))))


def disc(frames: np.ndarray, t: int, hue: str) -> np.ndarray:
    """The pixels of the reddish or bluish disc at time t: the largest patch that is not background and has that hue."""
    frame, still = frames[t].astype(int), np.median(frames, axis=0)
    lean = (frame[..., 0] - frame[..., 2]) * (1 if hue == "red" else -1)
    patches, count = label((np.abs(frame - still).sum(axis=-1) > 40) & (lean > 20))
    sizes = np.bincount(patches.ravel(), minlength=count + 1)
    sizes[0] = 0
    return patches == sizes.argmax()


def direction(frames: np.ndarray, hue: str) -> str:
    """The direction in which the centroid of a disc moves."""
    first, last = (np.argwhere(disc(frames, t, hue))[:, ::-1].mean(axis=0) for t in (0, len(frames) - 1))
    return max(DIRECTIONS, key=lambda name: float((last - first) @ DIRECTIONS[name]))


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
    found = {video.id: direction(videos[video.id], "red") for video in dataset.videos()}
    assert found == {video.id: video.class_name for video in dataset.videos()}


def test_masks_say_where_the_two_discs_are(dataset, videos):
    """The mean hue under the mask is stronger than under the mask moved by two pixels."""
    for video in dataset.videos()[::10]:
        masks = dataset.masks(video.id, [0, 13])
        assert not (masks["target"] & masks["distractor"]).any()
        for name, sign in (("target", 1), ("distractor", -1)):
            assert masks[name].shape == (2, 64, 64)
            for mask, frame in zip(masks[name], videos[video.id][[0, 13]].astype(int), strict=True):
                lean = sign * (frame[..., 0] - frame[..., 2])
                moved = [lean[np.roll(mask, shift, axis)].mean() for shift in (-2, 2) for axis in (0, 1)]
                assert lean[mask].mean() > max(20, *moved)


def test_bluish_disc_moves_in_another_direction(dataset, videos):
    others = {video.id: direction(videos[video.id], "blue") for video in dataset.videos()}
    assert all(others[video.id] != video.class_name for video in dataset.videos())
    assert set(others.values()) == set(DIRECTIONS)


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
    assert digest.hexdigest() == "87cbfa9d9082b8e1e5a0958e251d92381451e2916aa31f8d1e39a29f802b8154"


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
    for video in dataset.videos()[:20]:
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
