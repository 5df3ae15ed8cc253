"""Ways to damage the bytes of a file; a seeded generator decides where and how much."""

from collections.abc import Callable

import numpy as np

#: the bytes to damage, the bytes of another file of its kind, randomness
Damage = Callable[[bytearray, bytes, np.random.Generator], bytearray]


def section(length: int, rng: np.random.Generator, most: float = 0.2) -> slice:
    """A part of `length` bytes: from a few to the fraction `most` of them, on a logarithmic scale."""
    size = int(np.exp(rng.uniform(0, np.log(max(2.0, length * most)))))
    start = int(rng.integers(0, max(1, length - size)))
    return slice(start, start + size)


def flip(data: bytearray, reach: int, rng: np.random.Generator) -> bytearray:
    """Flip 1 to 300 bits of the first `reach` bytes."""
    for bit in rng.integers(0, 8 * reach, int(np.exp(rng.uniform(0, np.log(300))))):
        data[bit // 8] ^= 1 << (bit % 8)
    return data


def bits(data: bytearray, other: bytes, rng: np.random.Generator) -> bytearray:
    """Flip bits anywhere."""
    return flip(data, len(data), rng)


def header_bits(data: bytearray, other: bytes, rng: np.random.Generator) -> bytearray:
    """Flip bits at the beginning, which has sizes, rates and codecs."""
    return flip(data, min(len(data), 4096), rng)


def cut(data: bytearray, other: bytes, rng: np.random.Generator) -> bytearray:
    """Cut off the end, or the beginning."""
    place = int(rng.integers(0, len(data)))
    return data[:place] if rng.random() < 0.8 else data[place:]


def replaced(data: bytearray, other: bytes, rng: np.random.Generator) -> bytearray:
    """Replace a part by a part of another clip."""
    data[section(len(data), rng)] = other[section(len(other), rng)]
    return data


def inserted(data: bytearray, other: bytes, rng: np.random.Generator) -> bytearray:
    """Insert a part of another clip."""
    place = int(rng.integers(0, len(data)))
    data[place:place] = other[section(len(other), rng)]
    return data


def removed(data: bytearray, other: bytes, rng: np.random.Generator) -> bytearray:
    """Remove a part."""
    del data[section(len(data), rng)]
    return data


def zeroed(data: bytearray, other: bytes, rng: np.random.Generator) -> bytearray:
    """Zero a part, as when a disk loses a block."""
    part = section(len(data), rng)
    data[part] = bytes(len(data[part]))
    return data


#: every way
DAMAGES: tuple[Damage, ...] = (bits, header_bits, cut, replaced, inserted, removed, zeroed)
