"""PCA and a mixture of Gaussians for each descriptor: what Fisher vectors are measured against.

Wang and Schmid (ICCV 2013), section 4: each descriptor is projected to half its dimensions, and K = 256 Gaussians with
diagonal covariance are fitted to 256,000 descriptors of training videos.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from stmn.errors import DataError
from stmn.nets.tensor_files import read_metadata, read_tensors, save_tensors

#: the columns of a descriptor row: the paper fuses with HOG, HOF and MBH, not with the shapes of trajectories
DESCRIPTORS = {"hog": slice(0, 96), "hof": slice(96, 204), "mbhx": slice(204, 300), "mbhy": slice(300, 396)}
#: numbers in a descriptor row
WIDTH = 396
#: K of Wang and Schmid
_MOST_GAUSSIANS = 256
#: EM stops at the latest after this many iterations; the likelihood hardly rises then
_ITERATIONS = 60


@dataclass(frozen=True)
class Mixture:
    """A projection to D dimensions, and K Gaussians in them.

    Attributes:
        mean: (W,) what is subtracted from a descriptor of W numbers.
        axes: (W, D) the principal axes.
        weights: (K,) of the Gaussians; their sum is 1.
        centres: (K, D).
        variances: (K, D).
    """

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]
    weights: NDArray[np.float32]
    centres: NDArray[np.float32]
    variances: NDArray[np.float32]

    def project(self, descriptors: NDArray[Any]) -> NDArray[np.float32]:
        """(N, W) descriptors to (N, D)."""
        projected: NDArray[np.float32] = np.subtract(descriptors, self.mean, dtype=np.float32) @ self.axes
        return projected


@dataclass(frozen=True)
class Codebook:
    """A mixture per descriptor, and what it was made from.

    Attributes:
        mixtures: Name of the descriptor (`hog`, ...) -> its mixture.
        about: JSON: the parameters of the trajectories and what the mixtures were fitted to.
    """

    mixtures: dict[str, Mixture]
    about: dict[str, Any]

    @property
    def length(self) -> int:
        """The number of values in a Fisher vector: 2 K D for each descriptor."""
        return sum(2 * mixture.centres.size for mixture in self.mixtures.values())

    def save(self, path: Path) -> None:
        """Write a safetensors file, all of it or nothing."""
        tensors = {
            f"{name}.{part}": torch.from_numpy(values)
            for name, mixture in self.mixtures.items()
            for part, values in vars(mixture).items()
        }
        save_tensors(path, tensors, {"codebook": self.about})


def load_codebook(path: Path) -> Codebook:
    """Read a codebook.

    Raises:
        DataError: The file holds none, or only a part of one.
        CheckpointError: The file is missing or damaged.
    """
    about = read_metadata(path).get("codebook")
    tensors = read_tensors(path)
    names = list(Mixture.__dataclass_fields__)
    wanted = {f"{descriptor}.{name}" for descriptor in DESCRIPTORS for name in names}
    if not isinstance(about, dict) or set(tensors) != wanted:
        raise DataError(f"{path}: holds no codebook; make one with: stmn idt fit")
    mixtures = {
        descriptor: Mixture(*(tensors[f"{descriptor}.{name}"].numpy() for name in names)) for descriptor in DESCRIPTORS
    }
    return Codebook(mixtures, about)


def choose_gaussians(videos: int) -> int:
    """Choose K: the power of two that is nearest to the number of training videos, from 8 to 256.

    256 is for thousands of videos. On 54 training videos of UT-Interaction it cost accuracy, and 64 did not: a Fisher
    vector has 2 K D values for each descriptor, and a video too few tracks to measure so many.
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
        about: What goes into the file with it, JSON.
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
    for name, columns in DESCRIPTORS.items():
        mixtures[name] = _fit(rows[:, columns].astype(np.float32), gaussians, seed)
        done(name)
    return Codebook(mixtures, about)


def _fit(values: NDArray[np.float32], gaussians: int, seed: int) -> Mixture:
    """Fit one descriptor's."""
    half = values.shape[1] // 2
    pca = PCA(half, svd_solver="covariance_eigh").fit(values)
    mean, axes = pca.mean_.astype(np.float32), np.ascontiguousarray(pca.components_.T.astype(np.float32))
    projected = (values - mean) @ axes
    # variances of less than a thousandth of the mean one would make single tracks decide
    floor = 1e-3 * float(projected.var(axis=0).mean())
    mixture = GaussianMixture(
        gaussians, covariance_type="diag", reg_covar=max(floor, 1e-9), max_iter=_ITERATIONS, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(projected)
    return Mixture(
        mean,
        axes,
        mixture.weights_.astype(np.float32),
        mixture.means_.astype(np.float32),
        mixture.covariances_.astype(np.float32),
    )
