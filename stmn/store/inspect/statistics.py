"""Statistics of a prepared set, and whether the bound suits its flow."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from stmn.flow.quantise import COVERED, ZERO_LEVEL, dequantise, next_bound
from stmn.runtime.progress import Progress
from stmn.store.format.read import Store, StoredVideo
from stmn.store.format.shard import FLOW, RGB
from stmn.store.inspect.copies import find_copies
from stmn.store.inspect.rates import count_rates, describe_rates

#: a shorter video has to repeat flow fields to fill a stack of ten
STACK_FRAMES = 11

#: levels this close to 0 or 255 count as clipped, because JPEG changes levels slightly
_CLIP_MARGIN = 1
#: if more of the flow than this is clipped, a larger bound is suggested
_MOST_CLIPPED = 0.01
#: a bound that is this many times too large wastes levels
_WASTED = 4
#: pictures in memory at a time
_BLOCK = 64


@dataclass(frozen=True)
class FlowStatistics:
    """Stored flow over all pixels of the measured fields. Speeds are in pixels per frame, fractions in 0..1.

    Attributes:
        fields: Number of flow fields measured.
        of: Number of flow fields in the set.
        mean_speed: Mean speed.
        fast: 99 % quantile of the speed.
        largest_component: 99.9 % quantile of |u| and |v|.
        clipped: Fraction of pixels with u or v at the bound.
        zero: Fraction of pixels with u and v at the level of zero.
        step: Pixels between two levels.
        bytes_per_frame: Mean size of a frame's JPEG.
        bytes_per_field: Mean size of a flow field's JPEG.
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


