"""The tables of a pyramid level as tensors, made once per device: a copy to a GPU would stall its queue."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stmn.flow._pyramid import LevelAxis

#: pixels on either side from which a spline coefficient is computed
SPLINE_REACH = 10


@dataclass(frozen=True, eq=False)
class Taps:
    """Taps that compute the pixels of an axis: pixel i is `sum_k weights[k, i] * source[places[k, i]]`.

    Attributes:
        places: (taps, size) int32.
        weights: (taps, size) float32.
    """

    places: Tensor
    weights: Tensor


@dataclass(frozen=True, eq=False)
class AxisTables:
    """The taps of one axis of a level.

    Attributes:
        shrink: From the finer level.
        enlarge: From the coarser level.
        spline: From pixels to spline coefficients.
    """

    shrink: Taps
    enlarge: Taps
    spline: Taps


@lru_cache(maxsize=512)
def tables_of(axis: LevelAxis, device: torch.device) -> AxisTables:
    """Return the tables of an axis on a device."""

    def taps(places: NDArray[np.integer], weights: NDArray[np.floating]) -> Taps:
        return Taps(
            torch.from_numpy(np.ascontiguousarray(places, np.int32)).to(device),
            torch.from_numpy(np.ascontiguousarray(weights, np.float32)).to(device),
        )

    steps = np.arange(len(axis.weights))[:, None]
    return AxisTables(
        taps(axis.start + steps, axis.weights),
        taps(np.stack([axis.below, axis.below + 1]), np.stack([1 - axis.fraction, axis.fraction])),
        taps(*_spline(axis.size)),
    )


def spline_weights() -> list[float]:
    """Return the weights of a pixel and of the pixels at distance k = 1, 2, ... on both sides.

    Unser, "Splines: A Perfect Fit for Signal and Image Processing", 1999: the inverse of the sampled spline
    (1, 4, 1) / 6 is sqrt(3) z^|k| with z = sqrt(3) - 2; beyond `SPLINE_REACH` pixels it is less than 1e-5.
    """
    inverse = (3**0.5 - 2) ** np.arange(SPLINE_REACH + 1, dtype=np.float64)
    weights: list[float] = (inverse / (inverse[0] + 2 * inverse[1:].sum())).tolist()
    return weights


def _spline(size: int) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
    """Return places and weights of the taps of a spline over `size` pixels, mirrored at the first and last pixel."""
    steps = np.arange(-SPLINE_REACH, SPLINE_REACH + 1)
    weights = np.array(spline_weights())[abs(steps)]
    period = max(2 * size - 2, 1)
    places = (np.arange(size) + steps[:, None]) % period
    return np.where(places < size, places, period - places), np.repeat(weights[:, None], size, axis=1)
