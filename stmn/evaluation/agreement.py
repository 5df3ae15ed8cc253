"""Do scores belong together? Their data set, split and part, and whether several scores agree on these.

Numbers are pooled (late fusion, an SVM's scores) or paired (comparisons) only over scores that agree.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from stmn.errors import DataError, count_of

if TYPE_CHECKING:
    from stmn.evaluation.scores import Scores
    from stmn.store.format.header import Header
    from stmn.store.format.read import Store

#: names of the facts that must agree, for error messages
_WORDS = {"data": "data set", "split": "split", "part": "part"}
#: keys of a protocol that don't say how a number was measured, or that reports show elsewhere
_NOT_MEASURED = (
    "words", "parts", "late_fusion_weights", "stream_weights_chosen_on", "late_fusion_weights_chosen_on", "idt",
    "idt_weights", "fewer_chunks", "folds", "temperature",
)  # fmt: skip
#: name at most this many of the keys that only one of two protocols has
_NAMED = 3
#: the value that a missing key stands for
_IMPLIED = {"seen_in_training": 0, "average": "logits", "stream_weights": "equal", "blank": ""}


@dataclass(frozen=True)
class Source:
    """Where scores come from. A fact that is not stated is empty.

    Attributes:
        data: The name of the data set.
        split: The split.
        part: The part of the split.
        data_fingerprint: Identifies the content that the set had when it was tested.
    """

    data: str = ""
    split: str = ""
    part: str = ""
    data_fingerprint: str = ""

    def __str__(self) -> str:
        return ", ".join(f"{word} {value}" for key, word in _WORDS.items() if (value := getattr(self, key)))


def read_source(protocol: dict[str, Any], name: str) -> Source:
    """Return the source that a protocol states, merged with those of the scores that were fused into it.

    Args:
        protocol: A scores file's protocol.
        name: What error messages call the scores.

    Raises:
        DataError: The scores were fused from scores of different videos.
    """
    own = Source(**{key: str(protocol.get(key) or "") for key in asdict(Source())})
    idt = protocol.get("idt")
    inner = [*(protocol.get("parts") or []), *([idt] if isinstance(idt, dict) else [])]
    for part in inner:
        other = read_source(part, name)
        if differs := _contradictions(own, other):
            raise DataError(f"{name}: was fused from scores of different videos ({differs}); make it again")
        own = _merge(own, other)
    return own


def find_source(parts: Sequence["Scores"], names: Sequence[str]) -> Source:
    """Return the source that several scores state together.

    Args:
        parts: One or more scores. They need not be of the same videos, but their data set, split and part must agree
            where they are known.
        names: Their names in error messages.

    Raises:
        DataError: They contradict each other.
    """
    merged = Source()
    for part, name in zip(parts, names, strict=True):
        own = read_source(part.protocol, name)
        if differs := _contradictions(own, merged):
            raise DataError(
                f"{name} and {names[0]} are scores of different videos ({differs}); name scores of the same videos"
            )
        merged = _merge(merged, own)
    return merged


def align_scores(first: "Scores", other: "Scores", name: str, first_name: str = "the first") -> "Scores":
    """Check that two scores are of the same videos; return the second in the order of the first's videos.

    Args:
        first: Scores.
        other: Scores to pool or to pair with them.
        name: What error messages call `other`.
        first_name: What error messages call `first`.

    Raises:
        DataError: The data set, split, part, classes, videos, their content or their true classes differ.
    """
    differs = _contradictions(read_source(other.protocol, name), read_source(first.protocol, first_name))
    more = f" ({differs})" if differs else ""
    if first.classes != other.classes:
        raise DataError(f"{name}: scores of other classes ({compare_classes(other.classes, first.classes)}){more}")
    row_of = {video_id: row for row, video_id in enumerate(other.ids)}
    missing = [video_id for video_id in first.ids if video_id not in row_of]
    if missing or len(row_of) != len(other.ids) or len(first.ids) != len(other.ids):
        what = (
            f"no scores of {missing[0]!r}"
            if missing
            else f"{count_of(len(other.ids), 'row')} for {count_of(len(first.ids), 'video')}"
        )
        raise DataError(f"{name}: does not score the same videos: {what}{more}")
    if differs:
        raise DataError(
            f"{name} and {first_name} are scores of different videos ({differs}); name scores of the same videos"
        )
    aligned = other.take([row_of[video_id] for video_id in first.ids])
    for video_id, label, own in zip(first.ids, first.labels, aligned.labels, strict=True):
        if label != own:
            classes = f"{first.classes[own]}, not {first.classes[label]}"
            raise DataError(f"{name} and {first_name} give {video_id!r} different true classes ({classes})")
    for video_id, known, own_hash in zip(first.ids, first.hashes, aligned.hashes, strict=True):
        if known and own_hash and known != own_hash:
            raise DataError(
                f"{name}: the file of {video_id!r} is not the one that {first_name} saw; test both on one data set"
            )
    return aligned


def check_source(
    scores: "Scores", name: str, header: "Header", split: str | None = None, part: str | None = None
) -> Source:
    """Return the source of scores, checked against the data set that they should be of.

    If the scores don't state their split, it is the one asked for, or else the only one whose part lists all their
    videos.

    Args:
        scores: Scores.
        name: What error messages call them.
        header: The header of the data set.
        split: The split that was asked for; None for the split that the scores state.
        part: The part that was asked for; None for the part that the scores state.

    Raises:
        DataError: The scores are of another data set, split or part, or have other classes; or their split is unknown.
    """
    own = read_source(scores.protocol, name)
    if own.data and own.data != header.name:
        raise refuse_data(name, own.data, header)
    if scores.classes != header.classes:
        raise DataError(
            f"{name}: scores of other classes than those of data set {header.name} "
            f"({compare_classes(scores.classes, header.classes)})"
        )
    for word, asked, known in (("split", split, own.split), ("part", part, own.part)):
        if asked and known and asked != known:
            raise DataError(
                f"{name}: scores of {own}, but --{word} asks for {asked}; leave --{word} out, or test again"
            )
    part = own.part or part or "test"
    split = own.split or split or _find_split(scores, name, header, part)
    listed = set(header.listed(split, "test" if part == "test" else "train"))
    strangers = [video_id for video_id in scores.ids if video_id not in listed]
    if strangers:
        word = "test" if part == "test" else "training"
        raise DataError(
            f"{name}: {len(strangers):,} of its {count_of(len(scores.ids), 'video')} "
            f"{'is' if len(strangers) == 1 else 'are'} not on the {word} list of {header.name}, split "
            f"{split}, such as {strangers[0]!r}; name its split with --split, or test again"
        )
    return Source(header.name, split, part, own.data_fingerprint)


def compare_classes(own: Sequence[str], other: Sequence[str]) -> str:
    """Say how one list of classes differs from another: "5 instead of 4", "in another order", "such as 'jumping'"."""
    if len(own) != len(other):
        return f"{len(own):,} instead of {len(other):,}"
    strangers = [name for name in own if name not in set(other)]
    return f"such as {strangers[0]!r}" if strangers else "in another order"


def refuse_data(name: str, data: str, header: "Header") -> DataError:
    """Return the error for scores of a data set other than the header's."""
    return DataError(f"{name}: is of data set {data}, not of {header.name}; leave it out, or name its set with --data")


