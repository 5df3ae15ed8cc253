"""Methods with several seeds: intervals that cover, seeds that aren't counted as videos, fair comparisons."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from stmn.errors import DataError
from stmn.evaluation.intervals import Units, accuracy_interval, wilson_interval
from stmn.evaluation.metrics import average_splits, measure
from stmn.evaluation.repeats import Method, Result, collect_methods, compare_methods, measure_method
from stmn.evaluation.scores import Scores

CLASSES = ["a", "b"]


def scores(
    correct: list[int], split: str = "1", groups: list[str] | None = None, ids: list[str] | None = None
) -> Scores:
    """Scores of class "a" that are correct where asked."""
    logits = torch.tensor([[1.0, 0.0] if right else [0.0, 1.0] for right in correct])
    names = ids or [f"v{number}" for number in range(len(correct))]
    return Scores(
        names, CLASSES, [0] * len(correct), {"s": logits}, {"split": split, "part": "test"}, groups or names, []
    )


def methods(*rows: tuple[str, int, Scores]) -> dict[str, Method]:
    found = collect_methods([Result(row, seed, one, f"{row}-{seed}") for row, seed, one in rows])
    return {method.name: method for method in found}


def test_one_seed_gives_the_interval_and_test_of_an_evaluation():
    groups = [f"g{n // 3}" for n in range(12)]
    first, second = [1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0]
    found = methods(("one", 0, scores(first, groups=groups)), ("two", 0, scores(second, groups=groups)))
    row = measure_method(found["one"])
    assert row["interval"] == pytest.approx(measure(scores(first, groups=groups))["interval"])
    assert row["accuracy"] == pytest.approx(7 / 12)
    assert (row["deviation"], row["over"], row["units"]) == (None, "groups", 4)
    compared = compare_methods(found["two"], found["one"])
    assert compared["difference"] == pytest.approx(3 / 12) and (compared["alone"], compared["other_alone"]) == (3, 0)
    assert compared["test"] == "exact sign-flip test over 4 groups"


def test_repeating_a_training_exactly_adds_no_evidence():
    """Five equal seeds know no more of other videos than one does; twins of all videos would."""
    right, better = [1, 0] * 30, [1, 0] * 20 + [1, 1] * 10
    once = methods(("one", 0, scores(right)), ("two", 0, scores(better)))
    often = methods(*((row, seed, scores(c)) for row, c in (("one", right), ("two", better)) for seed in range(5)))
    for row in ("one", "two"):
        alone, five = measure_method(once[row]), measure_method(often[row])
        assert five["accuracy"] == pytest.approx(alone["accuracy"]) and five["deviation"] == pytest.approx(0)
        width = np.diff(five["interval"]).item() / np.diff(alone["interval"]).item()
        assert 0.99 < width < 1.03
    alone, five = (compare_methods(found["two"], found["one"]) for found in (once, often))
    assert five["p_value"] == pytest.approx(alone["p_value"]) and five["alone"] == 5 * alone["alone"] == 50
    assert np.diff(five["interval"]).item() > 0.93 * np.diff(alone["interval"]).item()
    assert (
        five["test"] == "exact sign-flip test over 60 videos" and alone["test"] == "McNemar's exact test over 60 videos"
    )


def drawn(trials: int, groups: int, each: int, seeds: int) -> Iterator[tuple[Units, np.ndarray, np.ndarray]]:
    """Two equally good methods on videos of groups: units, and (seeds, videos) of each, drawn again and again."""
    generator = np.random.default_rng(groups * each + seeds)
    videos = groups * each
    units = Units([f"g{number // each}" for number in range(videos)])
    for _ in range(trials):
        shared = generator.normal(0, 1, groups).repeat(each) + generator.normal(0, 1.5, videos)
        pair = []
        for _ in range(2):
            own = generator.normal(0, 0.7, groups).repeat(each) + generator.normal(0, 0.7, videos)
            chances = 1 / (1 + np.exp(-(0.5 + shared + own)))
            pair.append((generator.random((seeds, videos)) < chances).astype(float))
        yield units, *pair


@pytest.mark.parametrize(("groups", "each"), [(10, 6), (60, 1)])
def test_intervals_over_seeds_cover_and_tests_are_fair(groups, each):
    """docs/decisions/intervals.md has more of this; seeds counted as videos would cover far less."""
    effects = np.random.default_rng(0).normal(0, np.sqrt(1 + 1.5**2 + 2 * 0.7**2), 200_000)
    truth = (1 / (1 + np.exp(-(0.5 + effects)))).mean()
    covered = differences = rejected = counted_as_videos = 0
    trials, seeds = 150, 5
    for units, first, second in drawn(trials, groups, each, seeds):
        videos = [("1", f"v{n}") for n in range(groups * each)]
        weights = np.full(len(videos), 1 / len(videos))
        names = [str(number) for number in units.number]
        one, two = (
            Method(n, list(range(seeds)), ["1"], videos, names, c, weights) for n, c in (("a", first), ("b", second))
        )
        low, high = measure_method(one)["interval"]
        compared = compare_methods(two, one)
        covered += low <= truth <= high
        differences += compared["interval"][0] <= 0 <= compared["interval"][1]
        rejected += compared["p_value"] < 0.05
        low, high = wilson_interval(first.sum(), first.size)
        counted_as_videos += low <= truth <= high
    assert covered / trials > 0.9 and differences / trials > 0.9 and rejected / trials < 0.1
    assert counted_as_videos / trials < 0.85


def test_splits_that_share_videos_are_averaged_as_evaluate_does():
    parts = [scores([1, 0, 1, 1], "1"), scores([1, 0, 0, 1, 1, 1], "2", ids=["v0", "v1", "x", "y", "z", "w"])]
    [method] = methods(*(("m", 0, part) for part in parts)).values()
    mean = average_splits(parts)
    row = measure_method(method)
    assert row["accuracy"] == pytest.approx(mean["accuracy"]) and row["interval"] == pytest.approx(mean["interval"])
    assert (row["videos"], row["units"], row["over"]) == (8, 8, "videos")
    assert (mean["units"], mean["intervals_over"]) == (8, "videos")


def test_one_seed_is_compared_with_each_of_the_others():
    found = methods(
        ("five", 1, scores([1, 1, 1, 0])), ("five", 2, scores([1, 1, 0, 0])), ("base", 0, scores([1, 0, 0, 0]))
    )
    compared = compare_methods(found["five"], found["base"])
    assert (compared["paired_seeds"], compared["alone"], compared["other_alone"]) == (2, 3, 0)
    assert compared["difference"] == pytest.approx(3 / 8)
    apart = methods(*(("a", s, scores([1, 0])) for s in (0, 1)), *(("b", s, scores([1, 0])) for s in (1, 2)))
    assert compare_methods(apart["a"], apart["b"])["paired_seeds"] == 1
    assert compare_methods(found["five"], methods(("x", 0, scores([1, 0, 1])))["x"]) is None


@pytest.mark.parametrize(("videos", "each"), [(12, 3), (60, 6), (90, 10), (400, 1)])
@pytest.mark.parametrize("right", [0, 1])
def test_all_correct_or_all_wrong_counts_a_group_once(videos, each, right):
    groups = [f"g{n // each}" for n in range(videos)]
    [method] = methods(*(("m", seed, scores([right] * videos, groups=groups)) for seed in range(5))).values()
    found = measure_method(method)
    assert found["accuracy"] == right
    assert found["interval"] == accuracy_interval(np.full(videos, float(right)), Units(groups))


def test_a_few_mistakes_do_not_show_that_seeds_fail_on_different_videos():
    """So one mistake in 2,000 results of 400 videos isn't worth 2,000 videos: all correct is worth 400."""
    wrong = [[1] * 400 for _ in range(5)]
    wrong[2][7] = 0
    [method] = methods(*(("m", seed, scores(correct)) for seed, correct in enumerate(wrong))).values()
    low, high = measure_method(method)["interval"]
    assert (low, high) == pytest.approx(wilson_interval(399.8, 400), abs=1e-3)
    generator = np.random.default_rng(0)
    truth, held = 1 - (0.005 + 0.995 * 0.0025), 0
    weights, names = np.full(400, 1 / 400), [str(n) for n in range(400)]
    for _ in range(200):  # a few videos are wrong with every seed, and a few results besides
        correct = ~((generator.random(400) < 0.005) | (generator.random((5, 400)) < 0.0025))
        one = Method("m", list(range(5)), ["1"], [("1", n) for n in names], names, correct.astype(float), weights)
        low, high = measure_method(one)["interval"]
        held += low <= truth <= high
    assert held > 0.91 * 200


