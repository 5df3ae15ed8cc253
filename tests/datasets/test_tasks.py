"""What can be known of the rendered tasks: by analysis of what is drawn, and measured on videos."""

from collections import Counter, defaultdict
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stmn.datasets.rendering import distractors, what_comes_first
from stmn.datasets.rendering.canvas import colour_of
from stmn.datasets.synthetic import DIRECTIONS, Synthetic
from stmn.errors import UsageError
from stmn.flow.tvl1 import tvl1
from stmn.sampling.positions import spread_positions, stack_times

TASKS = ["which_moves", "what_comes_first", "distractors"]
FRAMES = what_comes_first.LEAST_FRAMES


def frames_of(dataset: Synthetic, video) -> np.ndarray:
    """(frames, H, W, 3) uint8, before they are encoded."""
    return np.stack(list(dataset.render(video)))


def flow(frames: np.ndarray) -> np.ndarray:
    """(frames - 1, 2, H, W) pixels: TV-L1."""
    grey = torch.from_numpy(frames @ (0.299, 0.587, 0.114)).float()
    return tvl1(grey[:-1], grey[1:]).numpy()


def direction(u: float, v: float) -> str:
    return max(DIRECTIONS, key=lambda name: np.dot((u, v), DIRECTIONS[name]))


#: pixels round the torus in the analysis of positions; a step is one of them
AROUND = 8


def stack_content(t: int, starts: dict[str, int], begin: tuple[int, int] | None = None) -> tuple:
    """All that the flow stack of the chunk at t shows: each motion's fields, by their places in the stack.

    Where the disc is at each of them is left out, unless the position at which it begins, (x, y), is given.
    """
    moving = {name: range(start, start + what_comes_first.MOVING) for name, start in starts.items()}
    return tuple(
        (name, place, *([] if begin is None else position(field, moving, begin)))
        for place, field in enumerate(stack_times(t, FRAMES, 10))
        for name in starts
        if field in moving[name]
    )


def position(field: int, moving: dict[str, range], begin: tuple[int, int]) -> list[int]:
    """Where the disc is before a field's motion, on the torus."""
    steps = {name: sum(before in fields for before in range(field)) for name, fields in moving.items()}
    return [(at + sum(DIRECTIONS[n][axis] * k for n, k in steps.items())) % AROUND for axis, at in enumerate(begin)]


def draws() -> list[tuple[int, int]]:
    """All pairs of first fields that can be drawn."""
    return [(first, first + what_comes_first.APART) for first in range(*what_comes_first.STARTS)]


def best_guess(reach: int, chunks: int = 6, positions: bool = False) -> float:
    """The accuracy of the best guess between the two orders from the bag of all runs of 2 * reach + 1 chunks in a row.

    Beyond the first and the last chunk a run shows the end of the video. All videos that can be drawn are counted, with
    the positions of the disc or without.
    """
    counts = defaultdict(Counter)
    begins = list(product(range(AROUND), repeat=2)) if positions else [None]
    for starts, begin in product(draws(), begins):
        for order in (("left", "up"), ("up", "left")):
            placed = dict(sorted(zip(order, starts, strict=True)))
            seen = [stack_content(t, placed, begin) for t in spread_positions(FRAMES, 10, chunks)]
            padded = ["end"] * reach + seen + ["end"] * reach
            runs = [tuple(padded[i : i + 2 * reach + 1]) for i in range(len(seen))]
            counts[frozenset(Counter(runs).items())][order] += 1
    return sum(max(orders.values()) for orders in counts.values()) / sum(map(Counter.total, counts.values()))


def test_no_stack_sees_both_motions():
    for starts in draws():
        for t in range(5, FRAMES - 5):
            assert len({name for name, _ in stack_content(t, dict(zip("ab", starts, strict=True)))}) < 2


def test_bag_of_chunks_says_nothing_of_the_order_without_positions():
    """So neither does an average over chunks of what doesn't depend on where in the frame the disc is."""
    assert best_guess(reach=0) == 0.5


