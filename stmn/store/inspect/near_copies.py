"""The same recording as two files: encoded again, resized, at another rate, brighter, or mirrored.

A video's look is 17 small grey pictures, spread over it. Two looks are of one recording if the pictures and, apart
from them, what changes between the pictures agree. The second keeps apart what a fixed camera saw at two times: there
the pictures agree almost entirely, and the changes do not. Cuts at other moments are not recognised.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from stmn.store.format.read import Store
from stmn.store.inspect.copies import describe_leaks

#: pictures in a look, and their side
_PICTURES, _SIDE = 17, 16
#: correlations, of pictures and of changes, above which two looks are of one recording
_SAME_PICTURES, _SAME_CHANGES = 0.92, 0.86
#: changes smaller than this, grey levels, are noise: such a video is compared with none
_LEAST_CHANGE = 0.5
#: looks compared at a time
_BLOCK = 1024


def look_times(frames: int) -> list[int]:
    """Return the times of the frames in the look of a video of `frames` frames."""
    return [(2 * i + 1) * frames // (2 * _PICTURES) for i in range(_PICTURES)]


def look_at(frames: Tensor) -> Tensor:
    """Return the look of frames at `look_times`, (17, 3, H, W) uint8, as (17, 256) grey levels."""
    small = functional.adaptive_avg_pool2d(frames.float().mean(1, keepdim=True), _SIDE)
    return small.flatten(1)


def find_near_copies(store: Store, looks: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield a line for each two parts of a split that hold the same recordings as different files.

    Args:
        store: The set.
        looks: Video id -> its look.
    """
    moving = {i: look for i, look in looks.items() if look.diff(dim=0).abs().mean() > _LEAST_CHANGE}
    ids = list(moving)
    pairs = _find_pairs(torch.stack(list(moving.values()))) if ids else []
    alike: dict[str, list[str]] = {}
    for a, b in pairs:
        if store.videos[ids[a]].source_hash != store.videos[ids[b]].source_hash:  # `copies` names the same file
            alike.setdefault(ids[a], []).append(ids[b])
            alike.setdefault(ids[b], []).append(ids[a])
    if alike:
        words = "video of {there} looks like one of {here}", "videos of {there} look like videos of {here}"
        yield from describe_leaks(store, alike, words, "like")


def _find_pairs(looks: Tensor) -> list[tuple[int, int]]:
    """The pairs of (N, 17, 256) looks that are of one recording."""
    mirrored = looks.unflatten(2, (_SIDE, _SIDE)).flip(-1).flatten(2)
    pictures, changes = _normalise(looks), _normalise(looks.diff(dim=1))
    found: set[tuple[int, int]] = set()
    for others in (looks, mirrored):
        other_pictures, other_changes = _normalise(others), _normalise(others.diff(dim=1))
        for start in range(0, len(looks), _BLOCK):
            block = slice(start, start + _BLOCK)
            same = pictures[block] @ other_pictures.T > _SAME_PICTURES
            same &= changes[block] @ other_changes.T > _SAME_CHANGES
            found |= {(start + a, b) for a, b in same.nonzero().tolist() if start + a < b}
    return sorted(found)


def _normalise(looks: Tensor) -> Tensor:
    """(N, ...) as rows of mean 0 and length 1, whose products are correlations."""
    rows = looks.flatten(1)
    return functional.normalize(rows - rows.mean(1, keepdim=True), dim=1)