def check_disjoint(held: "Scores", tested: "Scores", held_name: str, name: str) -> None:
    """Raise `DataError` if weights for the tested videos would be chosen on one of them, or on another set or split."""
    own, other = read_source(tested.protocol, name), read_source(held.protocol, held_name)
    if differs := _contradictions(replace(other, part=""), own):
        raise DataError(f"{held_name}: is of {differs} like {name}; choose weights on the same data set and split")
    hashes = set(tested.hashes) - {""}
    pairs = zip(held.ids, held.hashes, strict=True)
    shared = [video for video, content in pairs if video in tested.ids or content in hashes]
    if shared:
        raise DataError(
            f"{held_name}: {count_of(len(shared), 'video is', 'videos are')} in {name} too, such as {shared[0]!r}"
        )


def find_changes(scores: "Scores", name: str, store: "Store") -> str | None:
    """One line if the data set has changed since it was tested, or None.

    Raises:
        DataError: A tested video itself has changed.
    """
    for video_id, known in zip(scores.ids, scores.hashes, strict=True):
        video = store.videos.get(video_id)
        if known and video and video.source_hash != known:
            raise DataError(
                f"{name}: the file of {video_id!r} in data set {store.header.name} has changed since it was "
                "tested; test again"
            )
    known = read_source(scores.protocol, name).data_fingerprint
    if known and known != store.fingerprint:
        return f"{name}: data set {store.header.name} has changed since it was tested"
    return None


