"""What `stmn data info` prints: the numbers of a set as lines of text."""

from collections.abc import Iterator
from typing import Any

from stmn.store.inspect.lookup import quote_id
from stmn.store.inspect.statistics import STACK_FRAMES

#: at most so many classes and sizes in a line
_CLASSES, _SIZES = 12, 6


def describe(info: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Lines of (label, text) about what `stmn.store.inspect.statistics.describe_set` found."""
    how, videos, frames, flow = info["preparation"], info["videos"], info["frames"], info["flow"]
    yield "set", f"{info['name']}, of data set '{info['dataset']}'  ({info['path']})"
    yield (
        "prepared",
        f"short side {how['short_side']} px, flow {how['flow']} clipped to {how['bound']:g} px, "
        f"JPEG quality {how['quality']}, camera motion: {how['camera_motion']}",
    )
    yield "videos", f"{videos['ok']:,} ok, {videos['skipped']:,} skipped"
    yield (
        "frames",
        f"{frames['all']:,} ({frames['least']:,} to {frames['most']:,} per video, median {frames['median']:,}), "
        f"{frames['seconds']:,.0f} s",
    )
    if info["short"]:
        yield "", f"{len(info['short'])} videos have fewer than {STACK_FRAMES} frames, too few for a stack of flow"
    sizes = info["sizes"]
    yield (
        "sizes",
        ", ".join(f"{s['width']}x{s['height']} ({s['videos']})" for s in sizes[:_SIZES]) + _more(sizes, _SIZES),
    )
    mean = f", {info['bytes'] / frames['all'] / 1000:,.1f} kB per frame" if frames["all"] else ""
    yield "on disk", f"{_format_bytes(info['bytes'])} in {info['shards']} shards{mean}"
    classes = list(info["classes"].items())
    named = ", ".join(f"{name} ({count})" for name, count in classes[:_CLASSES])
    yield "classes", f"{len(classes)}: {named}{_more(classes, _CLASSES)}"
    if info["groups"]:
        several = info["groups_in_several_classes"]
        yield "groups", f"{info['groups']:,}" + (f", {several:,} of them in several classes" if several else "")
    for split, parts in info["splits"].items():
        yield f"split {split}", ", ".join(f"{part}: {_describe_part(counts)}" for part, counts in parts.items())
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


def _describe_part(counts: dict[str, int]) -> str:
    """`41`, or `9,000 (530 missing, 7 skipped)`."""
    lacking = [f"{counts['missing']:,} missing"] * bool(counts["missing"])
    lacking += [f"{counts['skipped']:,} skipped"] * bool(counts["skipped"])
    return f"{counts['ok']:,}" + (f" ({', '.join(lacking)})" if lacking else "")


def _more(items: list[Any], shown: int) -> str:
    """How many more there are than a line names."""
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
