"""Metrics and their intervals, comparisons, and the weights of a late fusion."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn import metrics as sk
from torch import Tensor
from torch.nn.functional import one_hot

from stmn.errors import DataError
from stmn.evaluation.comparison import compare_scores
from stmn.evaluation.intervals import wilson_interval
from stmn.evaluation.metrics import average_splits, calibration_error, describe_accuracy, measure
from stmn.evaluation.scores import Scores, fuse_late
from stmn.evaluation.weights import choose_weights

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


@pytest.mark.parametrize(("labels", "said"), [
    ([0, 0, 0, 1, 2], "Always predicting 'class0', the largest class, has 60.0 %, above chance."), (list(range(8)), ""),
])  # fmt: skip
def test_guess_that_is_better_than_chance_is_named(labels, said):
    """Where classes have different numbers of videos, an accuracy above 1 / classes may be worth nothing."""
    notes = measure(made(torch.randn(len(labels), len(CLASSES)), labels))["notes"]
    assert [note for note in notes if note.startswith("Always")] == ([said] if said else [])


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
    """The softmax of log p is p: a classifier that is correct with probability p is calibrated."""
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
    with pytest.raises(DataError, match="noise: scores of test videos; weights are chosen on others"):
        choose_weights([made(noise, labels, part="test"), parts[1]], ["noise", "signal"])
    with pytest.raises(DataError, match="chosen for 2 to 4 scores files, not 5"):
        choose_weights(parts[:1] * 5, list("abcde"))


# Test lists that make a number mislead


def few(predicted: list[int], labels: list[int], classes: int = 4, groups: list[str] | None = None) -> Scores:
    values = 2.0 * one_hot(torch.tensor(predicted), classes).float()
    names = [f"class{number}" for number in range(classes)]
    return Scores([f"v{n}" for n in range(len(labels))], names, labels, {"motion": values}, {}, groups or [])


def test_top5_of_few_classes_is_left_out():
    result = measure(few([0, 1, 2, 2], [0, 1, 2, 3]))
    assert result["top5"] is None and result["intervals"]["top5"] is None
    assert measure(few([0, 1, 2, 2], [0, 1, 2, 3], classes=6))["top5"] is not None


@pytest.mark.filterwarnings("error")
def test_one_class_in_the_test_part_is_said():
    result = measure(few([1, 1, 0], [1, 1, 1]))
    assert result["accuracy"] == result["mean_class_accuracy"] == pytest.approx(2 / 3)
    assert result["confusion"] == [[0, 0, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert result["notes"] == ["All videos are of one class, class1: a classifier that always names it has 100 %."]


def test_classes_without_videos_are_named():
    result = measure(few([0, 1, 1], [0, 1, 0]))
    assert result["mean_class_accuracy"] == pytest.approx(0.75)
    assert result["notes"] == [
        "Always predicting 'class0', the largest class, has 66.7 %, above chance.",
        "The mean over classes leaves out the 2 classes without videos, of 4: class2, class3.",
    ]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("right", [True, False])
def test_one_video_of_many_classes(right):
    result = measure(few([0 if right else 1], [0], classes=9))
    assert result["accuracy"] == result["mean_class_accuracy"] == float(right)
    assert result["interval"] == result["intervals"]["mean_class_accuracy"] == pytest.approx(wilson_interval(right, 1))


def test_ties_are_counted_and_go_to_the_first_class():
    scores = Scores(["a", "b"], CLASSES, [0, 7], {"motion": torch.zeros(2, 8)}, {})
    result = measure(scores)
    assert result["accuracy"] == 0.5 and result["top5"] == 0.5  # not 100 %: class 7 is the last of equals
    assert (
        result["notes"][-1] == "2 videos have several classes with the highest score; the first in the list was taken."
    )


def test_one_person_gives_no_interval():
    result = measure(few([0, 1, 2, 0], [0, 1, 2, 3], groups=["anna"] * 4))
    assert result["interval"] == [0.0, 1.0] and (result["units"], result["intervals_over"]) == (1, "groups")
    assert result["notes"][0].startswith("All videos are of one group, which says nothing of others")


def test_sessions_of_all_classes_are_two_groups():
    """Not one group for each class and session."""
    groups = [f"session{n % 2}" for n in range(16)]
    result = measure(few([n // 4 for n in range(16)], [n // 4 for n in range(16)], groups=groups))
    assert (result["units"], result["intervals_over"]) == (2, "groups")
    assert "in 2 groups" in describe_accuracy(result) and result["notes"][0].startswith(
        "2 groups are too few to say how much groups differ"
    )


def test_videos_that_several_splits_test_count_once():
    values, labels = drawn(60, 1.5)
    once, again = made(values, labels), made(values.clone(), labels)
    alone, mean = measure(once), average_splits([once, again])
    assert mean["accuracy"] == alone["accuracy"] and mean["units"] == 60
    assert mean["interval"] == pytest.approx(alone["interval"], abs=0.01)
    other = Scores([f"w{n}" for n in range(60)], CLASSES, labels, {"motion": values}, {})
    apart = average_splits([once, other])
    assert apart["units"] == 120
    assert np.diff(apart["interval"])[0] == pytest.approx(np.diff(alone["interval"])[0] / np.sqrt(2), rel=0.1)
