"""Files with one wrong bit."""

from collections.abc import Callable, Iterator
from pathlib import Path

from stmn.errors import StmnError


def flip_bits(path: Path, places: int) -> Iterator[int]:
    """Give places all over a file, each while one bit there is wrong; the last one leaves the file whole again.

    Half of them are in the first 4096 bytes, where formats have their headers.
    """
    whole = path.read_bytes()
    head = min(len(whole), 4096)
    chosen = {number * head // (places // 2) for number in range(places // 2)}
    chosen |= {number * len(whole) // (places // 2) for number in range(places // 2)} | {len(whole) - 1}
    for number, place in enumerate(sorted(chosen)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (3 * number % 8)
        path.write_bytes(damaged)
        yield place
    path.write_bytes(whole)


def refusals(path: Path, read: Callable[[], object], places: int = 36) -> list[str]:
    """What is said of a file that is read with one wrong bit here or there. Else it must give what the whole one gives.

    Args:
        path: the file.
        read: reads it, and gives something to compare.
        places: how many bits to try.
    """
    whole, found = read(), []
    for place in flip_bits(path, places):
        try:
            assert read() == whole, f"a wrong bit in byte {place} goes unnoticed"
        except StmnError as error:
            found.append(str(error))
    assert read() == whole
    assert all("\n" not in line for line in found)
    return found