def test_results_that_contradict_the_mean_over_splits_decide_nothing():
    """Two videos of a small split outweigh ten of a large one."""
    small, large = ["s0", "s1"], [f"l{n}" for n in range(40)]
    found = methods(
        ("one", 0, scores([1, 1], "1", ids=small)), ("one", 0, scores([0] * 10 + [1] * 30, "2", ids=large)),
        ("two", 0, scores([0, 0], "1", ids=small)), ("two", 0, scores([1] * 40, "2", ids=large)),
    )  # fmt: skip
    compared = compare_methods(found["one"], found["two"])
    assert compared["difference"] > 0.3 and compared["alone"] < compared["other_alone"]
    assert compared["p_value"] == 1


@pytest.mark.parametrize(("rows", "message"), [
    ([("m", 0, scores([1, 0])), ("m", 0, scores([1, 1]))], "row 'm': m-0 and m-0 are both of seed 0 and split 1"),
    ([("m", 0, scores([1])), ("m", 0, scores([1], "2")), ("m", 1, scores([1]))], "no scores of seed 1 for split 2"),
    ([("m", 0, scores([1, 0])), ("m", 1, scores([1, 0], ids=["v0", "x"]))], "m-1: does not score the same videos"),
])  # fmt: skip
def test_results_that_do_not_make_a_row_are_refused(rows, message):
    with pytest.raises(DataError, match=message):
        methods(*rows)
