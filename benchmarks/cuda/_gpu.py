"""What the parts share: time on the GPU, its bandwidth and products, and a number beside its limit."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def seconds_of(work: Callable[[], object], device: torch.device, warm_up: int = 3, rounds: int = 10) -> float:
    """The median time of a piece of work, in seconds, after a warm-up; the GPU has finished it when it counts.

    Args:
        work: does the same each time.
        device: where it runs.
        warm_up: calls that don't count: kernels are compiled and chosen in them.
        rounds: calls that do.
    """
    times = []
    for number in range(warm_up + rounds):
        finish(device)
        started = time.perf_counter()
        work()
        finish(device)
        if number >= warm_up:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def finish(device: torch.device) -> None:
    """Wait until the GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def beside_limit(measured: float, limit: float, unit: str, limit_is: str) -> dict[str, Any]:
    """A row of the result: a speed, the limit that the GPU sets, the share of it, and where the limit comes from."""
    return {
        "measured": round(measured, 3),
        "limit": round(limit, 3),
        "share": round(measured / limit, 3),
        "unit": unit,
        "limit_is": limit_is,
    }


def describe_gpu(device: torch.device, quick: bool) -> dict[str, Any]:
    """Name, memory, versions, and what the GPU itself reaches: copies, and matrix products in each precision."""
    about: dict[str, Any] = {"device": str(device), "cuda": torch.version.cuda}
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        about |= {
            "name": found.name,
            "memory_gb": round(found.total_memory / 1e9, 1),
            "cudnn": torch.backends.cudnn.version(),
        }
    return about | {
        "copy_gb_per_second": round(copy_bandwidth(device, quick) / 1e9, 1),
        "bfloat16_tflops": round(product_speed(device, torch.bfloat16, quick) / 1e12, 2),
        "float32_tflops": round(product_speed(device, torch.float32, quick) / 1e12, 2),
    }


def copy_bandwidth(device: torch.device, quick: bool = False) -> float:
    """Bytes per second that a copy within the GPU's memory moves: each byte is read and written."""
    size = 1 << (20 if quick else 30)
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / seconds_of(lambda: target.copy_(source), device)


def product_speed(device: torch.device, dtype: torch.dtype, quick: bool = False) -> float:
    """Operations per second of a large matrix product; a multiply-add counts as two."""
    side = 128 if quick else 8192
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: left @ right, device)
