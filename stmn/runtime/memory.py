"""Memory that ran out, on a GPU or in the machine, becomes one line with what to try. Needs no torch."""

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
    """Memory that ran out.

    Attributes:
        on_gpu: a GPU's; otherwise the machine's.
        asked: how much more was asked for, "2.5 GiB"; empty if unknown.
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
    """The shortage that an error of Python, NumPy, torch or CUDA tells of; None if it tells of something else."""
    text = str(error)
    if not is_out_of_memory(error):
        return None
    on_gpu = type(error).__name__ == "OutOfMemoryError" or bool(_OF_GPU.search(text))
    found = _ASKED.search(text)
    asked = _in_words(float(found[1].rstrip(".")), found[2]) if found else ""
    what, _, rest = text.rpartition(": out of memory")  # as this program's own kernels say it
    return Shortage(on_gpu, asked, what if isinstance(error, MemoryError) and not rest else "")


@contextmanager
def report_shortage(advise: Callable[[Shortage], str]) -> Iterator[None]:
    """Turn errors that tell of a shortage into a `StmnError`: what ran out, and what to try.

    Args:
        advise: says what to try.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        shortage = find_shortage(error)
        if shortage is None:
            raise
        raise StmnError(f"{shortage}: {advise(shortage)}") from error


def limit_memory(more: int) -> None:
    """Let this process have `more` bytes beside those that it has, where the system can say how many that are.

    It is for processes that read what may ask for any amount, and can be lost: what asks for more gets `MemoryError`.
    """
    with suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[0])
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, hard))


def give_back_large_blocks() -> None:
    """Have memory of a megabyte and more given back to the system as soon as it is free; glibc only.

    By default glibc raises that limit up to 32 MB, and keeps freed memory of less for later. Where pictures and maps of
    many sizes follow each other, what it keeps grows for minutes.
    """
    with suppress(OSError, AttributeError, TypeError):  # another C library, or on Windows none of that name
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**20)


def _in_words(count: float, unit: str) -> str:
    """A number of bytes in the largest unit that leaves at least 1: "2.5 GiB"."""
    number = [name.lower() for name in _UNITS].index(unit.lower())
    while count >= 1024 and number + 1 < len(_UNITS):
        count, number = count / 1024, number + 1
    return f"{count:.3g} {_UNITS[number]}"
