"""Is one classifier better than another? Whole groups are exchanged, because their videos are related."""

import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test

from stmn.evaluation.intervals import Units
from stmn.evaluation.paired import compare_pairs


def units(count: int, each: int = 1) -> Units:
    return Units([f"g{number // each}" for number in range(count * each)])


@pytest.mark.parametrize("count", [1, 2, 8, 30, 400])
def test_unrelated_videos_have_mcnemars_exact_test(count):
    generator = np.random.default_rng(count)
    first, second = generator.uniform(size=count) < 0.5, generator.uniform(size=count) < 0.6
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    flipped = only_first + only_second
    test = compare_pairs(first, second, units(count))
    assert test.p_value == pytest.approx(binomtest(only_first, flipped).pvalue if flipped else 1.0)
    assert test.name == f"McNemar's exact test over {count} video{'s' if count > 1 else ''}"


def test_groups_have_the_exact_sign_flip_test_of_scipy():
    generator = np.random.default_rng(0)
    for _ in range(10):
        whole = Units(generator.integers(0, 9, 50).astype(str).tolist())
        first, second = generator.uniform(size=50) < 0.4, generator.uniform(size=50) < 0.6
        gains = whole.sum_by_unit(second.astype(float) - first)
        expected = permutation_test(
            (gains,), lambda values, axis: np.abs(values.sum(axis=axis)), permutation_type="samples", n_resamples=np.inf,
            alternative="greater", vectorized=True,
        ).pvalue  # fmt: skip
        test = compare_pairs(first, second, whole)
        assert test.p_value == pytest.approx(expected)
        assert test.name == f"exact sign-flip test over {whole.count} groups"


def test_clips_of_one_recording_make_nothing_significant():
    """Seven fully correlated clips per recording, no true difference: McNemar's test finds one in half of such trials."""
    generator, whole = np.random.default_rng(0), units(20, 7)
    p_values, by_video = [], []
    for _ in range(1000):
        first, second = (np.repeat(generator.uniform(size=20) < 0.5, 7) for _ in range(2))
        p_values.append(compare_pairs(first, second, whole).p_value)
        by_video.append(compare_pairs(first, second, units(140)).p_value)
    assert np.mean(np.array(p_values) < 0.05) <= 0.05
    assert np.mean(np.array(by_video) < 0.05) > 0.4
    assert compare_pairs(np.zeros(140), np.repeat(np.arange(20) < 8, 7), whole).p_value < 0.01  # it can find one


def test_few_groups_say_what_they_cannot_show():
    test = compare_pairs(np.zeros(21), np.ones(21), units(3, 7))
    assert test.p_value == test.smallest == 0.25 and not test.can_decide
    assert test.limit == "3 groups can't give a p below 0.25, whatever the difference"
    assert compare_pairs(np.zeros(42), np.ones(42), units(6, 7)).limit == ""
    assert compare_pairs(np.zeros(4), np.ones(4), units(4)).limit.startswith("4 videos can't give a p below 0.12")
    assert compare_pairs(np.zeros(4), np.ones(4), units(1, 4)).p_value == 1
