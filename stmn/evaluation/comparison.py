"""Compare two scores files."""

from dataclasses import dataclass

import numpy as np

from stmn.evaluation.agreement import align_scores
from stmn.evaluation.intervals import Units, difference_interval
from stmn.evaluation.paired import compare_pairs
from stmn.evaluation.scores import Scores


@dataclass(frozen=True)
class Comparison:
    """The results of two scores files on the same videos.

    Attributes:
        videos: The number of videos.
        accuracies: The accuracy of each, 0..1.
        difference: The second accuracy minus the first.
        interval: The 95 % interval of the difference.
        both_correct: Number of videos that both classify correctly.
        both_wrong: Number of videos that both classify wrongly.
        first_alone: Number of videos that only the first classifies correctly.
        second_alone: Number of videos that only the second classifies correctly.
        p_value: The probability of a difference at least this large if both were equally good.
        test: The test that gave it, and over what: "exact sign-flip test over 12 groups".
        test_limit: What the test can't show with so few groups; empty if there are enough.
        over: "groups", or "videos" if each is its own group. Two videos are in one group if either file says so.
        units: The number of groups or videos.
        flipped: The videos that only one classifies correctly: (id, true class, first prediction, second prediction).
    """

    videos: int
    accuracies: tuple[float, float]
    difference: float
    interval: list[float]
    both_correct: int
    both_wrong: int
    first_alone: int
    second_alone: int
    p_value: float
    test: str
    test_limit: str
    over: str
    units: int
    flipped: list[tuple[str, str, str, str]]


def compare_scores(first: Scores, second: Scores, name: str) -> Comparison:
    """Compare two scores files video by video.

    Args:
        first: Scores.
        second: Other scores of the same videos.
        name: What error messages call `second`.

    Raises:
        DataError: The scores are of different videos, classes, data sets, splits or parts.
    """
    aligned = align_scores(first, second, name)
    labels = np.array(first.labels)
    ours = first.mean().numpy().argmax(axis=1)
    theirs = aligned.mean().numpy().argmax(axis=1)
    ours_correct, theirs_correct = ours == labels, theirs == labels
    first_alone, second_alone = int((ours_correct & ~theirs_correct).sum()), int((theirs_correct & ~ours_correct).sum())
    gain = theirs_correct.astype(float) - ours_correct
    units = Units(first.groups, aligned.groups)
    test = compare_pairs(ours_correct, theirs_correct, units)
    names = first.classes
    return Comparison(
        videos=len(labels),
        accuracies=(float(ours_correct.mean()), float(theirs_correct.mean())),
        difference=float(gain.mean()),
        interval=difference_interval(gain, units),
        both_correct=int((ours_correct & theirs_correct).sum()),
        both_wrong=int((~ours_correct & ~theirs_correct).sum()),
        first_alone=first_alone,
        second_alone=second_alone,
        p_value=test.p_value,
        test=test.name,
        test_limit=test.limit,
        over=units.over,
        units=units.count,
        flipped=[
            (first.ids[i], names[labels[i]], names[ours[i]], names[theirs[i]])
            for i in np.flatnonzero(ours_correct != theirs_correct)
        ],
    )
