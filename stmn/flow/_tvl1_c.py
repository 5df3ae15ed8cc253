"""The C kernel of TV-L1: compiled at first use, kept in the user's cache, called on CPU tensors.

The extension is not built when the package is installed: one wheel serves every platform, and `-march=native` makes
the kernel twice as fast as what a wheel could assume of a CPU.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib import resources
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from stmn.flow._knobs import Knobs
from stmn.flow._pyramid import Axis, Level

# No -ffast-math: linking with it switches denormals off for the whole process. These are the parts the vectoriser
# needs, and none of them lets the order of a sum change.
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffinite-math-only", "-fno-signed-zeros")


class _Unavailable(Exception):
    """There is no C kernel here; the message says why. Never leaves this file."""


class _Axis(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_int32),
        ("taps", ctypes.c_int32),
        ("start", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("below", ctypes.c_void_p),
        ("fraction", ctypes.c_void_p),
    )

    @classmethod
    def of(cls, axis: Axis) -> "_Axis":
        arrays = (axis.start, axis.weights, axis.below, axis.fraction)
        return cls(axis.size, len(axis.weights), *(array.ctypes.data for array in arrays))


class _Knobs(ctypes.Structure):
    _fields_ = (
        ("lambda_", ctypes.c_float),
        ("theta", ctypes.c_float),
        ("tau", ctypes.c_float),
        ("epsilon", ctypes.c_float),
        ("warps", ctypes.c_int32),
        ("iterations", ctypes.c_int32),
        ("median", ctypes.c_int32),
        ("levels", ctypes.c_int32),
    )


def solve(first: Tensor, second: Tensor, levels: tuple[Level, ...], knobs: Knobs) -> Tensor:
    """Flow (B, 2, H, W) of frames (B, H, W), float32 in 0..255, on the CPU. Only where `problem()` is None.

    Pairs are shared out among `torch.get_num_threads()` threads; one pair is always one thread's work.
    """
    kernel, problem = _load()
    assert kernel is not None, problem
    pairs, height, width = first.shape
    flow = torch.empty(pairs, 2, height, width)
    axes = (_Axis * (2 * len(levels)))(*(_Axis.of(axis) for level in levels for axis in (level.rows, level.columns)))
    c_knobs = _Knobs(
        knobs.lambda_,
        knobs.theta,
        knobs.tau,
        knobs.epsilon,
        knobs.warps,
        knobs.iterations,
        knobs.median,
        len(levels),
    )

    threads = min(torch.get_num_threads(), pairs)
    # Large enough that a call costs nothing beside its work, small enough that threads end together.
    portion = 1 if height * width > 100_000 else max(1, -(-pairs // (4 * threads))) if threads > 1 else pairs
    starts = count(step=portion)

    def work(_: int) -> int:
        failed = 0
        while (start := next(starts)) < pairs:
            part = slice(start, min(start + portion, pairs))
            failed |= kernel.stmn_tvl1(
                first[part].data_ptr(),
                second[part].data_ptr(),
                flow[part].data_ptr(),
                part.stop - part.start,
                ctypes.byref(c_knobs),
                axes,
            )
        return failed

    if threads <= 1:
        failed = work(0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            failed = any(pool.map(work, range(threads)))
    if failed:
        raise MemoryError(f"optical flow of {width}x{height} frames: out of memory")
    return flow


def problem() -> str | None:
    """Why there is no C kernel here, or None when there is. The first call of a process loads or compiles it."""
    return _load()[1]


@lru_cache(maxsize=1)
def _load() -> tuple[ctypes.CDLL | None, str | None]:
    """The compiled kernel, or why there is none; tried once a process."""
    try:
        library = _library()
    except _Unavailable as error:
        return None, str(error)
    except OSError as error:
        return None, f"cannot write or load the compiled kernel: {error}"
    library.stmn_tvl1.argtypes = (*[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
    library.stmn_tvl1.restype = ctypes.c_int
    return library, None


def _library() -> ctypes.CDLL:
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(compiler[0]) is None:
        raise _Unavailable(f"no C compiler '{compiler[0]}' on the path")
    try:
        target = _target(compiler)
    except OSError:  # no home, or one that cannot be written: for this process only, then
        with tempfile.TemporaryDirectory() as folder:
            return _compile(compiler, Path(folder) / "tvl1.so")
    if target.exists():
        try:
            return ctypes.CDLL(str(target))
        except OSError:  # cut short by a full disc, say: make it anew
            target.unlink()
    return _compile(compiler, target)


def _sources() -> dict[str, bytes]:
    folder = resources.files("stmn.flow").joinpath("kernel")
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir(), key=lambda file: file.name)}


def _target(compiler: list[str]) -> Path:
    """Where the library belongs. Home directories are shared between machines, and it fits one kind of CPU only."""
    key = hashlib.sha256(repr((_sources(), compiler, FLAGS, platform.machine(), _cpu())).encode()).hexdigest()[:16]
    return _cache_folder() / f"tvl1-{key}.so"


def _compile(compiler: list[str], target: Path) -> ctypes.CDLL:
    """Compiles beside the target, then renames: processes that do this at the same time cannot harm each other."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as folder:
        for name, text in _sources().items():
            (Path(folder) / name).write_bytes(text)
        built = Path(folder) / "tvl1.so"
        command = [*compiler, *FLAGS, "-fPIC", "-shared", str(Path(folder) / "tvl1.c"), "-o", str(built), "-lm"]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=120)
        except (OSError, subprocess.SubprocessError) as error:
            raise _Unavailable(f"{shlex.join(command)}: {error}") from error
        if run.returncode:
            raise _Unavailable(f"{shlex.join(command)} failed: {run.stderr.strip()[-500:]}")
        os.replace(built, target)
    return ctypes.CDLL(str(target))


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "stmn"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _cpu() -> str:
    """Model and abilities of this CPU, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    seen = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    return "|".join(value for key, value in sorted(seen.items()) if key.strip() in {"model name", "flags", "Features"})
