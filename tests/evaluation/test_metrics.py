"""Metrics and their intervals, comparisons, and the weights of a late fusion."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn import metrics as sk
from torch import Tensor
from torch.nn.functional import one_hot

from stmn.errors import DataError
from stmn.evaluation.comparison import choose_weights, compare_scores
from stmn.evaluation.intervals import wilson_interval
from stmn.evaluation.metrics import calibration_error, describe_accuracy, measure
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
    assert describe_accuracy(result) == "75.0 % [30.1, 95.4] of 4 videos"  # Wilson's interval of 3 of 4


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
    assert same.p_value == 1 and same.flipped == [] and same.difference == 0
    assert same.interval == pytest.approx([-0.1, 0.1], abs=0.02)  # 20 videos can't show that two are equal
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
