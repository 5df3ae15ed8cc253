"""Estimate how long a chosen recipe takes, from measured steps of its networks and measured frames of its clips."""

from dataclasses import dataclass

from stmn.recipe.fitting.choose import APPEARANCE_CHUNKS, Chosen
from stmn.stages.clips import Clips, Motion
from stmn.stages.workload import TRAINING_PASSES

#: chunks of each clip that a test looks at, each also mirrored
_TEST_CHUNKS, _FLIPS = 25, 2
#: the most samples from which batch statistics are recomputed
_STATISTICS = 1000
#: area of the whole frames that a test sees, relative to the training crop
_TEST_AREA = (256 / 224) ** 2


@dataclass(frozen=True)
class StepTimes:
    """Seconds of one training step of each network, measured."""

    appearance: float
    motion: float
    fused: float


@dataclass(frozen=True)
class Duration:
    """Seconds of each part of a recipe."""

    prepare: float
    train: float
    test: float
    final: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.prepare + self.train + self.test + self.final


def estimate(chosen: Chosen, clips: Clips, motion: Motion, steps: StepTimes, cores: int) -> Duration:
    """Estimate how long a recipe takes.

    Args:
        chosen: the recipe.
        clips: the clips it is for.
        motion: the measured motion, which has the seconds per frame.
        steps: seconds per step of the recipe's networks.
        cores: the cores that prepare clips.
    """
    count = len(clips.entries)
    mean = sum(clips.lengths) / len(clips.lengths) if clips.lengths else 0.0
    if chosen.fps and clips.rates:
        mean *= chosen.fps / clips.rates[0][0]
    train, tested = (count * (chosen.folds - 1) // chosen.folds, count) if chosen.folds > 1 else _held_out(clips)
    one = _train(chosen, steps, train)
    width, height = clips.sizes[0][0]
    aspect = max(width, height) / min(width, height)
    passes = tested * min(_TEST_CHUNKS, max(mean, 1)) * _FLIPS * _TEST_AREA * aspect
    tests = passes * (
        steps.appearance / (chosen.batch * APPEARANCE_CHUNKS)
        + (steps.motion + steps.fused) / (chosen.batch * chosen.chunks)
    ) / TRAINING_PASSES  # fmt: skip
    return Duration(
        count * mean * motion.seconds / min(cores, count),
        one * chosen.folds * chosen.seeds,
        tests * chosen.seeds,
        _train(chosen, steps, count) if chosen.folds > 1 else 0.0,
    )


def _train(chosen: Chosen, times: StepTimes, videos: int) -> float:
    """Seconds to train both streams and the gated network once."""
    total = 0.0
    each = ((chosen.half_steps, times.appearance), (chosen.steps, times.motion), (chosen.half_steps, times.fused))
    for steps, seconds in each:
        again = max(videos, min(_STATISTICS, steps * chosen.batch // 4)) / chosen.batch
        total += seconds * (steps + again / TRAINING_PASSES)
    return total


def _held_out(clips: Clips) -> tuple[int, int]:
    """The numbers of clips to train on and to test, in one split."""
    if not clips.splits:
        return round(0.7 * len(clips.entries)), round(0.3 * len(clips.entries))
    parts = next(iter(clips.splits.values()))
    return len(parts["train"]), len(parts["test"])
