"""The paper's numbers, and which of them stands beside an evaluation of UCF101 or HMDB51.

Feichtenhofer, Pinz, Wildes, CVPR 2017, Tables 2 to 5; Tables 2 and 3 as 100 minus their errors. Rows of Table 5 are
those that its text names: 94.2 and 68.9 without IDT, 94.9 and 72.2 with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["appearance", "motion", "late_fusion", "fused", "idt", "other"]

#: data set plugin -> its number of classes; a set in the same layout with other classes is not the paper's
CLASSES = {"ucf101": 101, "hmdb51": 51}
DATASETS = tuple(CLASSES)
MEAN, FIRST = "mean of 3 splits", "split 1"
DEPTHS = {"resnet50": "ResNet-50", "resnet152": "ResNet-152"}
FINAL = "ResNet-50 gated by ResNet-152"
#: injector -> the paper's mark; its two daggers can't be told apart in the text that is at hand
MARKS = {"last_unit": "§", "residual": "† or ‡", "residual_and_skip": "† or ‡"}


@dataclass(frozen=True)
class Published:
    """A number of the paper in 0..1: of what, which table's row it is, and over which splits.

    `also` is the other one, where two rows fit.
    """

    what: str
    accuracy: float
    source: str
    splits: str
    also: float | None = None


@dataclass(frozen=True)
class Networks:
    """What is known of the networks behind an evaluation; None is unknown."""

    appearance: str | None = None
    motion: str | None = None
    #: options of `fuse` by name, where they are gated
    gates: dict[str, Any] | None = None


UNKNOWN = Networks()
#: role -> what -> accuracies (UCF101, HMDB51), %
TABLE_4: dict[tuple[str, str], tuple[float, float]] = {
    ("appearance", "resnet50"): (82.3, 48.9),
    ("appearance", "resnet152"): (83.4, 46.7),
    ("motion", "resnet50"): (87.0, 55.8),
    ("motion", "resnet152"): (87.2, 60.0),
    ("late_fusion", "resnet50"): (91.7, 61.2),
    ("late_fusion", "resnet152"): (91.8, 63.8),
}
TABLE_5: dict[str, tuple[float, float]] = {"fused": (94.2, 68.9), "idt": (94.9, 72.2)}
#: (fusion, site, direction) -> errors (UCF101, HMDB51), %; two ResNet-50, split 1, no temporal filters
TABLE_2: dict[tuple[str, str, str], tuple[float, float]] = {
    ("add", "direct", "motion_to_appearance"): (24.78, 54.85),
    ("multiply", "direct", "motion_to_appearance"): (81.98, 77.89),
    ("add", "residual", "motion_to_appearance"): (9.38, 41.89),
    ("multiply", "residual", "motion_to_appearance"): (8.72, 37.23),
    ("add", "residual", "appearance_to_motion"): (16.76, 49.54),
    ("multiply", "residual", "appearance_to_motion"): (16.68, 48.43),
    ("multiply", "residual", "both"): (15.15, 48.56),
}
#: (mark, init, max-pooling over time) -> errors of the rows that fit (UCF101, HMDB51), %; multiply, split 1
TABLE_3: dict[tuple[str, str, bool], list[tuple[float, float]]] = {
    ("§", "average", False): [(7.85, 35.29)],
    ("† or ‡", "average", False): [(7.72, 35.96), (7.45, 35.94)],
    ("† or ‡", "centre", False): [(7.61, 34.72), (7.79, 34.38)],
    ("§", "centre", False): [(7.74, 34.90)],
    ("† or ‡", "centre", True): [(6.74, 34.05), (6.00, 30.98)],
}


def known(dataset: str, classes: int) -> bool:
    """True for the paper's own data sets, by their plugin's name and number of classes."""
    return CLASSES.get(dataset) == classes


def published(dataset: str) -> list[Published]:
    """The paper's numbers of a data set that it reports: streams, late fusion, gates, filters, with IDT."""
    column = DATASETS.index(dataset)
    return [
        *(table_4(role, depth, column) for role, depth in TABLE_4),
        *(table_2(key, column) for key in TABLE_2),
        *(table_3(key, column) for key in TABLE_3),
        *(table_5(role, column) for role in TABLE_5),
    ]


