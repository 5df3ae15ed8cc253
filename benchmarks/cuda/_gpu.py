"""What the parts share: time on the GPU, its bandwidth and products, a number beside its limit, and rows that fail."""

import gc
import statistics
import time
import traceback
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


def attempt(work: Callable[[], dict[str, Any]], device: torch.device) -> dict[str, Any]:
    """The row that a piece of work makes, or the reason why there is none, as `error`: the other rows go on."""
    try:
        return work()
    except Exception as error:
        traceback.print_exc()
        row = {"error": f"{type(error).__name__}: {error}"}
    free_memory(device)  # only here, outside the except block, are the tensors in the error's traceback free
    return row


def free_memory(device: torch.device) -> None:
    """Give back what torch keeps of a GPU's memory: others, such as processes that are started, would miss it."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def beside_limit(measured: float, limit: float, unit: str, limit_is: str) -> dict[str, Any]:
    """A row of the result: a speed, the limit that the GPU sets, the share of it, and where the limit comes from."""
    return {
        "measured": round(measured, 3),
        "limit": round(limit, 3),
        "share": round(measured / limit, 3),
        "unit": unit,
        "limit_is": limit_is,
    }


def describe_gpu(device: torch.device) -> dict[str, Any]:
    """Name, memory and versions."""
    about: dict[str, Any] = {"device": str(device), "cuda": torch.version.cuda}
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        about |= {
            "name": found.name,
            "memory_gb": round(found.total_memory / 1e9, 1),
            "cudnn": torch.backends.cudnn.version(),
        }
    return about


def measure_gpu(device: torch.device, quick: bool) -> dict[str, Any]:
    """What the GPU itself reaches: copies, and matrix products in each precision."""
    return {
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
