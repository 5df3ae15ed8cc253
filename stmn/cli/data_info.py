"""The text that `stmn data info` prints: the numbers of a set."""

from collections.abc import Iterator
from typing import Any

from stmn.errors import count_of
from stmn.store.inspect.lookup import quote_id
from stmn.store.inspect.statistics import STACK_FRAMES

#: the most classes and sizes on a line, and the most splits with a line of their own
_CLASSES, _SIZES, _SPLITS = 12, 6, 3


def describe(info: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (label, text) for each line about the result of `stmn.store.inspect.statistics.describe_set`."""
    how, videos, frames, flow = info["preparation"], info["videos"], info["frames"], info["flow"]
    yield "set", f"{info['name']}, of data set '{info['dataset']}'  ({info['path']})"
    yield (
        "prepared",
        f"short side {how['short_side']} px, flow {how['flow']} clipped to {how['bound']:g} px, "
        f"JPEG quality {how['quality']}, camera motion: {how['camera_motion']}"
        + (f", {how['fps']:g} frames per second" if "fps" in how else ""),
    )
    gone = f"; {videos['gone']:,} set apart: the data set no longer lists them" if videos["gone"] else ""
    yield "videos", f"{videos['ok']:,} ok, {videos['skipped']:,} skipped{gone}"
    yield (
        "frames",
        f"{frames['all']:,} ({frames['least']:,} to {frames['most']:,} per video, median {frames['median']:,}), "
        f"{frames['seconds']:,.0f} s",
    )
    if info["short"]:
        yield (
            "",
            f"{count_of(len(info['short']), 'video has', 'videos have')} fewer than {STACK_FRAMES} frames, too few for "
            "a stack of flow",
        )
    sizes = info["sizes"]
    yield (
        "sizes",
        ", ".join(f"{s['width']}x{s['height']} ({s['videos']})" for s in sizes[:_SIZES]) + _more(sizes, _SIZES),
    )
    rates = info["rates"]
    if rates:
        yield (
            "rates",
            ", ".join(f"{r['fps']:g} ({r['videos']})" for r in rates[:_SIZES]) + _more(rates, _SIZES)
            + " frames per second",
        )  # fmt: skip
    if info["rates_differ"]:
        yield "", info["rates_differ"]
    mean = f", {info['bytes'] / frames['all'] / 1000:,.1f} kB per frame" if frames["all"] else ""
    yield "on disk", f"{_format_bytes(info['bytes'])} in {count_of(info['shards'], 'shard')}{mean}"
    classes = list(info["classes"].items())
    named = ", ".join(f"{name} ({count})" for name, count in classes[:_CLASSES])
    yield "classes", f"{len(classes)}: {named}{_more(classes, _CLASSES)}"
    if info["groups"]:
        several = info["groups_in_several_classes"]
        yield "groups", f"{info['groups']:,}" + (f", {several:,} of them in several classes" if several else "")
    yield from _describe_splits(info["splits"], info["folds"])
    for line in info["copies"]:
        yield "", line
    if flow:
        extent = "all" if flow["fields"] == flow["of"] else f"{flow['fields']:,} of {flow['of']:,}"
        yield (
            "flow",
            f"mean {flow['mean_speed']:.2f} px, 99 % below {flow['fast']:.1f} px; clipped {_percent(flow['clipped'])}, "
            f"zero {_percent(flow['zero'])}; {flow['step']:.3f} px between levels  ({extent} fields)",
        )
        yield "", f"{flow['bytes_per_frame']:,.0f} bytes per frame, {flow['bytes_per_field']:,.0f} per field"
    if info["hint"]:
        yield "hint", info["hint"]
    for number, one in enumerate(info["skipped"]):
        yield "skipped" if number == 0 else "", f"{quote_id(one['id'])}: {one['reason']}"
    for number, one in enumerate(info["notes"]):
        yield "notes" if number == 0 else "", f"{quote_id(one['id'])}: {one['note']}"


def _describe_splits(splits: dict[str, Any], folds: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    """A line per split, or one line for all if they are many or folds."""
    if len(splits) <= _SPLITS and not folds:
        for split, parts in splits.items():
            yield f"split {split}", ", ".join(f"{part}: {_describe_part(counts)}" for part, counts in parts.items())
        return
    names = list(splits)
    kind = ""
    if folds:
        kind = f" {folds['by']} folds" if folds["count"] else ", each tests one group"
    ranges = []
    for part in splits[names[0]]:
        counts = [parts[part] for parts in splits.values()]
        lacking = _lacking({key: max(one[key] for one in counts) for key in ("missing", "skipped")}, "up to ")
        ranges.append(f"{part}: {_range([one['ok'] for one in counts])}{lacking}")
    yield "splits", f"{len(names)}{kind} ({names[0]} to {names[-1]}), {', '.join(ranges)}"


def _range(numbers: list[int]) -> str:
    """`9 to 10`, or `9`."""
    low, high = min(numbers), max(numbers)
    return f"{low:,} to {high:,}" if low < high else f"{low:,}"


def _describe_part(counts: dict[str, int]) -> str:
    """`41`, or `9,000 (530 missing, 7 skipped)`."""
    return f"{counts['ok']:,}{_lacking(counts)}"


def _lacking(counts: dict[str, int], most: str = "") -> str:
    """` (530 missing, 7 skipped)`; "" if none are."""
    lacking = [f"{most}{counts[key]:,} {key}" for key in ("missing", "skipped") if counts[key]]
    return f" ({', '.join(lacking)})" if lacking else ""


def _more(items: list[Any], shown: int) -> str:
    """`, and 3 more`: how many items the line doesn't name; "" if it names all."""
    return f", and {len(items) - shown:,} more" if len(items) > shown else ""


def _percent(fraction: float) -> str:
    """`3.1 %`; a fraction above zero never reads as zero."""
    return "below 0.01 %" if 0 < fraction < 0.0001 else f"{100 * fraction:.2f} %"


def _format_bytes(count: int) -> str:
    """`1.2 GB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"