def beside(dataset: str, role: Role, networks: Networks, split: str) -> Published | None:
    """The paper's number that is nearest to an evaluation: of the same networks, else of the paper's own kind of them.

    Networks of split 1 that Tables 2 and 3 have stand beside their rows; all others beside means over three splits.
    """
    column = DATASETS.index(dataset)
    if role == "other":
        return None
    if role == "idt":
        return table_5(role, column)
    if role == "fused":
        fitting = ablation(networks, column) if split == "1" else None
        return fitting or table_5(role, column)
    archs = {"appearance": {networks.appearance}, "motion": {networks.motion}}
    own = archs.get(role, {networks.appearance, networks.motion})
    depth = "resnet152" if own == {"resnet152"} else "resnet50"
    return table_4(role, depth, column)


def ablation(networks: Networks, column: int) -> Published | None:
    """The row of Table 2 or 3 for two ResNet-50 with these gates and filters, or None."""
    gates = networks.gates or {}
    if (networks.appearance, networks.motion) != ("resnet50", "resnet50") or gates.get("gated_units") != "second_unit":
        return None
    key = tuple(str(gates.get(name)) for name in ("fusion", "site", "direction"))
    injector, pooled = gates.get("injector"), gates.get("temporal_pool") == "max"
    if injector == "none":
        return next((table_2(row, column) for row in TABLE_2 if row == key and not pooled), None)
    if key != ("multiply", "residual", "motion_to_appearance"):
        return None
    wanted = (MARKS.get(str(injector)), gates.get("temporal_init"), pooled)
    return next((table_3(row, column) for row in TABLE_3 if row == wanted), None)


def table_2(key: tuple[str, str, str], column: int) -> Published:
    """A row of Table 2."""
    fusion, site, direction = key
    return Published(
        f"{fusion}, {site}, {direction.replace('_', ' ')}", right(TABLE_2[key][column]), "Table 2, ResNet-50", FIRST
    )


def table_3(key: tuple[str, str, bool], column: int) -> Published:
    """A row of Table 3, or the two that can't be told apart."""
    mark, init, pooled = key
    first, *others = (right(row[column]) for row in TABLE_3[key])
    what = f"multiply, filters {mark} from {init}{', max-pooled in time' if pooled else ''}"
    return Published(what, first, "Table 3, ResNet-50", FIRST, others[0] if others else None)


def table_4(role: str, depth: str, column: int) -> Published:
    """A cell of Table 4."""
    what = {"late_fusion": "late fusion"}.get(role, role)
    return Published(what, TABLE_4[role, depth][column] / 100, f"Table 4, {DEPTHS[depth]}", MEAN)


def table_5(role: str, column: int) -> Published:
    """The paper's final network, alone or with IDT."""
    what = f"{FINAL}{', with IDT' if role == 'idt' else ''}"
    return Published(what, TABLE_5[role][column] / 100, f"Table 5, ours{' + IDT' if role == 'idt' else ''}", MEAN)


def right(error: float) -> float:
    """The share that is right, of an error in %."""
    return round(100 - error, 2) / 100


def role_of(streams: Iterator[str] | list[str], protocol: dict[str, Any]) -> Role:
    """What scores are of, by their streams' names and their protocol."""
    names = set(streams)
    if "idt" in protocol:
        return "idt"
    if "late_fusion_weights" in protocol:
        return "late_fusion" if names == {"appearance", "motion"} else "other"
    if names == {"appearance"}:
        return "appearance"
    if names == {"motion"}:
        return "motion"
    return "fused" if names in ({"appearance", "motion"}, {"fused"}) else "other"
