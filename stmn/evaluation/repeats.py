"""Methods that were trained and tested several times, each as one row with its interval and a comparison.

A video's results with several seeds are never counted as independent: groups of videos are drawn independently, and all
results of a video belong to its group. So an interval says how far the mean over these seeds would move with other
videos. The standard deviation over seeds, reported beside it, says how far single trainings differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmn.errors import DataError
from stmn.evaluation.agreement import align_scores, read_source
from stmn.evaluation.intervals import FloatArray, Units, count_seeds, gain_interval, share_interval
from stmn.evaluation.metrics import find_correct
from stmn.evaluation.paired import compare_pairs
from stmn.evaluation.scores import Scores


@dataclass(frozen=True)
class Result:
    """One evaluation of a method.

    Attributes:
        row: The method.
        seed: The seed of the training.
        scores: The scores.
        name: What error messages call it.
    """

    row: str
    seed: int
    scores: Scores
    name: str


@dataclass(frozen=True)
class Method:
    """All results of one method: S seeds, each on the same N videos.

    A video that several splits test is listed once for each, all in one unit.

    Attributes:
        name: Its name in the table.
        seeds: The seeds.
        splits: The splits.
        videos: (N,) split and id of each.
        groups: (N,) the group of each.
        correct: (S, N) 1 where a video is classified correctly with a seed, else 0.
        weights: (N,) each video's weight in the accuracy. They add up to 1, and every split has the same total.
        protocol: How it was measured.
    """

    name: str
    seeds: list[int]
    splits: list[str]
    videos: list[tuple[str, str]]
    groups: list[str]
    correct: FloatArray
    weights: FloatArray
    protocol: dict[str, Any] = field(default_factory=dict)

    @property
    def accuracies(self) -> FloatArray:
        """(S,) the accuracy of each seed, 0..1: the mean over splits."""
        found: FloatArray = (self.correct @ self.weights).round(12)  # weights don't add up to exactly 1
        return found

    def find_units(self, other: "Method | None" = None) -> Units:
        """Return the independent units. Two videos are in one unit if either method says so."""
        ids = [video for _, video in self.videos]
        return Units(self.groups, *([other.groups] if other else []), ids=ids if len(self.splits) > 1 else None)

    def find_influence(self, values: FloatArray) -> FloatArray:
        """Return (N,) each video's influence on the weighted mean: weight x distance from its split's mean."""
        splits = np.array([split for split, _ in self.videos])
        influence = np.zeros(len(values))
        for split in self.splits:
            mine = splits == split
            influence[mine] = self.weights[mine] * (values[mine] - values[mine].mean())
        return influence

    def arrange(self, videos: Sequence[tuple[str, str]]) -> "Method":
        """Return the method with its videos in another order."""
        row_of = {video: row for row, video in enumerate(self.videos)}
        rows = [row_of[video] for video in videos]
        groups = [self.groups[row] for row in rows]
        return Method(
            self.name, self.seeds, self.splits, list(videos), groups, self.correct[:, rows], self.weights[rows],
            self.protocol,
        )  # fmt: skip


def collect_methods(results: Sequence[Result]) -> list[Method]:
    """Sort results into methods, in the order in which their rows first appear.

    Raises:
        DataError: Two results have the same row, seed and split, or one is missing; or the scores of a row are of
            different videos.
    """
    rows: dict[str, list[Result]] = {}
    for result in results:
        rows.setdefault(result.row, []).append(result)
    return [_collect(name, found) for name, found in rows.items()]


def _collect(name: str, results: list[Result]) -> Method:
    """Collect the results of one row."""
    found: dict[tuple[int, str], Result] = {}
    for result in results:
        key = (result.seed, read_source(result.scores.protocol, result.name).split)
        if key in found:
            of_split = f" and split {key[1]}" if key[1] else ""
            raise DataError(
                f"row '{name}': {found[key].name} and {result.name} are both of seed {key[0]}{of_split}; give each a "
                f"seed of its own, or another row"
            )
        found[key] = result
    seeds, splits = list(dict.fromkeys(seed for seed, _ in found)), list(dict.fromkeys(split for _, split in found))
    videos: list[tuple[str, str]] = []
    groups: list[str] = []
    columns, weights = [], []
    for split in splits:
        if missing := [seed for seed in seeds if (seed, split) not in found]:
            raise DataError(f"row '{name}': no scores of seed {missing[0]} for split {split}, which other seeds have")
        first = found[seeds[0], split]
        parts = [
            align_scores(first.scores, found[seed, split].scores, found[seed, split].name, first.name) for seed in seeds
        ]
        labels = np.array(first.scores.labels)
        columns.append(np.array([find_correct(part.mean().double().numpy(), labels) for part in parts]))
        videos += [(split, video) for video in first.scores.ids]
        groups += first.scores.groups
        weights += [1 / len(labels) / len(splits)] * len(labels)
    protocol = found[seeds[0], splits[0]].scores.protocol
    return Method(name, seeds, splits, videos, groups, np.concatenate(columns, axis=1), np.array(weights), protocol)


def add_guesses(method: Method, name: str, correct: dict[tuple[str, str], bool]) -> Method | None:
    """Return a method made of one guess per video, such as a baseline; None if a video has no guess.

    Args:
        method: The method whose videos these are.
        name: Name of the guesses in the table.
        correct: Split and id of a video -> whether its guess is correct.
    """
    if not all(video in correct for video in method.videos):
        return None
    guesses = np.array([[float(correct[video]) for video in method.videos]])
    return Method(name, [0], method.splits, method.videos, method.groups, guesses, method.weights)


def measure_method(method: Method) -> dict[str, Any]:
    """The accuracy of a method over its seeds.

    Returns:
        `name`, `videos` (each counted once), `units`, `over` ("groups" or "videos"), `seeds` (their number), `accuracy`
        (0..1, the mean over seeds), its 95 % `interval`, `deviation` (the standard deviation over seeds; None for one
        seed), `accuracies` (seed -> accuracy).
    """
    units, shares = method.find_units(), method.correct.mean(axis=0)
    accuracies = method.accuracies
    value = float(accuracies.mean())
    interval = share_interval(value, method.find_influence(shares), units, count_seeds(shares, len(method.seeds)))
    return {
        "name": method.name,
        "videos": len({video for _, video in method.videos}),
        "units": units.count,
        "over": units.over,
        "seeds": len(method.seeds),
        "accuracy": value,
        "interval": interval,
        "deviation": float(accuracies.std(ddof=1)) if len(accuracies) > 1 else None,
        "accuracies": {str(seed): float(accuracy) for seed, accuracy in zip(method.seeds, accuracies, strict=True)},
    }


def compare_methods(method: Method, other: Method) -> dict[str, Any] | None:
    """Compare a method with another on the same videos, seed by seed.

    Seeds that both have are paired. A method with one seed, such as a baseline, is paired with each seed of the other.

    Args:
        method: A method.
        other: The method that it is compared with.

    Returns:
        `difference` (accuracy minus the other's, over the paired seeds), its 95 % `interval`, `alone` and
        `other_alone` (results that only one of the two classifies correctly, summed over seeds), `paired_seeds`,
        `p_value` (1 if they contradict the difference), `test` and `test_limit`; None if they were tested on different
        videos or have no seed in common.
    """
    if set(method.videos) != set(other.videos):
        return None
    ours, theirs = _pair(method, other.arrange(method.videos))
    if not len(ours):
        return None
    units, seeds = method.find_units(other.arrange(method.videos)), len(ours)
    gains = ours - theirs
    mean = gains.mean(axis=0)
    flips = np.abs(gains).mean(axis=0)
    value, flipped = float(mean @ method.weights), float(flips @ method.weights)
    test = compare_pairs(theirs.sum(axis=0), ours.sum(axis=0), units, seeds)
    # the test counts results, the difference is a mean over splits: of unequal sizes, these may contradict each other
    p_value = test.p_value if gains.sum() * value >= 0 else 1.0
    return {
        "difference": value,
        "interval": gain_interval(value, method.find_influence(mean), flipped, units, count_seeds(flips, seeds)),
        "alone": int((gains > 0).sum()),
        "other_alone": int((gains < 0).sum()),
        "paired_seeds": seeds,
        "p_value": p_value,
        "test": test.name,
        "test_limit": test.limit,
    }


def _pair(method: Method, other: Method) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (pairs, N) of both, one paired seed per row; no rows if they share no seed and both have several."""
    if 1 in (len(method.seeds), len(other.seeds)):
        ours, theirs = np.broadcast_arrays(method.correct, other.correct)
        return ours, theirs
    common = [seed for seed in method.seeds if seed in other.seeds]
    ours, theirs = (one.correct[[one.seeds.index(seed) for seed in common]] for one in (method, other))
    return ours, theirs
