"""Turn memory shortages, on a GPU or in the machine, into one line with what to try. Doesn't need torch."""

import ctypes
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from stmn.errors import StmnError, is_out_of_memory

_OF_GPU = re.compile(r"cuda|cublas|cudnn|find an engine|hip error", re.IGNORECASE)
_ASKED = re.compile(r"allocate ([\d.]+) ?(bytes|[KMGTP]iB)", re.IGNORECASE)
#: from glibc's malloc.h
_M_MMAP_THRESHOLD = -3
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


@dataclass(frozen=True)
class Shortage:
    """A memory shortage.

    Attributes:
        on_gpu: True for a GPU's memory, False for the machine's.
        asked: how much more was requested, "2.5 GiB"; empty if unknown.
        what: what needed it; empty if unknown.
    """

    on_gpu: bool
    asked: str = ""
    what: str = ""

    def __str__(self) -> str:
        """`out of memory on the GPU (2.5 GiB more asked for)`."""
        what, asked = f"{self.what}: " * bool(self.what), f" ({self.asked} more asked for)" * bool(self.asked)
        return f"{what}out of memory{' on the GPU' * self.on_gpu}{asked}"


def find_shortage(error: BaseException) -> Shortage | None:
    """Return the shortage that an error of Python, NumPy, torch or CUDA reports; None for other errors."""
    text = str(error)
    if not is_out_of_memory(error):
        return None
    on_gpu = type(error).__name__ == "OutOfMemoryError" or bool(_OF_GPU.search(text))
    found = _ASKED.search(text)
    asked = _in_words(float(found[1].rstrip(".")), found[2]) if found else ""
    what, _, rest = text.rpartition(": out of memory")  # the form of this package's own kernels
    return Shortage(on_gpu, asked, what if isinstance(error, MemoryError) and not rest else "")


@contextmanager
def report_shortage(advise: Callable[[Shortage], str]) -> Iterator[None]:
    """Turn errors that report a shortage into a `StmnError`: what ran out, and what to try.

    Args:
        advise: returns what to try.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        shortage = find_shortage(error)
        if shortage is None:
            raise
        raise StmnError(f"{shortage}: {advise(shortage)}") from error


@contextmanager
def pinning(what: str) -> Iterator[None]:
    """Report a shortage of pinned memory as the machine's: CUDA gives it out, so torch's error names CUDA.

    Args:
        what: what is in pinned memory, for the message.

    Raises:
        MemoryError: pinned memory ran out.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(f"{what} in pinned memory: out of memory") from error


def limit_memory(more: int) -> None:
    """Limit this process to `more` bytes of memory in addition to its current ones, if the system reports these.

    It is for expendable processes that read untrusted data, which may request any amount: beyond the limit they get
    `MemoryError`.
    """
    with suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[0])
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, hard))


def free_large_blocks_at_once() -> None:
    """Return freed blocks of a megabyte or more to the system at once; glibc only.

    By default glibc raises this threshold up to 32 MB, and keeps smaller freed blocks. If pictures and maps of many
    sizes follow each other, the memory that it keeps grows for minutes.
    """
    with suppress(OSError, AttributeError, TypeError):  # another C library, or none of that name on Windows
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**20)


def _in_words(count: float, unit: str) -> str:
    """Format a number of bytes in the largest unit that gives at least 1: "2.5 GiB"."""
    number = [name.lower() for name in _UNITS].index(unit.lower())
    while count >= 1024 and number + 1 < len(_UNITS):
        count, number = count / 1024, number + 1
    return f"{count:.3g} {_UNITS[number]}"
