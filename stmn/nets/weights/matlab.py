"""Networks that MatConvNet's DagNN saved as a `.mat` file, as plain layers with their parameters.

MATLAB's files of version 5 to 7 are read, by SciPy; nothing in them is ever executed. SciPy trusts what a file says of
itself so far that a damaged one can end the process, so that it reads in a process of its own.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import mat_struct

from stmn.errors import CheckpointError
from stmn.runtime.workers import run_jobs

#: seconds that reading a file may take: the largest, of 240 MB, take 10
TIMEOUT = 600.0

Array = NDArray[Any]


@dataclass(frozen=True)
class Layer:
    """A layer of a DagNN.

    `kind` is its class without the package ("Conv", "BatchNorm"), `block` its settings by name (numbers as arrays),
    `params` the values of its parameters in the order of the layer, as MATLAB has them: filters are H x W x I x O.
    """

    name: str
    kind: str
    block: dict[str, Array]
    params: list[Array]


@dataclass(frozen=True)
class DagNN:
    """A network: layers by name, and `meta.normalization.averageImage`, where it has one."""

    layers: dict[str, Layer]
    average_image: Array | None


def read_dagnn(path: Path) -> DagNN:
    """Read a network, stored as a struct `net` or field by field (`save -struct`).

    Raises `CheckpointError` when the file is damaged, of MATLAB's version 7.3, or holds something else.
    """
    (outcome,) = run_jobs(deque([path]), reader, 1, TIMEOUT)
    if outcome.lost:
        raise CheckpointError(f"{path}: not a MATLAB file, or a damaged one")
    if outcome.error:
        raise CheckpointError(outcome.error)
    net: DagNN = outcome.result
    return net


def reader(index: int) -> Callable[[Path], DagNN]:
    """What the process does that reads."""
    return read_or_refuse


def read_or_refuse(path: Path) -> DagNN:
    """`read_here`, for files of any content."""
    try:
        return read_here(path)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file may say anything of itself
        raise CheckpointError(f"{path}: not a network of MatConvNet, or a damaged one") from error


def read_here(path: Path) -> DagNN:
    """`read_dagnn` in this process."""
    content = load(path)
    net = first(content["net"]) if "net" in content else content
    layers, params = field(net, "layers"), field(net, "params")
    if layers is None and "net" in content:
        raise CheckpointError(
            f"{path}: its 'net' is no plain struct; in MATLAB: net = net.saveobj(); save('FILE.mat', 'net', '-v7')"
        )
    if layers is None:
        raise CheckpointError(f"{path}: not a network of MatConvNet: holds no layers")
    if params is None or not all(isinstance(item, mat_struct) for item in layers.flat):
        raise CheckpointError(f"{path}: not a DagNN network of MatConvNet (its ResNets are DagNN, not SimpleNN)")
    try:
        values = {text(item.name): item.value for item in structs(params)}
        listed = [read_layer(item, values) for item in structs(layers)]
    except KeyError as error:
        raise CheckpointError(f"{path}: a layer names the parameter {error}, which the file lacks") from error
    except AttributeError as error:
        raise CheckpointError(f"{path}: not a DagNN network of MatConvNet: a layer lacks its '{error.name}'") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not a DagNN network of MatConvNet: {error}") from error
    normalization = field(field(net, "meta"), "normalization")
    return DagNN({layer.name: layer for layer in listed}, field(normalization, "averageImage"))


def load(path: Path) -> dict[str, Any]:
    """The variables of a `.mat` file. Raises `CheckpointError` when it can't be read."""
    try:
        return dict(loadmat(path, struct_as_record=False))
    except NotImplementedError as error:
        raise CheckpointError(
            f"{path}: a MATLAB file of version 7.3, which is not read; in MATLAB: load it and save it with '-v7'"
        ) from error
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except MemoryError as error:
        raise CheckpointError(f"{path}: damaged, or too large for this machine's memory") from error
    except Exception as error:  # the parser trusts what it reads: a damaged file fails anywhere in it
        raise CheckpointError(f"{path}: not a MATLAB file, or a damaged one") from error


def read_layer(item: mat_struct, values: dict[str, Any]) -> Layer:
    """One element of `layers`. Raises `KeyError` for an unknown parameter, `AttributeError` or `ValueError`."""
    block = first(item.block)
    settings = {key: value for key in getattr(block, "_fieldnames", []) if numeric(value := getattr(block, key))}
    params = [values[text(name)] for name in np.ravel(item.params)]
    if not all(numeric(value) for value in params):
        raise ValueError(f"parameters of {text(item.name)} are no numbers")
    return Layer(text(item.name), text(item.type).removeprefix("dagnn."), settings, params)


def numeric(value: Any) -> bool:
    """True for an array of real numbers."""
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiu"


def structs(array: Array) -> Iterator[mat_struct]:
    """The elements of a struct array."""
    return iter(array.flat)


def first(value: Any) -> Any:
    """The only element of a 1 x 1 array; anything else as it is."""
    return value.flat[0] if isinstance(value, np.ndarray) and value.size == 1 else value


def field(owner: Any, name: str) -> Array | None:
    """A non-empty field of a struct, or a variable of a file; None where there is none."""
    owner = first(owner)
    value = owner.get(name) if isinstance(owner, dict) else getattr(owner, name, None)
    return value if isinstance(value, np.ndarray) and value.size and value.dtype.kind in "Ofiu" else None


def text(value: Any) -> str:
    """A MATLAB string. Raises `ValueError` for anything else."""
    value = first(value)
    if not isinstance(value, str):
        raise ValueError("a name is no text")
    return value