def find_differences(first: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return where two protocols differ: key -> (the first's value, the other's); None for a value that is not stated.

    Such scores may be compared, but a reader must know.
    """

    def value(protocol: dict[str, Any], key: str) -> Any:
        stated = protocol.get(key)
        return _IMPLIED.get(key) if stated is None else stated

    keys = [key for key in {**first, **other} if key not in _NOT_MEASURED]
    found = {key: (value(first, key), value(other, key)) for key in keys if value(first, key) != value(other, key)}
    facts = asdict(Source())  # if only one protocol states its source, that is no difference
    return {key: pair for key, pair in found.items() if key not in facts or None not in pair}


def describe_differences(differences: dict[str, tuple[Any, Any]]) -> str:
    """Put differences in words: "chunks 5 instead of 25, flips no instead of yes".

    A key that only one of the two states may not differ, so it is only named.
    """
    words = {
        key: "the data set's content" if key == "data_fingerprint" else key.replace("_", " ") for key in differences
    }
    stated = {key: pair for key, pair in differences.items() if None not in pair}
    found = [_describe_difference(key, words[key], *pair) for key, pair in stated.items()]
    unknown = [words[key] for key in differences if key not in stated]
    if unknown:
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        found.append(f"{', '.join(unknown[:_NAMED])}{more} (stated by only one of the two)")
    return ", ".join(found)


def _describe_difference(key: str, words: str, first: Any, other: Any) -> str:
    """One difference in words."""
    if key == "data_fingerprint":
        return words
    if key == "blank":
        if first and other:
            return f"noise in place of {other} instead of {first}"
        return f"noise in place of {other}" if other else f"no noise in place of {first}"
    return f"{words} {_format_value(other)} instead of {_format_value(first)}"


def list_differences(parts: Sequence["Scores"], names: Sequence[str]) -> Iterator[str]:
    """Yield one line for each of several scores that was measured in another way than the first."""
    for part, name in zip(parts[1:], names[1:], strict=True):
        if differences := find_differences(parts[0].protocol, part.protocol):
            sure = any(None not in pair for pair in differences.values())
            yield (
                f"{name} {'was' if sure else 'may have been'} measured in another way than {names[0]}: "
                f"{describe_differences(differences)}"
            )


def _find_split(scores: "Scores", name: str, header: "Header", part: str) -> str:
    """The only split whose part lists all videos of scores. Raises `DataError` if there is none, or several."""
    ids = set(scores.ids)
    lists = {split: header.part(split, "test" if part == "test" else "train") for split in header.splits}
    found = [split for split, listed in lists.items() if ids <= set(listed)]
    if len(found) != 1:
        which = f"fits splits {', '.join(found)}" if found else "fits none"
        raise DataError(f"{name}: does not say its split, and {which} of {header.name}; name it with --split")
    return found[0]


def _contradictions(own: Source, other: Source) -> str:
    """Return the facts that two sources state differently: "split 2, not 1"; empty if there are none."""
    pairs = [(word, getattr(own, key), getattr(other, key)) for key, word in _WORDS.items()]
    return ", ".join(
        f"{word} {mine}, not {theirs}" for word, mine, theirs in pairs if mine and theirs and mine != theirs
    )


def _merge(first: Source, other: Source) -> Source:
    """Return the facts that either source states."""
    return Source(**{key: value or getattr(other, key) for key, value in asdict(first).items()})


def _format_value(value: Any) -> str:
    """A protocol's value in words."""
    if isinstance(value, dict):
        return ":".join(f"{weight:g}" for weight in value.values())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).replace("_", " ")
