"""What `stmn data info` prints: a set's numbers as lines for a person."""

from collections.abc import Iterator
from typing import Any

from stmn.store.inspect.lookup import quote_id
from stmn.store.inspect.statistics import STACK_FRAMES

#: a line names no more classes and sizes
CLASSES, SIZES = 12, 6


def lines(info: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(label, text) lines of what `stmn.store.inspect.statistics.describe_set` gives."""
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
        f"{frames['all']:,} ({frames['least']:,} to {frames['most']:,} a video, median {frames['median']:,}), "
        f"{frames['seconds']:,.0f} s",
    )
    if info["short"]:
        yield "", f"{len(info['short'])} videos have fewer than {STACK_FRAMES} frames, less than a stack of flow"
    sizes = info["sizes"]
    yield "sizes", ", ".join(f"{s['width']}x{s['height']} ({s['videos']})" for s in sizes[:SIZES]) + more(sizes, SIZES)
    mean = f", {info['bytes'] / frames['all'] / 1000:,.1f} kB a frame" if frames["all"] else ""
    yield "on disk", f"{readable_bytes(info['bytes'])} in {info['shards']} shards{mean}"
    classes = list(info["classes"].items())
    named = ", ".join(f"{name} ({count})" for name, count in classes[:CLASSES])
    yield "classes", f"{len(classes)}: {named}{more(classes, CLASSES)}"
    for split, parts in info["splits"].items():
        yield f"split {split}", ", ".join(f"{part}: {part_words(counts)}" for part, counts in parts.items())
    if flow:
        extent = "all" if flow["fields"] == flow["of"] else f"{flow['fields']:,} of {flow['of']:,}"
        yield (
            "flow",
            f"mean {flow['mean_speed']:.2f} px, 99 % below {flow['fast']:.1f} px; clipped {percent(flow['clipped'])}, "
            f"zero {percent(flow['zero'])}; a level is {flow['step']:.3f} px  ({extent} fields)",
        )
        yield "", f"a frame takes {flow['bytes_per_frame']:,.0f} bytes, a field {flow['bytes_per_field']:,.0f}"
    if info["hint"]:
        yield "hint", info["hint"]
    for number, one in enumerate(info["skipped"]):
        yield "skipped" if number == 0 else "", f"{quote_id(one['id'])}: {one['reason']}"


def part_words(counts: dict[str, int]) -> str:
    """`41`, or `9,000 (530 not there, 7 skipped)`."""
    lacking = [f"{counts['missing']:,} not there"] * bool(counts["missing"])
    lacking += [f"{counts['skipped']:,} skipped"] * bool(counts["skipped"])
    return f"{counts['ok']:,}" + (f" ({', '.join(lacking)})" if lacking else "")


def more(items: list[Any], shown: int) -> str:
    """What is left out of a line."""
    return f", and {len(items) - shown:,} more" if len(items) > shown else ""


def percent(share: float) -> str:
    """`3.1 %`; a share that is not zero never reads as zero."""
    return "below 0.01 %" if 0 < share < 0.0001 else f"{100 * share:.2f} %"


def readable_bytes(count: int) -> str:
    """`1.2 GB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"
