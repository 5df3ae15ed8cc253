"""Metrics and their intervals, comparisons, and the weights of a late fusion."""

from math import sqrt

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn import metrics as sk
from sklearn.metrics import recall_score
from torch import Tensor
from torch.nn.functional import one_hot

from stmn.errors import DataError
from stmn.evaluation.comparison import choose_weights, compare_scores
from stmn.evaluation.metrics import RESAMPLES, Bootstrap, calibration_error, describe_accuracy, measure, wilson_interval
from stmn.evaluation.scores import Scores, fuse_late

CLASSES = [f"class{number}" for number in range(8)]


def made(values: Tensor, labels: list[int], groups: list[str] | None = None, **protocol: object) -> Scores:
    return Scores([f"v{n}" for n in range(len(labels))], CLASSES, labels, {"motion": values}, protocol, groups or [])


def drawn(count: int, signal: float, seed: int = 0) -> tuple[Tensor, list[int]]:
    """Scores that are correct more often if `signal` is larger."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, len(CLASSES), (count,), generator=generator)
    values = torch.randn(count, len(CLASSES), generator=generator) + signal * one_hot(labels, len(CLASSES))
    return values, labels.tolist()


def test_metrics_match_hand_calculation():
    tensor = torch.tensor([[3.0, 1, 0], [0, 2, 1], [5, 4, 0], [0, 1, 9]])
    result = measure(Scores(list("abcd"), ["p", "q", "r"], [0, 1, 1, 2], {"appearance": tensor}, {}))
    assert result["videos"] == 4 and result["chance"] == pytest.approx(1 / 3)
    assert result["accuracy"] == 0.75
    assert result["mean_class_accuracy"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert result["confusion"] == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]  # rows: true classes
    assert describe_accuracy(result) == "75.0 % [25.0, 100.0] of 4 videos"  # a resample of four has 1 to 4 correct


def test_metrics_agree_with_scikit_learn():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 12, (200,), generator=generator).tolist()
    tensors = {
        name: torch.randn(200, 12, generator=generator) + 2 * torch.nn.functional.one_hot(torch.tensor(labels), 12)
        for name in ("appearance", "motion")
    }
    classes = [f"class{number}" for number in range(12)]
    result = measure(Scores([str(n) for n in range(200)], classes, labels, tensors, {}))
    mean = sum(tensors.values()).numpy() / 2
    predicted = mean.argmax(axis=1)
    assert result["accuracy"] == pytest.approx(sk.accuracy_score(labels, predicted))
    assert result["top5"] == pytest.approx(np.mean([label in row.argsort()[-5:] for label, row in zip(labels, mean, strict=True)]))  # fmt: skip
    assert result["mean_class_accuracy"] == pytest.approx(sk.recall_score(labels, predicted, average="macro"))
    assert np.array_equal(result["confusion"], sk.confusion_matrix(labels, predicted))
    assert result["streams"]["motion"] == sk.accuracy_score(labels, tensors["motion"].numpy().argmax(axis=1))
    assert 1 / 12 < result["streams"]["motion"] < result["accuracy"] < result["top5"]


def test_class_mean_ignores_classes_without_videos():
    tensor = torch.tensor([[3.0, 1, 0], [0, 2, 1], [0, 1, 2]])
    result = measure(Scores(list("abc"), ["p", "q", "r"], [0, 1, 1], {"appearance": tensor}, {}))
    assert result["mean_class_accuracy"] == pytest.approx((1 + 0.5) / 2)
    assert result["confusion"] == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]


def test_interval_is_wilsons():
    z = 1.959964
    for right, count in ((0, 10), (3, 10), (10, 10), (942, 1000), (1, 1)):
        share, spread = right / count, z * sqrt(right / count * (1 - right / count) / count + z * z / (4 * count**2))
        middle, scale = share + z * z / (2 * count), 1 + z * z / count
        assert wilson_interval(right, count) == pytest.approx(
            ((middle - spread) / scale, (middle + spread) / scale), abs=1e-6
        )
        low, high = wilson_interval(right, count)
        assert -1e-12 <= low <= share <= high + 1e-12 <= 1 + 2e-12
        assert high > low  # not even 10 of 10 is certain
    widths = [np.diff(wilson_interval(count // 2, count))[0] for count in (10, 100, 1000)]
    assert widths == sorted(widths, reverse=True)


def test_interval_of_many_videos_is_binomial():
    values, labels = drawn(1000, 1.5)
    result = measure(made(values, labels))
    right = round(1000 * result["accuracy"])
    assert result["intervals_over"] == "videos"
    assert result["interval"] == result["intervals"]["accuracy"]
    assert result["interval"] == pytest.approx(wilson_interval(right, 1000), abs=0.006)
    for name in ("accuracy", "top5", "mean_class_accuracy"):
        low, high = result["intervals"][name]
        assert 0 < low < result[name] < high < 1


def test_interval_is_over_recordings_if_known():
    """Ten clips of each recording that are all correct or all wrong are worth no more than one."""
    values, labels = drawn(100, 1.5)
    once = measure(made(values, labels))
    groups = [f"g{number // 10}" for number in range(1000)]
    tenfold = measure(made(values.repeat_interleave(10, dim=0), np.repeat(labels, 10).tolist(), groups))
    assert tenfold["accuracy"] == once["accuracy"] and tenfold["intervals_over"] == "groups"
    assert tenfold["interval"] == pytest.approx(once["interval"], abs=0.03)
    naive = measure(made(values.repeat_interleave(10, dim=0), np.repeat(labels, 10).tolist()))
    assert np.diff(naive["interval"])[0] < 0.5 * np.diff(tenfold["interval"])[0]


def test_class_mean_interval_matches_remeasured_draws():
    values, labels = drawn(60, 1.0)
    scores = made(values, labels)
    predicted = values.argmax(dim=1).numpy()
    means = [
        recall_score(np.repeat(labels, n), np.repeat(predicted, n), labels=np.unique(np.repeat(labels, n)), average="macro")
        for n in Bootstrap(scores).counts.astype(int)[:300]
    ]  # fmt: skip
    assert RESAMPLES > 300
    assert measure(scores)["intervals"]["mean_class_accuracy"] == pytest.approx(
        np.percentile(means, [2.5, 97.5]), abs=0.03
    )


def test_interval_is_not_empty_if_all_are_correct():
    labels = [n % 8 for n in range(20)]
    result = measure(made(10.0 * one_hot(torch.tensor(labels), 8), labels))
    assert result["accuracy"] == 1 and result["interval"] == pytest.approx(wilson_interval(20, 20))
    grouped = measure(made(10.0 * one_hot(torch.tensor(labels), 8), labels, [f"g{n % 4}" for n in range(20)]))
    assert grouped["interval"] == pytest.approx(wilson_interval(4, 4))


def test_per_class_accuracy():
    values = torch.eye(8)[[0, 0, 1, 2]]
    result = measure(made(values, [0, 1, 1, 2]))["per_class"]
    assert result["class1"] == {"videos": 2, "accuracy": 0.5, "interval": list(wilson_interval(1, 2))}
    assert result["class0"]["accuracy"] == 1 and result["class7"] == {"videos": 0}


def test_calibration_error_is_confidence_minus_accuracy():
    """The soft-max of log p is p: a classifier that is correct with probability p is calibrated."""
    rng = np.random.default_rng(0)
    best = rng.uniform(0.3, 0.95, 20000)
    scores = np.log(np.stack([best, *[(1 - best) / 7] * 7], axis=1))
    assert softmax(scores, axis=1).max(axis=1) == pytest.approx(best)
    honest = (rng.uniform(size=20000) < best).astype(float)
    assert calibration_error(scores, honest) < 0.015
    assert calibration_error(scores, np.ones(20000)) == pytest.approx(1 - best.mean())  # correct and underconfident
    assert calibration_error(scores, np.zeros(20000)) == pytest.approx(best.mean())


def test_evaluations_are_compared_video_by_video():
    labels = [0] * 20
    right, wrong = torch.eye(8)[0], torch.eye(8)[1]
    first = made(torch.stack([right] * 10 + [wrong] * 10), labels)
    second = made(torch.stack([wrong] * 1 + [right] * 16 + [wrong] * 3), labels)
    shuffled = Scores(second.ids[::-1], CLASSES, labels, {"motion": second.streams["motion"].flip(0)}, {})
    for other in (second, shuffled):
        result = compare_scores(first, other, "second")
        assert (result.both_correct, result.first_alone, result.second_alone, result.both_wrong) == (9, 1, 7, 3)
        assert result.accuracies == (0.5, 0.8) and result.difference == pytest.approx(0.3)
        assert result.p_value == pytest.approx(2 * (1 + 8) / 2**8)  # at most 1 of 8 flips, in either direction
        assert result.flipped[0] == ("v0", "class0", "class0", "class1")
        assert [video for video, *_ in result.flipped[1:]] == [f"v{n}" for n in range(10, 17)]
        low, high = result.interval
        assert low < 0.3 < high
    same = compare_scores(first, first, "itself")
    assert same.p_value == 1 and same.flipped == [] and same.interval == [0, 0]
    with pytest.raises(DataError, match="second: does not score the same videos"):
        compare_scores(first, made(torch.stack([right] * 19), labels[:19]), "second")


def test_weights_help_and_are_never_chosen_on_test_videos():
    signal, labels = drawn(400, 2.5)
    noise, _ = drawn(400, 0.0, seed=5)
    parts = [made(3 * noise, labels, part="validation"), made(signal, labels, part="validation")]
    weights = choose_weights(parts, ["noise", "signal"])
    assert sum(weights) == pytest.approx(2) and weights[1] > 1.6
    accuracy = [measure(fuse_late(parts, w, ["noise", "signal"]))["accuracy"] for w in ([1, 1], weights)]
    assert accuracy[1] > accuracy[0] + 0.2
    with pytest.raises(DataError, match="noise: scores of test videos; choose weights on others"):
        choose_weights([made(noise, labels, part="test"), parts[1]], ["noise", "signal"])
    with pytest.raises(DataError, match="chosen for 2 to 4 scores, not 5"):
        choose_weights(parts[:1] * 5, list("abcde"))
