"""Intervals of shares: Wilson's, at the effective number of videos where videos are related."""

from math import sqrt

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import recall_score

from stmn.evaluation.intervals import (
    Units,
    accuracy_interval,
    class_mean_influence,
    difference_interval,
    share_interval,
    wilson_interval,
)


def groups(count: int, each: int) -> Units:
    return Units([f"g{number // each}" for number in range(count * each)])


def drawn(generator: np.random.Generator, count: int, each: int, share: float, related: float) -> NDArray[np.float64]:
    """Which videos of `count` groups are correct: `share` of them in the long run, with that correlation in a group."""
    size = 1 / related - 1
    of_group = (
        generator.beta(share * size, (1 - share) * size, count) if size else generator.uniform(size=count) < share
    )
    return (generator.uniform(size=(count, each)) < of_group[:, None]).astype(float).ravel()


def test_interval_is_wilsons():
    z = 1.959964
    for right, count in ((0, 10), (3, 10), (10, 10), (942, 1000), (1, 1)):
        share, spread = right / count, z * sqrt(right / count * (1 - right / count) / count + z * z / (4 * count**2))
        middle, scale = share + z * z / (2 * count), 1 + z * z / count
        low, high = wilson_interval(right, count)
        assert (low, high) == pytest.approx(((middle - spread) / scale, (middle + spread) / scale), abs=1e-6)
        assert 0 <= low <= share + 1e-12 and share - 1e-12 <= high <= 1
        assert high > low  # not even 10 of 10 is certain
    widths = [np.diff(wilson_interval(count // 2, count))[0] for count in (10, 100, 1000)]
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(("right", "count"), [(0, 7), (2, 15), (15, 15), (1, 1), (196, 400)])
def test_unrelated_videos_have_wilsons_interval(right, count):
    correct = np.arange(count) < right
    assert accuracy_interval(correct.astype(float), groups(count, 1)) == pytest.approx(wilson_interval(right, count))


def test_related_videos_are_worth_no_more_than_their_groups():
    once = (np.arange(30) < 20).astype(float)
    alone = accuracy_interval(once, groups(30, 1))
    tenfold = accuracy_interval(np.repeat(once, 10), groups(30, 10))
    assert tenfold == pytest.approx(alone, abs=0.02)
    naive = accuracy_interval(np.repeat(once, 10), groups(300, 1))
    assert np.diff(naive)[0] < 0.5 * np.diff(tenfold)[0]
    assert accuracy_interval(np.ones(20), groups(4, 5)) == pytest.approx(wilson_interval(4, 4))


@pytest.mark.parametrize("count", [2, 3, 5, 10, 40])
def test_intervals_hold_the_truth_in_95_percent_of_trials_even_with_few_groups(count):
    """Seven clips per group; percentiles of a bootstrap hold it in 72 % of trials for 3 groups, in 43 % for 2."""
    generator, units = np.random.default_rng(count), groups(count, 7)
    labels = np.arange(7 * count) % 4
    held = {"accuracy": 0, "class mean": 0, "difference": 0}
    for _ in range(400):
        first, second = (drawn(generator, count, 7, 0.7, 0.4) for _ in range(2))
        means = np.mean([first[labels == number].mean() for number in range(4)])
        intervals = {
            "accuracy": (0.7, accuracy_interval(first, units)),
            "class mean": (0.7, share_interval(float(means), class_mean_influence(first, labels, units), units)),
            "difference": (0.0, difference_interval(second - first, units)),
        }
        for name, (truth, (low, high)) in intervals.items():
            held[name] += low <= truth <= high
    assert min(held.values()) > 0.91 * 400, held


@pytest.mark.parametrize("sizes", [[60, *[3] * 9], [40, 20, 10, 5, 5, 3, 2, 2, 2, 1], [30, *[1] * 60]])
def test_intervals_hold_the_truth_if_groups_are_of_very_unequal_sizes(sizes):
    generator = np.random.default_rng(0)
    units = Units([f"g{number}" for number, size in enumerate(sizes) for _ in range(size)])
    held = {"accuracy": 0, "difference": 0}
    for _ in range(300):
        first, second = (
            (generator.random(sum(sizes)) < np.repeat(generator.beta(1.05, 0.45, len(sizes)), sizes)).astype(float)
            for _ in range(2)
        )
        intervals = {"accuracy": (0.7, accuracy_interval(first, units)),
                     "difference": (0.0, difference_interval(second - first, units))}  # fmt: skip
        for name, (truth, (low, high)) in intervals.items():
            held[name] += low <= truth <= high
    assert min(held.values()) > 0.91 * 300, held


def test_groups_of_unequal_size_may_be_few_though_they_are_many():
    assert groups(10, 6).few == "" and groups(60, 1).few == ""
    assert groups(9, 6).few == "9 groups are" and groups(1, 6).few == "1 group is"
    unequal = Units([f"g{number}" for number, size in enumerate([60, *[3] * 9]) for _ in range(size)])
    assert unequal.few == "10 groups, as unequal as they are, count as 2.1, and are"


def test_one_group_gives_no_interval():
    assert accuracy_interval(np.array([1.0, 0.0, 1.0]), Units(["anna"] * 3)) == [0.0, 1.0]
    assert difference_interval(np.array([1.0, 0.0, 1.0]), Units(["anna"] * 3)) == [-1.0, 1.0]


def test_two_videos_are_together_if_either_list_says_so():
    units = Units(["a", "a", "b", "c", "d"], ["v", "w", "w", "x", "y"])
    assert (units.count, units.over, str(units)) == (3, "groups", "3 groups")
    assert units.number.tolist()[:3] == [units.number[0]] * 3 and len(set(units.number.tolist()[2:])) == 3
    assert str(Units(list("abc"))) == "3 videos" and str(Units(["a"])) == "1 video"


def test_class_mean_varies_as_a_bootstrap_says():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 8, 240)
    correct = (generator.uniform(size=240) < 0.3 + 0.08 * labels).astype(float)
    rows = generator.integers(0, 240, (1000, 240))
    means = [recall_score(labels[row], np.where(correct[row], labels[row], -1), labels=range(8), average="macro", zero_division=0) for row in rows[:400]]  # fmt: skip
    value = np.mean([correct[labels == number].mean() for number in range(8)])
    interval = share_interval(float(value), class_mean_influence(correct, labels, groups(240, 1)), groups(240, 1))
    assert interval == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.02)


def test_a_class_mean_that_is_the_accuracy_has_its_interval():
    """As on Weizmann: each person does each action once, so all classes have as many videos."""
    correct, labels = np.array([1.0, 0, 1, 1, 0, 1, 1, 1, 0, 0, 1, 1]), np.arange(12) % 4
    for units in (Units([f"person{number // 4}" for number in range(12)]), groups(12, 1)):
        interval = share_interval(correct.mean(), class_mean_influence(correct, labels, units), units)
        if units.over == "groups":
            assert interval == pytest.approx(accuracy_interval(correct, units))
    single = class_mean_influence(correct[:6], np.arange(6), groups(6, 1))
    assert share_interval(correct[:6].mean(), single, groups(6, 1)) == pytest.approx(wilson_interval(4, 6))