def test_bag_of_chunks_says_the_order_with_positions():
    """The second motion begins where the first one ended, and max pooling over time sees both at that position."""
    assert best_guess(reach=0, positions=True) == 1


def test_one_temporal_filter_can_know_the_order():
    assert best_guess(reach=1) == 1


def test_motions_come_in_the_order_of_the_class(tmp_path):
    """Measured by TV-L1 on the frames."""
    dataset = Synthetic(tmp_path, train=4, test=0, size=48, task="what_comes_first")
    for video in dataset.videos():
        u, v = np.moveaxis(flow(frames_of(dataset, video)), 1, 0)
        shift = np.stack([u.sum(axis=(1, 2)), v.sum(axis=(1, 2))])
        first, end = what_comes_first.STARTS
        second, last = first + what_comes_first.APART, end + what_comes_first.APART
        found = direction(*shift[:, first : end + 4].sum(axis=1)), direction(*shift[:, second : last + 4].sum(axis=1))
        assert f"{found[0]}_first" == video.class_name
        assert found[1] != found[0]
        still = np.hypot(*shift)
        assert max(still[:first].mean(), still[end + 4 : second].mean()) < still[first : end + 4].max() / 5


def test_the_second_motion_has_any_other_direction(tmp_path):
    dataset = Synthetic(tmp_path, train=120, test=0, size=48, task="what_comes_first")
    seen = Counter()
    for video in dataset.videos():
        before, between, after = dataset.masks(video.id, [0, 23, 45])["target"]
        assert f"{shifted(before, between)}_first" == video.class_name
        seen[video.class_name, shifted(between, after)] += 1
    assert len(seen) == 12 and all(not name.startswith(second) for name, second in seen)


def shifted(before: np.ndarray, after: np.ndarray) -> str:
    """The direction in which a mask has moved, on a torus."""

    def overlap(name: str) -> int:
        x, y = DIRECTIONS[name]
        return max((np.roll(before, (pixels * y, pixels * x), (0, 1)) & after).sum() for pixels in range(4, 9))

    return max(DIRECTIONS, key=overlap)


def test_longer_video_of_an_order_has_more_stillness(tmp_path):
    dataset = Synthetic(tmp_path, train=1, test=0, frames=100, task="what_comes_first")
    covers = dataset.masks("train/what_comes_first_00000.mp4", range(100))["target"]
    moving = np.flatnonzero((covers[1:] != covers[:-1]).any(axis=(1, 2)))
    assert 10 + 27 <= moving[0] <= 16 + 27 and 24 + 27 + 4 <= moving[-1] <= 30 + 27 + 4


def test_order_needs_46_frames(tmp_path):
    with pytest.raises(UsageError, match="synthetic: what_comes_first needs frames to be 46 or more"):
        Synthetic(tmp_path, frames=45, task="what_comes_first")


def test_flow_of_three_discs_says_56_percent():
    """The best guess is the direction of the most; every way to draw three directions is equally likely."""
    ways = list(product(distractors.CLASSES, repeat=distractors.DISCS))
    right = [Counter(way).most_common(1)[0][1] / distractors.DISCS for way in ways]
    assert np.mean(right) == pytest.approx(0.5625)


def test_discs_move_independently_and_one_as_the_class_says():
    others = Counter()
    for seed in range(60):
        class_name = distractors.CLASSES[seed % 4]
        discs, target, camera = distractors.draw_motion(np.random.default_rng(seed), class_name, 14, 64)
        moves = [direction(*(disc.track[-1] - disc.track[0] - camera[-1])) for disc in discs]
        assert moves.pop(target) == class_name
        others.update((name == class_name, target) for name in moves)
    assert {target for _, target in others} == set(range(distractors.DISCS)), "it is not always on top"
    same = sum(count for (alike, _), count in others.items() if alike)
    assert 0.15 < same / others.total() < 0.35, "a fourth move as the reddish one does, by chance"


