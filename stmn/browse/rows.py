"""The videos of a prepared set as rows of a page, filtered and sorted."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from stmn.evaluation.kinds import holds_logits
from stmn.evaluation.scores import Scores
from stmn.store.format.read import Store, StoredVideo

#: orders of the page: by id, by class, mistakes first (most confident first), by confidence, by disagreement
Order = Literal["id", "class", "error", "sure", "unsure", "disagreement"]
#: videos that a test got right or wrong
Result = Literal["", "correct", "wrong"]


@dataclass(frozen=True)
class Prediction:
    """The prediction for a video in a test.

    Attributes:
        class_name: the predicted class.
        correct: whether it is the true class.
        confidence: its probability, 0..1; None for scores that are not logits.
        classes: all classes and their probabilities (or scores), best first.
        streams: stream -> the class that it predicts alone.
        disagreement: total variation distance of the first two streams' probabilities, 0..1: half the sum over classes
            of their absolute differences; 0 for a single stream.
    """

    class_name: str
    correct: bool
    confidence: float | None
    classes: list[tuple[str, float]]
    streams: dict[str, str]
    disagreement: float


@dataclass(frozen=True)
class Row:
    """A video of the set, its part of the split (empty if it is in none), and its prediction in a test."""

    video: StoredVideo
    part: str
    prediction: Prediction | None = None


@dataclass(frozen=True)
class Choice:
    """The rows that a page shows, and their order. Empty text selects all."""

    class_name: str = ""
    part: str = ""
    result: Result = ""
    text: str = ""
    order: Order = "id"

    @classmethod
    def read(cls, query: Any) -> "Choice":
        """Read the choice from an address's query; unknown values count as not given."""
        order, result = query.get("order", ""), query.get("result", "")
        return cls(
            query.get("class", ""), query.get("part", ""), result if result in get_args(Result) else "",
            query.get("text", ""), order if order in get_args(Order) else "id",
        )  # fmt: skip

    def apply(self, rows: Iterable[Row]) -> list[Row]:
        """The chosen rows in order."""
        return sorted(filter(self._fits, rows), key=_ORDERS[self.order])

    def _fits(self, row: Row) -> bool:
        found = row.prediction
        return (
            self.class_name in ("", row.video.class_name)
            and self.part in ("", row.part)
            and self.text.casefold() in row.video.id.casefold()
            and (not self.result or (found is not None and found.correct == (self.result == "correct")))
        )


def _rank_mistakes(row: Row) -> tuple[Any, ...]:
    """Mistakes, the most confident first; then correct videos, the least confident first."""
    found = row.prediction
    if found is None:
        return 2, 0.0, row.video.id
    sure = found.confidence or 0.0
    return int(found.correct), sure if found.correct else -sure, row.video.id


def _confidence(row: Row, unknown: float) -> float:
    sure = row.prediction.confidence if row.prediction else None
    return unknown if sure is None else sure


_ORDERS: dict[Order, Callable[[Row], tuple[Any, ...]]] = {
    "id": lambda row: (row.video.id,),
    "class": lambda row: (row.video.class_name, row.video.id),
    "error": _rank_mistakes,
    "sure": lambda row: (-_confidence(row, -1.0), row.video.id),
    "unsure": lambda row: (_confidence(row, 2.0), row.video.id),
    "disagreement": lambda row: (-(row.prediction.disagreement if row.prediction else -1.0), row.video.id),
}


def list_rows(store: Store, split: str, scores: Scores | None) -> list[Row]:
    """All videos of a set.

    Args:
        store: the prepared set.
        split: the split whose parts are shown; if the set doesn't have it, parts are empty.
        scores: scores of a test of some of its videos.
    """
    parts = {i: part for part, ids in store.header.splits.get(split, {}).items() for i in ids}
    predictions = list_predictions(scores) if scores else {}
    return [Row(video, parts.get(i, ""), predictions.get(i)) for i, video in store.videos.items()]


def list_predictions(scores: Scores) -> dict[str, Prediction]:
    """Video id -> its prediction, from scores."""
    sure = holds_logits(scores.protocol)
    shown = scores.probabilities() if sure else scores.mean().double()
    streams = {name: tensor.double().softmax(dim=1) for name, tensor in scores.streams.items()}
    found = {}
    for number, (video, label) in enumerate(zip(scores.ids, scores.labels, strict=True)):
        order = shown[number].argsort(descending=True).tolist()
        first, second, *_ = [*streams.values(), *streams.values()]
        found[video] = Prediction(
            class_name=scores.classes[order[0]],
            correct=order[0] == label,
            confidence=float(shown[number, order[0]]) if sure else None,
            classes=[(scores.classes[i], float(shown[number, i])) for i in order],
            streams={name: scores.classes[int(soft[number].argmax())] for name, soft in streams.items()},
            disagreement=float((first[number] - second[number]).abs().sum()) / 2 if sure else 0.0,
        )
    return found
