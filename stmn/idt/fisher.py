"""Fisher vectors: how a video's tracks differ from those of the training videos, in one vector.

Perronnin et al. (ECCV 2010); Sanchez et al. (IJCV 2013), whose equation numbers are given.
"""

from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmn.idt.codebook import DESCRIPTORS, Codebook, Mixture

#: tracks at a time: their posteriors for 256 Gaussians take 4 MB
_CHUNK = 4096


class FisherSums:
    """Computes the Fisher vector of a video, with only some of its tracks in memory at a time.

    Args:
        codebook: The codebook to encode with.
    """

    def __init__(self, codebook: Codebook) -> None:
        self._codebook = codebook
        self.tracks = 0
        self._sums = {
            name: tuple(
                np.zeros((mixture.centres.shape[0], width))
                for width in (1, mixture.centres.shape[1], mixture.centres.shape[1])
            )
            for name, mixture in codebook.mixtures.items()
        }

    def add(self, rows: NDArray[Any]) -> None:
        """Add tracks: (N, 396) descriptors."""
        self.tracks += len(rows)
        for start in range(0, len(rows), _CHUNK):
            for name, mixture in self._codebook.mixtures.items():
                x = mixture.project(rows[start : start + _CHUNK, DESCRIPTORS[name]])
                shares = _find_shares(x, mixture)
                for total, moment in zip(self._sums[name], (np.ones((len(x), 1), np.float32), x, x * x), strict=True):
                    total += shares.T @ moment

    def finish(self) -> NDArray[np.float32]:
        """Return the Fisher vector.

        For each descriptor it has the gradients with respect to the means and the standard deviations of the Gaussians
        (Sanchez et al., IJCV 2013, eq. 17 and 18), to the power 0.5, with L2 norm 1.

        Returns:
            (`Codebook.length`,): HOG, HOF, MBHx, MBHy; zeros if there are no tracks.
        """
        if not self.tracks:
            return np.zeros(self._codebook.length, np.float32)
        parts = []
        for name, mixture in self._codebook.mixtures.items():
            mass, first, second = (total / self.tracks for total in self._sums[name])
            root, deviations = np.sqrt(mixture.weights)[:, None], np.sqrt(mixture.variances)
            by_mean = (first - mass * mixture.centres) / deviations / root  # eq. 17
            spread = second - 2 * first * mixture.centres + mass * mixture.centres**2
            by_deviation = (spread / mixture.variances - mass) / root / sqrt(2)  # eq. 18
            part = np.concatenate([by_mean.ravel(), by_deviation.ravel()])
            part = np.sign(part) * np.sqrt(np.abs(part))
            parts.append(part / max(float(np.linalg.norm(part)), 1e-12))
        return np.concatenate(parts).astype(np.float32)


def _find_shares(x: NDArray[np.float32], mixture: Mixture) -> NDArray[np.float32]:
    """(N, K) posterior probabilities of the Gaussians for (N, D) points (eq. 15)."""
    precision = 1 / mixture.variances
    offsets = np.log(mixture.weights) - 0.5 * (np.log(mixture.variances) + mixture.centres**2 * precision).sum(axis=1)
    logs = offsets + x @ (mixture.centres * precision).T - 0.5 * (x * x) @ precision.T
    logs -= logs.max(axis=1, keepdims=True)
    shares: NDArray[np.float32] = np.exp(logs, out=logs)
    shares /= shares.sum(axis=1, keepdims=True)
    return shares