def describe_set(store: Store, fields: int, progress: Progress) -> dict[str, Any]:
    """Gather everything that `stmn data info` prints, as JSON values.

    Args:
        store: The prepared set.
        fields: Flow fields to measure; 0 for all.
        progress: Where each block of fields is reported.
    """
    header, videos = store.header, sorted(store.videos.values(), key=lambda video: video.id)
    ok = [video for video in videos if video.status == "ok"]
    lengths = sorted(video.frames for video in ok)
    sizes = Counter((video.width, video.height) for video in ok)
    flow = measure_flow(store, fields, progress)
    return {
        "path": str(store.folder),
        "name": header.name,
        "dataset": header.dataset["name"],
        "fingerprint": store.fingerprint,
        "preparation": header.preparation.model_dump(mode="json"),
        "keeps": header.keeps,
        "videos": {"all": len(videos), "ok": len(ok), "skipped": len(videos) - len(ok), "gone": len(header.gone)},
        "skipped": [{"id": v.id, "reason": v.reason} for v in videos if v.status != "ok"],
        "notes": [{"id": video_id, "note": note} for video_id, note in store.notes().items()],
        "groups": len({v.group for v in ok if v.group}),
        "groups_in_several_classes": sum(
            len(classes) > 1 for classes in _classes_by_group(v for v in ok if v.group).values()
        ),
        "classes": {name: sum(v.class_name == name for v in ok) for name in header.classes},
        "splits": {
            split: {part: _count_part(store, ids) for part, ids in parts.items()}
            for split, parts in header.splits.items()
        },
        "folds": header.folds.model_dump() if header.folds else None,
        "frames": {
            "all": sum(lengths),
            "least": lengths[0] if lengths else 0,
            "median": lengths[len(lengths) // 2] if lengths else 0,
            "most": lengths[-1] if lengths else 0,
            "seconds": round(sum(v.frames / v.fps for v in ok if v.fps > 0), 2),
        },
        "rates": [{"fps": fps, "videos": count} for fps, count in count_rates(store)],
        "rates_differ": next(describe_rates(store), ""),
        "short": [v.id for v in ok if v.frames < STACK_FRAMES],
        "sizes": [{"width": w, "height": h, "videos": count} for (w, h), count in sizes.most_common()],
        "bytes": sum(path.stat().st_size for path in store.shards),
        "shards": len(store.shards),
        "flow": asdict(flow) if flow else None,
        "copies": list(find_copies(store)),
        "hint": suggest_bound(flow, header.preparation.bound) if flow else "",
    }


def _classes_by_group(videos: Iterable[StoredVideo]) -> dict[str, set[str]]:
    """Return the classes in which each group appears."""
    found: dict[str, set[str]] = {}
    for video in videos:
        found.setdefault(video.group, set()).add(video.class_name)
    return found


def measure_flow(store: Store, fields: int, progress: Progress) -> FlowStatistics | None:
    """Measure `fields` flow fields spread over the set (0 for all); return None if it has none."""
    videos = sorted((v for v in store.videos.values() if v.status == "ok" and v.frames > 1), key=lambda v: v.id)
    total = sum(v.frames - 1 for v in videos)
    if not total:
        return None
    wanted = min(fields or total, total)
    counts = torch.zeros(256 * 256, dtype=torch.int64)
    measured = frame_bytes = field_bytes = 0
    with progress.task("flow", wanted, "fields") as task:
        for video, times in _spread_fields(videos, total, wanted):
            for start in range(0, len(times), _BLOCK):
                block = times[start : start + _BLOCK]
                counts += _count_levels(store.fields(video.id, block))
                measured += len(block)
                field_bytes += sum(map(len, store.jpegs(video.id, FLOW, block)))
                frame_bytes += sum(map(len, store.jpegs(video.id, RGB, block)))
                task.advance(len(block))

    bound = store.header.preparation.bound
    weights = counts.double() / counts.sum()
    level = torch.arange(256)
    u, v = level.repeat_interleave(256), level.repeat(256)
    pixels_u, pixels_v = dequantise(u, bound).double(), dequantise(v, bound).double()
    clipped_u, clipped_v = ((x <= _CLIP_MARGIN) | (x >= 255 - _CLIP_MARGIN) for x in (u, v))
    speed = torch.hypot(pixels_u, pixels_v)
    components = torch.cat([pixels_u.abs(), pixels_v.abs()])
    return FlowStatistics(
        fields=measured,
        of=total,
        mean_speed=float((weights * speed).sum()),
        fast=_weighted_quantile(speed, weights, 0.99),
        largest_component=_weighted_quantile(components, torch.cat([weights, weights]) / 2, COVERED),
        clipped=float(weights[clipped_u | clipped_v].sum()),
        zero=float(weights[(u == ZERO_LEVEL) & (v == ZERO_LEVEL)].sum()),
        step=2 * bound / 255,
        bytes_per_frame=frame_bytes / measured,
        bytes_per_field=field_bytes / measured,
    )


def suggest_bound(flow: FlowStatistics, bound: float) -> str:
    """Return a sentence that suggests another bound; "" when `bound` (pixels) suits the flow."""
    if flow.clipped > _MOST_CLIPPED:
        larger = next_bound(bound, larger=True) or 2 * bound
        return (
            f"{100 * flow.clipped:.1f} % of the flow is clipped at {bound:g} px; "
            f"a larger bound (--bound {larger:g}) would keep it"
        )
    fitting = next_bound(flow.largest_component) or bound
    within = f"99.9 % of u and v stay within {flow.largest_component:.1f} px"
    finer = f"--bound {fitting:g} would resolve slow motion better"
    if flow.mean_speed < flow.step and fitting < bound:
        return (
            f"the mean speed ({flow.mean_speed:.2f} px) is below the step between two levels ({flow.step:.2f} px), "
            f"and {within}: {finer}"
        )
    if fitting * _WASTED <= bound:
        return f"{within}, a small part of the bound of {bound:g} px: {finer}"
    return ""


def _spread_fields(videos: list[StoredVideo], total: int, wanted: int) -> Iterator[tuple[StoredVideo, list[int]]]:
    """Choose `wanted` of the set's `total` fields, evenly spaced; yield each video with its times."""
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


def _count_levels(levels: Tensor) -> Tensor:
    """Count each pair of levels in (N, 2, H, W): 256 x 256 counts, flattened; u is the row."""
    u, v = levels[:, 0].flatten().long(), levels[:, 1].flatten().long()
    return torch.bincount(u * 256 + v, minlength=256 * 256)


def _weighted_quantile(values: Tensor, weights: Tensor, fraction: float) -> float:
    """Return the smallest value up to which the weights sum to `fraction`; all weights sum to 1."""
    ordered, order = values.sort()
    place = int(torch.searchsorted(weights[order].cumsum(0), torch.tensor(fraction, dtype=weights.dtype)))
    return float(ordered[min(place, len(ordered) - 1)])


def _count_part(store: Store, ids: list[str]) -> dict[str, int]:
    """Count the videos that a part lists, by status."""
    known = [store.videos[i].status for i in ids if i in store.videos]
    return {
        "listed": len(ids),
        "ok": known.count("ok"),
        "skipped": known.count("skipped"),
        "missing": len(ids) - len(known),
    }
