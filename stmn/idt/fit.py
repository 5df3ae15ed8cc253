"""Fit a codebook to descriptors of training videos.

Wang and Schmid (ICCV 2013), section 4: each descriptor is projected to half its dimensions, and K = 256 Gaussians with
diagonal covariance are fitted to 256,000 descriptors of training videos.
"""

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from stmn.errors import DataError
from stmn.idt.codebook import DESCRIPTORS, WIDTH, Codebook, Mixture
from stmn.runtime.cores import count_cores

#: K of Wang and Schmid
_MOST_GAUSSIANS = 256
#: descriptors per Gaussian, as in Wang and Schmid
SAMPLES = 1000
#: the most iterations of EM; by then the likelihood hardly rises
_ITERATIONS = 25


def choose_gaussians(videos: int) -> int:
    """Choose K: the power of two nearest to the number of training videos, from 8 to 256.

    256 is for thousands of videos. On 54 training videos of UT-Interaction it cost accuracy, and 64 did not: a Fisher
    vector has 2 K D values for each descriptor, and a video has too few tracks to estimate that many.
    """
    return int(np.clip(2 ** round(np.log2(max(videos, 1))), 8, _MOST_GAUSSIANS))


def fit_codebook(
    rows: NDArray[Any],
    gaussians: int,
    about: dict[str, Any],
    seed: int = 0,
    done: Callable[[str], None] = lambda _: None,
) -> Codebook:
    """Fit PCA and the Gaussians of each descriptor.

    Args:
        rows: (N, 396) descriptors of training videos.
        gaussians: K.
        about: The record that is saved with it, as JSON.
        seed: Seed of PCA and EM.
        done: Called with the name of each descriptor that is finished.

    Raises:
        DataError: There are fewer descriptors than Gaussians or dimensions.
    """
    need = max(2 * gaussians, WIDTH)
    if len(rows) < need:
        raise DataError(
            f"{len(rows):,} trajectories in all training videos; {gaussians} Gaussians need {need:,} at least: "
            "take fewer (--gaussians), or more videos"
        )
    mixtures = {}
    # one thread per descriptor: threads within one matrix product wait for each other, which is slow on a busy machine
    workers = ThreadPoolExecutor(min(count_cores(), len(DESCRIPTORS)))
    with threadpool_limits(1), warnings.catch_warnings(), workers as pool:
        warnings.simplefilter("ignore", ConvergenceWarning)  # EM may stop before it converges
        fits = {name: pool.submit(_fit, rows[:, columns], gaussians, seed) for name, columns in DESCRIPTORS.items()}
        for name, fit in fits.items():
            mixtures[name] = fit.result()
            done(name)
    return Codebook(mixtures, about)


def _fit(rows: NDArray[Any], gaussians: int, seed: int) -> Mixture:
    """Fit the mixture of one descriptor to its columns."""
    values = rows.astype(np.float32)
    half = values.shape[1] // 2
    pca = PCA(half, svd_solver="covariance_eigh").fit(values)
    mean, axes = pca.mean_.astype(np.float32), np.ascontiguousarray(pca.components_.T.astype(np.float32))
    projected = (values - mean) @ axes
    # with variances below a thousandth of the mean variance, single tracks would dominate
    floor = 1e-3 * float(projected.var(axis=0).mean())
    mixture = GaussianMixture(
        gaussians, covariance_type="diag", reg_covar=max(floor, 1e-9), max_iter=_ITERATIONS, random_state=seed
    )
    mixture.fit(projected)
    return Mixture(
        mean,
        axes,
        mixture.weights_.astype(np.float32),
        mixture.means_.astype(np.float32),
        mixture.covariances_.astype(np.float32),
    )
