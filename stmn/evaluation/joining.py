"""Join the scores of disjoint folds into scores of one list of videos, each listed once."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from stmn.errors import DataError
from stmn.evaluation.agreement import compare_classes, describe_differences, find_differences, read_source
from stmn.evaluation.scores import Scores
from stmn.evaluation.weights import weight_folds

#: keys in which the protocols of folds may differ: they follow from the fold's own videos
_OF_FOLD = ("split", "seen_in_training", "training_videos", "gaussians", "stream_weights", "temperature")
#: name of the only stream of scores whose streams were weighted separately in each fold
_WEIGHTED = "weighted"


def join_folds(parts: Sequence[Scores], names: Sequence[str], choose_weights: bool = False) -> Scores:
    """Join the scores of disjoint folds.

    If the weights of streams were chosen in each fold, the streams are averaged first, and the joined scores have one
    stream.

    Args:
        parts: Two or more scores, each of the videos of one fold.
        names: What error messages call them.
        choose_weights: Choose the weights of each fold's streams on the other folds' videos (`weight_folds`).

    Returns:
        Scores of all videos. Their protocol has split "all", and the names of the folds' splits under `folds`.

    Raises:
        DataError: A video is in two folds, or classes, data sets, parts, streams or the way of testing differ, or a
            protocol doesn't state its split.
    """
    first = parts[0]
    sources = [read_source(part.protocol, name) for part, name in zip(parts, names, strict=True)]
    for part, name, source in zip(parts, names, sources, strict=True):
        if not source.split:
            raise DataError(f"{name}: does not say which fold it is of; test again")
        if first.classes != part.classes:
            differ = compare_classes(part.classes, first.classes)
            raise DataError(
                f"{name}: scores of other classes than {names[0]} ({differ}): folds of one set have the same"
            )
        for word, known, own in (
            ("data set", sources[0].data, source.data),
            ("part", sources[0].part or "test", source.part or "test"),
        ):
            if known and own and known != own:
                raise DataError(f"{name}: is of {word} {own}, and {names[0]} of {known}: name folds of one set")
        differences = find_differences(first.protocol, part.protocol)
        if unlike := {key: pair for key, pair in differences.items() if key not in _OF_FOLD}:
            raise DataError(
                f"{name}: was measured in another way than {names[0]}: {describe_differences(unlike)}; test all folds "
                f"in one way"
            )
    fold_of: dict[str, str] = {}
    for part, name in zip(parts, names, strict=True):
        for video in part.ids:
            if video in fold_of:
                raise DataError(f"{fold_of[video]} and {name}: both score {video!r}: folds have no video in common")
            fold_of[video] = name
    _check_streams(parts, names)
    alike = _weight(weight_folds(parts, names) if choose_weights else parts, names)
    streams = {
        name: torch.cat([list(part.streams.values())[number] for part in alike])
        for number, name in enumerate(alike[0].streams)
    }
    columns: list[list[Any]] = [
        [value for part in alike for value in getattr(part, name)] for name in ("ids", "labels", "groups", "hashes")
    ]
    ids, labels, groups, hashes = columns
    folds = list(dict.fromkeys(source.split for source in sources))
    protocol = _join_protocols([part.protocol for part in alike], folds)
    return Scores(ids, first.classes, labels, streams, protocol, groups, hashes)


def _weight(parts: Sequence[Scores], names: Sequence[str]) -> list[Scores]:
    """Return the parts as they are or, if stream weights were chosen in each, with the weighted mean as one stream."""
    weights = [list((part.protocol.get("stream_weights") or {}).values()) for part in parts]
    if not all(part.protocol.get("stream_weights_chosen_on") for part in parts):
        number = next((number for number, own in enumerate(weights) if own != weights[0]), None)
        if number is None:
            return list(parts)
        said = [":".join(f"{weight:g}" for weight in own) or "equal" for own in (weights[number], weights[0])]
        raise DataError(
            f"{names[number]}: has stream weights {said[0]}, and {names[0]} has {said[1]}; test all folds in one way"
        )
    found = []
    for part in parts:
        about = {key: value for key, value in part.protocol.items() if not key.startswith("stream_weights")}
        if "words" in about:
            about["words"] = about["words"].partition(", streams ")[0] + ", stream weights chosen in each fold"
        found.append(replace(part, streams={_WEIGHTED: part.mean()}, protocol=about))
    return found


def _check_streams(parts: Sequence[Scores], names: Sequence[str]) -> None:
    """Refuse folds with different streams. Streams of a late fusion may be named after their runs."""
    first = list(parts[0].streams)
    for part, name in zip(parts, names, strict=True):
        own = list(part.streams)
        pairs = list(zip(first, own, strict=False))
        renamed = all(one == other or (one not in own and other not in first) for one, other in pairs)
        if len(own) != len(first) or (own != first and not ("parts" in part.protocol and renamed)):
            raise DataError(
                f"{name}: has the streams {', '.join(own)}, and {names[0]} has {', '.join(first)}; name folds of one "
                f"kind of model"
            )


def _join_protocols(protocols: Sequence[dict[str, Any]], folds: Sequence[str]) -> dict[str, Any]:
    """Return the first fold's protocol, changed to state all folds; the same for protocols fused into it."""
    first = protocols[0]
    joined = first | {"split": "all", "folds": list(folds)}
    if any(protocol.get("temperature") != first.get("temperature") for protocol in protocols):
        joined.pop("temperature", None)  # each fold's model has its own
    if "words" in first:
        said = f"split {first.get('split', '')} {first.get('part', '')}"
        joined["words"] = first["words"].replace(said, f"folds {', '.join(folds)} {first.get('part', '')}")
    for key in ("seen_in_training", "fewer_chunks"):
        if counts := [protocol[key] for protocol in protocols if key in protocol]:
            joined[key] = sum(counts)
    if all("parts" in protocol for protocol in protocols):
        columns = zip(*(protocol["parts"] for protocol in protocols), strict=False)
        joined["parts"] = [_join_protocols(column, folds) for column in columns]
    if all(isinstance(protocol.get("idt"), dict) for protocol in protocols):
        joined["idt"] = _join_protocols([protocol["idt"] for protocol in protocols], folds)
    return joined
