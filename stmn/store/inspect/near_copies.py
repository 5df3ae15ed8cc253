"""Find the same recording in two files: encoded again, resized, at another rate, brighter, or mirrored.

A video's look is 17 small grey pictures, spread over it. Two looks are of one recording if both the pictures and the
changes between them agree. The second condition separates two recordings of one fixed camera: their pictures agree
almost entirely, but the changes do not. Copies that are cut at other moments are not recognised.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from stmn.store.format.read import Store
from stmn.store.inspect.copies import describe_leaks

#: pictures in a look, and their side in pixels
_PICTURES, _SIDE = 17, 16
#: correlations, of pictures and of changes, above which two looks are of one recording
_SAME_PICTURES, _SAME_CHANGES = 0.92, 0.86
#: mean changes below this, in grey levels, are noise: such a video is not compared
_LEAST_CHANGE = 0.5
#: how much lower the correlations of one recording may be in pictures of a few pixels
_COARSE = 0.1
#: looks compared at a time
_BLOCK = 1024


def look_times(frames: int) -> list[int]:
    """Return the times of the frames in the look of a video of `frames` frames."""
    return [(2 * i + 1) * frames // (2 * _PICTURES) for i in range(_PICTURES)]


def look_at(frames: Tensor) -> Tensor:
    """Return the look of frames at `look_times`, (17, 3, H, W) uint8, as (17, 256) float16 grey levels."""
    small = functional.adaptive_avg_pool2d(frames.float().mean(1, keepdim=True), _SIDE)
    return small.flatten(1).half()


def find_near_copies(store: Store, looks: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield a line per pair of parts of a split that hold the same recordings as different files.

    Args:
        store: The set.
        looks: Video id -> its look.
    """
    moving = {i: look for i, look in looks.items() if look.float().diff(dim=0).abs().mean() > _LEAST_CHANGE}
    ids = list(moving)
    pairs = _find_pairs(torch.stack(list(moving.values()))) if ids else []
    alike: dict[str, list[str]] = {}
    for a, b in pairs:
        if store.videos[ids[a]].source_hash != store.videos[ids[b]].source_hash:  # `copies` reports identical files
            alike.setdefault(ids[a], []).append(ids[b])
            alike.setdefault(ids[b], []).append(ids[a])
    if alike:
        words = "video of {there} looks like one of {here}", "videos of {there} look like videos of {here}"
        yield from describe_leaks(store, alike, words, "like")


def _find_pairs(looks: Tensor) -> list[tuple[int, int]]:
    """Return the pairs of (N, 17, 256) looks that are of one recording.

    Candidate pairs are found in pictures of a few pixels, which takes a sixteenth of the time, and then compared.
    """
    coarse = _shrink(looks)
    found: set[tuple[int, int]] = set()
    for mirror in (False, True):
        pictures, changes = _normalise(coarse), _normalise(coarse.diff(dim=1))
        other = _shrink(_mirror(looks)) if mirror else coarse
        other_pictures, other_changes = _normalise(other), _normalise(other.diff(dim=1))
        for start in range(0, len(looks), _BLOCK):
            block = slice(start, start + _BLOCK)
            alike = pictures[block] @ other_pictures.T > _SAME_PICTURES - _COARSE
            alike &= changes[block] @ other_changes.T > _SAME_CHANGES - _COARSE
            rows, columns = alike.nonzero(as_tuple=True)
            rows += start
            for part in (rows < columns).nonzero().flatten().split(_BLOCK):
                one, two = looks[rows[part]].float(), looks[columns[part]].float()
                same = _compare(one, _mirror(two) if mirror else two)
                found |= set(zip(rows[part[same]].tolist(), columns[part[same]].tolist(), strict=True))
    return sorted(found)


def _compare(one: Tensor, other: Tensor) -> Tensor:
    """Return (N,) booleans: whether each of N looks and the look at its place in `other` are of one recording."""
    pictures = (_normalise(one) * _normalise(other)).sum(1)
    changes = (_normalise(one.diff(dim=1)) * _normalise(other.diff(dim=1))).sum(1)
    return torch.logical_and(pictures > _SAME_PICTURES, changes > _SAME_CHANGES)


def _shrink(looks: Tensor) -> Tensor:
    """Shrink (N, 17, 256) looks to pictures of 4 x 4 pixels, (N, 17, 16)."""
    return functional.avg_pool2d(looks.float().unflatten(2, (_SIDE, _SIDE)), _SIDE // 4).flatten(2)


def _mirror(looks: Tensor) -> Tensor:
    """Return the looks of the mirrored videos."""
    pictures: Tensor = looks.unflatten(2, (_SIDE, _SIDE))
    return pictures.flip(-1).flatten(2)


def _normalise(looks: Tensor) -> Tensor:
    """Return (N, ...) as rows of mean 0 and length 1, whose products are correlations."""
    rows = looks.flatten(1)
    return functional.normalize(rows - rows.mean(1, keepdim=True), dim=1)
