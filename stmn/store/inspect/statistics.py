"""What a prepared set holds, in numbers, and whether the bound suits its flow."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from stmn.flow.quantise import ZERO_LEVEL, dequantise
from stmn.runtime.progress import Progress
from stmn.store.format.reader import Store, StoredVideo
from stmn.store.format.writer import FLOW, RGB

#: levels this near the ends count as clipped: JPEG moves levels a little
NEAR_THE_END = 1
#: more clipped flow than this share asks for a larger bound
MUCH_CLIPPED = 0.01
#: the share of flow components that a bound should hold
KEPT = 0.999
#: bounds that a hint proposes, pixels
BOUNDS = (1, 2, 3, 5, 8, 10, 15, 20, 30, 40, 60, 80, 120, 160, 240, 320)
#: a video shorter than this has to repeat flow to fill a stack of ten fields
STACK_FRAMES = 11


@dataclass(frozen=True)
class FlowStatistics:
    """Flow over all pixels of the fields that were measured, as it is stored: in pixels a frame, shares in 0..1.

    `clipped`: u or v at the bound. `zero`: u and v at the level of zero. `largest_component`: the value that all but
    one in a thousand of |u| and |v| stay below. `step`: between two levels. `bytes_per_*`: mean JPEG size.
    """

    fields: int
    of: int
    mean_speed: float
    fast: float
    largest_component: float
    clipped: float
    zero: float
    step: float
    bytes_per_frame: float
    bytes_per_field: float


def flow_statistics(store: Store, fields: int, progress: Progress) -> FlowStatistics | None:
    """Measure `fields` flow fields spread over the set (0: all); None when there are none."""
    videos = sorted((v for v in store.videos.values() if v.status == "ok" and v.frames > 1), key=lambda v: v.id)
    total = sum(v.frames - 1 for v in videos)
    if not total:
        return None
    wanted = min(fields or total, total)
    counts = torch.zeros(256 * 256, dtype=torch.int64)
    measured = frame_bytes = field_bytes = 0
    with progress.task("flow", wanted, "fields") as task:
        for video, times in spread(videos, total, wanted):
            for start in range(0, len(times), 64):
                some = times[start : start + 64]
                blobs = store.blobs(video.id, FLOW, some)
                counts += joint_levels(store.fields(video.id, some))
                measured += len(some)
                field_bytes += sum(map(len, blobs))
                frame_bytes += sum(map(len, store.blobs(video.id, RGB, some)))
                task.advance(len(some))
    return summary(
        counts, store.header.preparation.bound, measured, total, frame_bytes / measured, field_bytes / measured
    )


def spread(videos: list[StoredVideo], total: int, wanted: int) -> Iterator[tuple[StoredVideo, list[int]]]:
    """`wanted` of the set's `total` fields at even distances, as times of each video."""
    first, chosen = 0, 0
    for video in videos:
        end = first + video.frames - 1
        times = []
        while chosen < wanted and (place := (2 * chosen + 1) * total // (2 * wanted)) < end:
            times.append(place - first)
            chosen += 1
        if times:
            yield video, times
        first = end


def joint_levels(levels: Tensor) -> Tensor:
    """How often each pair of levels occurs in (N, 2, H, W): 256 x 256 counts, u the row, flattened."""
    u, v = levels[:, 0].flatten().long(), levels[:, 1].flatten().long()
    return torch.bincount(u * 256 + v, minlength=256 * 256)


def summary(
    counts: Tensor, bound: float, fields: int, of: int, bytes_per_frame: float, bytes_per_field: float
) -> FlowStatistics:
    """The statistics of 256 x 256 counts of pairs of levels."""
    weights = counts.double() / counts.sum()
    level = torch.arange(256)
    u, v = level.repeat_interleave(256), level.repeat(256)
    pixels_u, pixels_v = dequantise(u, bound).double(), dequantise(v, bound).double()
    at_end = [(x <= NEAR_THE_END) | (x >= 255 - NEAR_THE_END) for x in (u, v)]
    speed = torch.hypot(pixels_u, pixels_v)
    return FlowStatistics(
        fields=fields,
        of=of,
        mean_speed=float((weights * speed).sum()),
        fast=quantile(speed, weights, 0.99),
        largest_component=quantile(
            torch.cat([pixels_u.abs(), pixels_v.abs()]), torch.cat([weights, weights]) / 2, KEPT
        ),
        clipped=float(weights[at_end[0] | at_end[1]].sum()),
        zero=float(weights[(u == ZERO_LEVEL) & (v == ZERO_LEVEL)].sum()),
        step=2 * bound / 255,
        bytes_per_frame=bytes_per_frame,
        bytes_per_field=bytes_per_field,
    )


def quantile(values: Tensor, weights: Tensor, share: float) -> float:
    """The least value that `share` of the weight does not exceed."""
    ordered, order = values.sort()
    place = int(torch.searchsorted(weights[order].cumsum(0), torch.tensor(share, dtype=weights.dtype)))
    return float(ordered[min(place, len(ordered) - 1)])


def bound_hint(flow: FlowStatistics, bound: float) -> str:
    """A sentence when the bound does not suit the flow, else ""."""
    if flow.clipped > MUCH_CLIPPED:
        return (
            f"{100 * flow.clipped:.1f} % of the flow is clipped at {bound:g} px; "
            f"prepared with a larger bound (--bound {next((b for b in BOUNDS if b > bound), 2 * bound):g}) it would "
            "be kept"
        )
    fitting = next((b for b in BOUNDS if b >= flow.largest_component), bound)
    if flow.mean_speed < flow.step and fitting < bound:
        return (
            f"the mean motion ({flow.mean_speed:.2f} px) is below the step between two levels ({flow.step:.2f} px), "
            f"and 99.9 % of u and v stay within {flow.largest_component:.1f} px: --bound {fitting:g} would tell slow "
            "motion better"
        )
    return ""


def describe(store: Store, fields: int, progress: Progress) -> dict[str, Any]:
    """Everything that `stmn data info` tells, as JSON. `fields`: flow fields to measure (0: all)."""
    header, videos = store.header, sorted(store.videos.values(), key=lambda video: video.id)
    ok = [video for video in videos if video.status == "ok"]
    lengths = sorted(video.frames for video in ok)
    sizes = Counter((video.width, video.height) for video in ok)
    flow = flow_statistics(store, fields, progress)
    return {
        "path": str(store.folder),
        "name": header.name,
        "dataset": header.dataset["name"],
        "fingerprint": store.fingerprint,
        "preparation": header.preparation.model_dump(mode="json"),
        "keeps": header.keeps,
        "videos": {"all": len(videos), "ok": len(ok), "skipped": len(videos) - len(ok)},
        "skipped": [{"id": v.id, "reason": v.reason} for v in videos if v.status != "ok"],
        "classes": {name: sum(v.class_name == name for v in ok) for name in header.classes},
        "splits": {
            split: {part: part_counts(store, ids) for part, ids in parts.items()}
            for split, parts in header.splits.items()
        },
        "frames": {
            "all": sum(lengths),
            "least": lengths[0] if lengths else 0,
            "median": lengths[len(lengths) // 2] if lengths else 0,
            "most": lengths[-1] if lengths else 0,
            "seconds": round(sum(v.frames / v.fps for v in ok if v.fps > 0), 2),
        },
        "short": [v.id for v in ok if v.frames < STACK_FRAMES],
        "sizes": [{"width": w, "height": h, "videos": count} for (w, h), count in sizes.most_common()],
        "bytes": sum(path.stat().st_size for path in store.shards),
        "shards": len(store.shards),
        "flow": asdict(flow) if flow else None,
        "hint": bound_hint(flow, header.preparation.bound) if flow else "",
    }


def part_counts(store: Store, ids: list[str]) -> dict[str, int]:
    """How many videos a part lists, and what became of them."""
    there = [store.videos[i].status for i in ids if i in store.videos]
    return {
        "listed": len(ids),
        "ok": there.count("ok"),
        "skipped": there.count("skipped"),
        "missing": len(ids) - len(there),
    }
