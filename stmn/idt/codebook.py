"""A codebook: PCA and a mixture of Gaussians for each descriptor, the reference of Fisher vectors."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stmn.errors import DataError
from stmn.runtime.tensor_files import read_metadata, read_tensors, save_tensors

#: the columns of each descriptor in a row: the paper fuses with HOG, HOF and MBH, not with trajectory shapes
DESCRIPTORS = {"hog": slice(0, 96), "hof": slice(96, 204), "mbhx": slice(204, 300), "mbhy": slice(300, 396)}
#: numbers in a descriptor row
WIDTH = 396


@dataclass(frozen=True)
class Mixture:
    """A projection to D dimensions, and K Gaussians in them.

    Attributes:
        mean: (W,) the mean that is subtracted from a descriptor of W numbers.
        axes: (W, D) the principal axes.
        weights: (K,) the weights of the Gaussians; their sum is 1.
        centres: (K, D) the means of the Gaussians.
        variances: (K, D) the variances of the Gaussians.
    """

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]
    weights: NDArray[np.float32]
    centres: NDArray[np.float32]
    variances: NDArray[np.float32]

    def project(self, descriptors: NDArray[Any]) -> NDArray[np.float32]:
        """Project (N, W) descriptors to (N, D)."""
        projected: NDArray[np.float32] = np.subtract(descriptors, self.mean, dtype=np.float32) @ self.axes
        return projected


@dataclass(frozen=True)
class Codebook:
    """A mixture per descriptor, and a record of how it was made.

    Attributes:
        mixtures: Name of the descriptor (`hog`, ...) -> its mixture.
        about: The parameters of the trajectories, and what the mixtures were fitted to, as JSON.
    """

    mixtures: dict[str, Mixture]
    about: dict[str, Any]

    @property
    def length(self) -> int:
        """The number of values in a Fisher vector: 2 K D for each descriptor."""
        return sum(2 * mixture.centres.size for mixture in self.mixtures.values())

    def save(self, path: Path) -> None:
        """Write a safetensors file, complete or not at all."""
        tensors = {
            f"{name}.{part}": torch.from_numpy(values)
            for name, mixture in self.mixtures.items()
            for part, values in vars(mixture).items()
        }
        save_tensors(path, tensors, {"codebook": self.about})


def load_codebook(path: Path) -> Codebook:
    """Read a codebook.

    Raises:
        DataError: The file holds no codebook, or only part of one.
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
