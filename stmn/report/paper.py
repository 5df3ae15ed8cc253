"""The paper's accuracies on UCF101 and HMDB51, and the choice of the nearest one to an evaluation.

Feichtenhofer, Pinz, Wildes, CVPR 2017, Tables 2 to 5. Tables 2 and 3 report errors; accuracy is 100 minus the error.
From Table 5 only the rows that the text names are here: 94.2 and 68.9 without IDT, 94.9 and 72.2 with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stmn.evaluation.kinds import find_features

#: "idt": with real improved dense trajectories; "svm": with other hand-crafted features, or with unknown ones
Role = Literal["appearance", "motion", "late_fusion", "fused", "idt", "svm", "other"]

#: data set plugin -> number of classes in the paper; a set in the same layout with another number is not the paper's
_CLASSES = {"ucf101": 101, "hmdb51": 51}
_DATASETS = tuple(_CLASSES)
_MEAN, _FIRST = "mean of 3 splits", "split 1"
_DEPTHS = {"resnet50": "ResNet-50", "resnet152": "ResNet-152"}
_FINAL = "ResNet-50 gated by ResNet-152"
#: injector -> its mark in Table 3; the two daggers can't be told apart in the copy that these numbers come from
_MARKS = {"last_unit": "§", "residual": "† or ‡", "residual_and_skip": "† or ‡"}


@dataclass(frozen=True)
class PaperAccuracy:
    """An accuracy of the paper.

    Attributes:
        what: the network.
        accuracy: in 0..1.
        source: the table and its row.
        splits: the splits it was measured on.
        also: a second accuracy in 0..1, if two rows fit.
        weighted: whether it averages streams with the motion stream counted three times.
    """

    what: str
    accuracy: float
    source: str
    splits: str
    also: float | None = None
    weighted: bool = False


@dataclass(frozen=True)
class NetworkSummary:
    """The networks that an evaluation tested, as far as they are known.

    Attributes:
        appearance: architecture of the appearance stream; None if unknown.
        motion: architecture of the motion stream; None if unknown.
        gates: options of `fuse` by name; None if the streams aren't fused by gates.
    """

    appearance: str | None = None
    motion: str | None = None
    gates: dict[str, Any] | None = None


UNKNOWN = NetworkSummary()
#: (role, architecture) -> accuracies (UCF101, HMDB51), %
_TABLE_4: dict[tuple[str, str], tuple[float, float]] = {
    ("appearance", "resnet50"): (82.3, 48.9),
    ("appearance", "resnet152"): (83.4, 46.7),
    ("motion", "resnet50"): (87.0, 55.8),
    ("motion", "resnet152"): (87.2, 60.0),
    ("late_fusion", "resnet50"): (91.7, 61.2),
    ("late_fusion", "resnet152"): (91.8, 63.8),
}
_TABLE_5: dict[str, tuple[float, float]] = {"fused": (94.2, 68.9), "idt": (94.9, 72.2)}
#: (fusion, site, direction) -> errors (UCF101, HMDB51), %; two ResNet-50, split 1, no temporal filters
_TABLE_2: dict[tuple[str, str, str], tuple[float, float]] = {
    ("add", "direct", "motion_to_appearance"): (24.78, 54.85),
    ("multiply", "direct", "motion_to_appearance"): (81.98, 77.89),
    ("add", "residual", "motion_to_appearance"): (9.38, 41.89),
    ("multiply", "residual", "motion_to_appearance"): (8.72, 37.23),
    ("add", "residual", "appearance_to_motion"): (16.76, 49.54),
    ("multiply", "residual", "appearance_to_motion"): (16.68, 48.43),
    ("multiply", "residual", "both"): (15.15, 48.56),
}
#: (mark, init, max-pooling over time) -> errors (UCF101, HMDB51) of each row that fits, %; multiply, split 1
_TABLE_3: dict[tuple[str, str, bool], list[tuple[float, float]]] = {
    ("§", "average", False): [(7.85, 35.29)],
    ("† or ‡", "average", False): [(7.72, 35.96), (7.45, 35.94)],
    ("† or ‡", "centre", False): [(7.61, 34.72), (7.79, 34.38)],
    ("§", "centre", False): [(7.74, 34.90)],
    ("† or ‡", "centre", True): [(6.74, 34.05), (6.00, 30.98)],
}


def is_paper_dataset(dataset: str, classes: int) -> bool:
    """True for UCF101 and HMDB51, by their plugin's name and their number of classes."""
    return _CLASSES.get(dataset) == classes


