"""`--balance`: each class is shown equally often; without it, a line says how unequal the classes are."""

from collections import Counter
from itertools import pairwise

import pytest

from stmn.sampling.balance import balanced_order, describe_imbalance
from stmn.sampling.order import MicroBatches, sample_order

#: 9 to 1, and a class of middling size; class 2 has no videos
LABELS = [0] * 9 + [1] + [3] * 4


def test_every_round_has_each_class_once():
    order = sample_order(len(LABELS), 5, 0, 300, LABELS)
    classes = [LABELS[number] for _, number in order]
    for start in range(0, 300, 3):
        assert sorted(classes[start : start + 3]) == [0, 1, 3]
    assert len({tuple(classes[start : start + 3]) for start in range(0, 300, 3)}) == 6  # in any order


def test_videos_of_a_class_come_in_passes_over_it():
    order = sample_order(len(LABELS), 5, 0, 3 * 90, LABELS)
    for label, size in ((0, 9), (1, 1), (3, 4)):
        own = [(epoch, number) for epoch, number in order if LABELS[number] == label]
        assert [epoch for epoch, _ in own] == [i // size for i in range(90)]  # an epoch is a pass over the class
        passes = [[number for _, number in own[i : i + size]] for i in range(0, 90 - 90 % size, size)]
        assert all(sorted(numbers) == [i for i, x in enumerate(LABELS) if x == label] for numbers in passes)
        assert size < 4 or any(one != other for one, other in pairwise(passes))
    assert len(set(order)) == len(order)  # so no sample is ever the same crop of the same video


def test_stretches_of_the_order_fit_together_wherever_they_begin():
    whole = sample_order(len(LABELS), 3, 0, 80, LABELS)
    for first in range(0, 40, 7):
        for length in (1, 2, 8, 23):
            assert balanced_order(LABELS, 3, first, length) == whole[first : first + length]
    assert sample_order(len(LABELS), 4, 0, 80, LABELS) != whole


def test_resumed_training_and_several_processes_see_the_same_samples():
    def batches(start: int, numbers: range | None = None) -> list:
        return list(MicroBatches(len(LABELS), 8, 2, 1, start, 6, numbers, labels=LABELS))

    assert batches(4) == batches(0)[16:]
    first, second = batches(0, range(2)), batches(0, range(2, 4))
    shared = [micro for step in range(6) for half in (first, second) for micro in half[2 * step : 2 * step + 2]]
    assert shared == batches(0)
    assert Counter(LABELS[number] for micro in batches(0) for _, number in micro).most_common()[-1][1] == 16


@pytest.mark.parametrize(
    ("labels", "balanced", "line"),
    [
        (
            [0] * 9 + [1],
            False,
            "9 of 'walk', 1 of 'jump' (--balance shows each class equally often, --class-weights lets each count equally in the loss)",
        ),
        ([0] * 9 + [1], True, "9 of 'walk', 1 of 'jump' (each class is shown equally often)"),
        (
            [0, 1, 1],
            False,
            "2 of 'jump', 1 of 'walk' (--balance shows each class equally often, --class-weights lets each count equally in the loss)",
        ),
        ([0, 0, 0, 1, 1], False, ""),
        ([0, 1], False, ""),
    ],
)
def test_line_names_the_largest_and_the_smallest_class(labels, balanced, line):
    expected = f"training videos per class: {line}" if line else ""
    assert describe_imbalance(["walk", "jump"], labels, balanced) == expected


def test_line_names_classes_without_training_videos():
    line = describe_imbalance(["walk", "sit", "jump", "run"], [0, 2], False)
    assert line == "training videos per class: none of 'sit', 'run' (nothing to learn from)"
    assert "and 96 more classes" in describe_imbalance([str(i) for i in range(102)], [0], False)
