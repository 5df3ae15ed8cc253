"""Weights of streams: the most likely ones on videos that are not tested with them, few as these may be."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from stmn.errors import DataError
from stmn.evaluation.joining import join_folds
from stmn.evaluation.scores import Scores
from stmn.evaluation.weights import find_weights, weight_folds

CLASSES = [f"class{number}" for number in range(6)]


def drawn(videos: int, strength: float, seed: int, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Logits whose true class is larger by `strength` than noise of deviation 1, and the classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(len(CLASSES), (videos,), generator=generator) if labels is None else labels
    logits = torch.randn(videos, len(CLASSES), generator=generator)
    logits[torch.arange(videos), labels] += strength
    return logits, labels


def accuracy(streams: list[Tensor], weights: list[float], labels: Tensor) -> float:
    mean = sum(weight * stream for weight, stream in zip(weights, streams, strict=True))
    return float((mean.argmax(dim=1) == labels).float().mean())


@pytest.mark.parametrize("held_out", [4, 8, 30])
def test_few_videos_are_enough_to_weigh_a_stream_that_knows_nothing(held_out):
    """Over 60 draws: better than equal weights on average, and hardly ever worse, also where logits are too large."""
    for size in (1.0, 6.0):
        gains = []
        for seed in range(60):
            motion, labels = drawn(held_out + 300, 2.0, seed)
            appearance, _ = drawn(len(labels), 0.0, seed + 1000)
            streams = [1.5 * size * appearance, size * motion]
            weights = find_weights([stream[:held_out] for stream in streams], labels[:held_out])
            rest = [stream[held_out:] for stream in streams]
            gains.append(accuracy(rest, weights, labels[held_out:]) - accuracy(rest, [1, 1], labels[held_out:]))
        assert np.mean(gains) > (0.08 if held_out > 4 else 0.04), size
        assert np.mean(np.array(gains) < -0.02) < 0.1, size


@pytest.mark.parametrize("held_out", [1, 4, 100])
def test_streams_that_know_as_much_stay_about_equal(held_out):
    for seed in range(10):
        one, labels = drawn(held_out, 2.0, seed)
        other, _ = drawn(held_out, 2.0, seed + 100, labels)
        first, second = find_weights([one, other], labels)
        assert first + second == pytest.approx(2) and (0.4 <= first <= 1.6 or held_out == 4)
    assert find_weights([one, one], labels) == [1, 1]


def test_large_logits_of_a_stream_that_is_too_sure_do_not_cost_it_its_weight():
    """It is right in most videos, and very sure in all; the other one is never sure and knows nothing."""
    motion, labels = drawn(40, 2.0, 0)
    appearance, _ = drawn(40, 0.0, 1)
    assert accuracy([motion], [1], labels) > 0.6
    weights = find_weights([0.05 * appearance, 50 * motion], labels)
    assert accuracy([0.05 * appearance, 50 * motion], weights, labels) >= accuracy([motion], [1], labels)


def fold(number: int, strength: float = 2.0) -> Scores:
    """Scores of a fold: motion knows something, appearance nothing."""
    motion, labels = drawn(12, strength, number)
    appearance, _ = drawn(12, 0.0, number + 50)
    ids = [f"{number}-{row}" for row in range(12)]
    about = {"data": "set", "split": str(number), "part": "test", "words": f"25 chunks, set split {number} test"}
    return Scores(ids, CLASSES, labels.tolist(), {"appearance": 2 * appearance, "motion": motion}, about)


def test_folds_are_weighted_by_the_other_folds_alone():
    parts, names = [fold(number) for number in range(4)], list("abcd")
    weighted = weight_folds(parts, names)
    for number, part in enumerate(weighted):
        others = [other for other in parts if other is not parts[number]]
        streams = [torch.cat([other.streams[name] for other in others]) for name in ("appearance", "motion")]
        labels = torch.tensor([label for other in others for label in other.labels])
        assert list(part.protocol["stream_weights"].values()) == find_weights(streams, labels)
        assert part.protocol["stream_weights_chosen_on"] == "36 videos of other folds"
    wrong = replace(parts[0], labels=[(label + 1) % 6 for label in parts[0].labels])
    again = weight_folds([wrong, *parts[1:]], names)
    assert again[0].protocol["stream_weights"] == weighted[0].protocol["stream_weights"]

    equal, chosen = join_folds(parts, names), join_folds(parts, names, choose_weights=True)
    torch.testing.assert_close(chosen.mean(), torch.cat([part.mean() for part in weighted]))
    right = [
        float((scores.mean().argmax(1) == torch.tensor(scores.labels)).float().mean()) for scores in (equal, chosen)
    ]
    assert right[1] > right[0] + 0.1


def test_nothing_is_gained_by_weights_where_nothing_is_known():
    """Chosen on other folds, the accuracy of two streams of noise is that of guessing."""
    parts = [fold(number, strength=0.0) for number in range(30)]
    scores = join_folds(parts, [str(number) for number in range(30)], choose_weights=True)
    right = float((scores.mean().argmax(1) == torch.tensor(scores.labels)).float().mean())
    assert abs(right - 1 / 6) < 0.06  # 360 videos: three deviations


def test_folds_of_one_stream_have_no_weights():
    parts = [replace(fold(number), streams={"motion": fold(number).streams["motion"]}) for number in range(2)]
    with pytest.raises(DataError, match="a: has one stream: there are no weights to choose"):
        join_folds(parts, ["a", "b"], choose_weights=True)