def list_paper_accuracies(dataset: str) -> list[PaperAccuracy]:
    """The paper's accuracies on "ucf101" or "hmdb51": streams, late fusion, gates, temporal filters, with IDT."""
    column = _DATASETS.index(dataset)
    return [
        *(_read_table_4(role, depth, column) for role, depth in _TABLE_4),
        *(_read_table_2(key, column) for key in _TABLE_2),
        *(_read_table_3(key, column) for key in _TABLE_3),
        *(_read_table_5(role, column) for role in _TABLE_5),
    ]


def find_nearest(dataset: str, role: Role, networks: NetworkSummary, split: str) -> PaperAccuracy | None:
    """The paper's accuracy nearest to an evaluation: for the same networks, or else for the same kind of result.

    Two streams that were trained together without gates are nearest to late fusion.

    Networks on split 1 that are in Table 2 or 3 get their row there; all others get means over three splits.

    Args:
        dataset: "ucf101" or "hmdb51".
        role: the kind of result.
        networks: the networks that it tested.
        split: the split, or "all".
    """
    column = _DATASETS.index(dataset)
    if role in ("other", "svm"):
        return None
    if role == "fused" and (networks.gates or {}).get("fusion") == "none":
        role = "late_fusion"
    if role == "idt":
        return _read_table_5(role, column)
    if role == "fused":
        fitting = _find_ablation(networks, column) if split == "1" else None
        return fitting or _read_table_5(role, column)
    archs = {"appearance": {networks.appearance}, "motion": {networks.motion}}
    own = archs.get(role, {networks.appearance, networks.motion})
    depth = "resnet152" if own == {"resnet152"} else "resnet50"
    return _read_table_4(role, depth, column)


def _find_ablation(networks: NetworkSummary, column: int) -> PaperAccuracy | None:
    """The row of Table 2 or 3 for two ResNet-50 with these gates and filters, or None."""
    gates = networks.gates or {}
    if (networks.appearance, networks.motion) != ("resnet50", "resnet50") or gates.get("gated_units") != "second_unit":
        return None
    key = tuple(str(gates.get(name)) for name in ("fusion", "site", "direction"))
    injector, pooled = gates.get("injector"), gates.get("temporal_pool") == "max"
    if injector == "none":
        return next((_read_table_2(row, column) for row in _TABLE_2 if row == key and not pooled), None)
    if key != ("multiply", "residual", "motion_to_appearance"):
        return None
    wanted = (_MARKS.get(str(injector)), gates.get("temporal_init"), pooled)
    return next((_read_table_3(row, column) for row in _TABLE_3 if row == wanted), None)


def _read_table_2(key: tuple[str, str, str], column: int) -> PaperAccuracy:
    """A row of Table 2."""
    fusion, site, direction = key
    what = f"{fusion}, {site}, {direction.replace('_', ' ')}"
    return PaperAccuracy(what, _to_accuracy(_TABLE_2[key][column]), "Table 2, ResNet-50", _FIRST)


def _read_table_3(key: tuple[str, str, bool], column: int) -> PaperAccuracy:
    """A row of Table 3, or both of two rows that can't be told apart."""
    mark, init, pooled = key
    first, *others = (_to_accuracy(row[column]) for row in _TABLE_3[key])
    what = f"multiply, filters {mark} from {init}{', max-pooled over time' if pooled else ''}"
    return PaperAccuracy(what, first, "Table 3, ResNet-50", _FIRST, others[0] if others else None)


def _read_table_4(role: str, depth: str, column: int) -> PaperAccuracy:
    """A cell of Table 4."""
    weighted = role == "late_fusion" and _DATASETS[column] == "hmdb51"  # section 5.3
    what = {"late_fusion": f"late fusion{', motion x 3' if weighted else ''}"}.get(role, role)
    accuracy = _TABLE_4[role, depth][column] / 100
    return PaperAccuracy(what, accuracy, f"Table 4, {_DEPTHS[depth]}", _MEAN, weighted=weighted)


def _read_table_5(role: str, column: int) -> PaperAccuracy:
    """The paper's final network, alone or with IDT."""
    what = f"{_FINAL}{', with IDT' if role == 'idt' else ''}"
    return PaperAccuracy(what, _TABLE_5[role][column] / 100, f"Table 5, ours{' + IDT' if role == 'idt' else ''}", _MEAN)


def _to_accuracy(error: float) -> float:
    """An error in % as an accuracy in 0..1."""
    return round(100 - error, 2) / 100


def find_role(streams: Sequence[str], protocol: dict[str, Any]) -> Role:
    """The kind of result that scores are, from their streams' names and their protocol."""
    names = set(streams)
    if features := find_features(protocol):
        return "idt" if features == "idt" else "svm"
    if "late_fusion_weights" in protocol:
        return "late_fusion" if names == {"appearance", "motion"} else "other"
    if names == {"appearance"}:
        return "appearance"
    if names == {"motion"}:
        return "motion"
    return "fused" if names in ({"appearance", "motion"}, {"fused"}) else "other"