def test_one_disc_is_reddish():
    for seed in range(10):
        discs, target, _ = distractors.draw_motion(np.random.default_rng(seed), "up", 14, 64)
        lean = [disc.colour[0] - disc.colour[1:].max() for disc in discs]
        assert np.argmax(lean) == target


def test_luma_says_nothing_of_the_hue():
    rng = np.random.default_rng(0)
    lumas = [
        [colour_of(rng, hue) @ (0.299, 0.587, 0.114) for hue in np.radians(rng.uniform(*ends, 500))]
        for ends in ((90, 110), (150, 410))
    ]
    assert ks_2samp(*lumas).pvalue > 0.01
    assert ks_2samp(lumas[0], np.add(lumas[1], 8)).pvalue < 0.01, "8 levels would be found"


def test_reddish_disc_moves_over_the_ground_as_its_class_says(tmp_path):
    """Measured by TV-L1 under its mask, against the median of the frame, which is the camera's motion."""
    dataset = Synthetic(tmp_path, train=12, test=0, task="distractors")
    right = 0
    for video in dataset.videos():
        u, v = flow(frames_of(dataset, video)[6:8])[0]
        mask = dataset.masks(video.id, [6])["target"][0]
        right += direction(*(np.mean(f[mask]) - np.median(f) for f in (u, v))) == video.class_name
    assert right >= 10


def test_targets_hide_under_others_sometimes(tmp_path):
    dataset = Synthetic(tmp_path, train=12, test=0, task="distractors")
    for video in dataset.videos():
        masks = dataset.masks(video.id, [3, 10])
        assert masks["target"].shape == masks["distractor"].shape == (2, 64, 64)
        assert not (masks["target"] & masks["distractor"]).any()


@pytest.mark.parametrize("task", TASKS)
def test_task_video_depends_on_seed_part_number(task, tmp_path):
    few, many, other = (
        Synthetic(tmp_path / str(i), train=n, test=1, size=32, task=task, seed=seed)
        for i, (n, seed) in enumerate([(1, 0), (9, 0), (1, 1)])
    )
    again = {video.id: video for video in many.videos()}
    shown = [frames_of(few, video).tobytes() for video in few.videos()]
    assert shown == [frames_of(many, again[video.id]).tobytes() for video in few.videos()]
    assert len({*shown, *(frames_of(other, video).tobytes() for video in few.videos())}) == 4


def guessed(features: list, classes: list[str]) -> float:
    """The accuracy of logistic regression, cross-validated in four folds."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    return float((cross_val_predict(model, np.stack(features), classes, cv=4) == classes).mean())


def histogram(fields: np.ndarray) -> np.ndarray:
    """How much moves in each of 8 directions, over all of (n, 2, H, W)."""
    u, v = fields[:, 0], fields[:, 1]
    sector = (np.arctan2(v, u) / (np.pi / 4)).round().astype(int) % 8
    return np.bincount(sector.ravel(), np.hypot(u, v).ravel(), 8)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_cheap_classifiers_find_no_leak(task, tmp_path):
    """A frame at the start, in the middle or at the end; mean motion; what moves when, only where that is the class."""
    dataset = Synthetic(tmp_path, train=240, test=0, size=32, task=task)
    classes, shown, moved = [], [], []
    for video in dataset.videos():
        frames = frames_of(dataset, video)
        classes.append(video.class_name)
        shown.append(frames[:: len(frames) // 2 - 1, ::4, ::4].reshape(3, -1))
        moved.append(flow(frames))
    chance = 0.25 + 3 * (0.25 * 0.75 / 240) ** 0.5  # three standard errors
    for place in range(3):
        assert guessed([three[place] for three in shown], classes) < chance
    whole = guessed([histogram(fields) for fields in moved], classes)
    halves = guessed([np.concatenate([*map(histogram, np.array_split(fields, 2))]) for fields in moved], classes)
    assert whole < 0.5 + 3 * (0.25 / 240) ** 0.5, whole
    if task == "what_comes_first":
        assert halves > 0.8, halves
