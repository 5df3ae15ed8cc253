"""Read MatConvNet's DagNN networks from `.mat` files, as plain layers with their parameters.

SciPy reads MATLAB's file versions 5 to 7 and never executes anything in them. But it trusts the sizes that a file
states, so a damaged file can crash it; therefore it runs in a separate process.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import mat_struct

from stmn.errors import CheckpointError
from stmn.runtime.files import check_regular
from stmn.runtime.memory import limit_memory
from stmn.runtime.workers import run_jobs

#: time limit for reading, in seconds; the largest files (240 MB) take 10
_TIMEOUT = 600.0
#: bytes of memory that reading may use, plus four times the file's size: compressed zeros grow a thousandfold
_MEMORY = 2**30

#: a MATLAB array: numbers, text, structs or cells
Array = NDArray[Any]


@dataclass(frozen=True)
class Layer:
    """A layer of a DagNN network.

    Attributes:
        name: such as `res2a_branch2a`.
        kind: its class without the package, such as `Conv` or `BatchNorm`.
        block: its numeric settings by name, as arrays.
        params: its parameters in the layer's order, with MATLAB's axes: filters are (H, W, I, O).
    """

    name: str
    kind: str
    block: dict[str, Array]
    params: list[Array]


@dataclass(frozen=True)
class DagNN:
    """A DagNN network.

    Attributes:
        layers: layers by name.
        average_image: `meta.normalization.averageImage`, or None if the file has none.
    """

    layers: dict[str, Layer]
    average_image: Array | None


def read_dagnn(path: Path) -> DagNN:
    """Read a network, in a separate process.

    Args:
        path: a `.mat` file with a struct `net`, or with the network's fields (`save -struct`).

    Raises:
        CheckpointError: the file is missing, damaged, in MATLAB's version 7.3, or not a DagNN network.
    """
    (outcome,) = run_jobs(deque([path]), _create_reader, 1, _TIMEOUT)
    if outcome.lost:
        raise CheckpointError(f"{path}: not a MATLAB file, or damaged")
    if outcome.error:
        raise CheckpointError(outcome.error)
    net: DagNN = outcome.result
    return net


def _create_reader(index: int) -> Callable[[Path], DagNN]:
    """Return the function that the separate process calls."""
    return _read_or_refuse


def _read_or_refuse(path: Path) -> DagNN:
    """Read a network, turning every error into a `CheckpointError`."""
    try:
        check_regular(path)
        limit_memory(_MEMORY + 4 * path.stat().st_size)
        return _read_net(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error
    except CheckpointError:
        raise
    except Exception as error:  # the content of a damaged file can be anything
        raise CheckpointError(f"{path}: not a MatConvNet network, or damaged") from error


def _read_net(path: Path) -> DagNN:
    """Read a network in this process."""
    content = _load_variables(path)
    net = _unwrap(content["net"]) if "net" in content else content
    layers, params = _get_field(net, "layers"), _get_field(net, "params")
    if layers is None and "net" in content:
        raise CheckpointError(
            f"{path}: its 'net' is not a plain struct; in MATLAB: net = net.saveobj(); save('FILE.mat', 'net', '-v7')"
        )
    if layers is None:
        raise CheckpointError(f"{path}: not a MatConvNet network: it has no layers")
    if params is None or not all(isinstance(item, mat_struct) for item in layers.flat):
        raise CheckpointError(f"{path}: not a MatConvNet DagNN network (its ResNets are DagNN, not SimpleNN)")
    try:
        values = {_read_text(item.name): item.value for item in params.flat}
        listed = [_read_layer(item, values) for item in layers.flat]
    except KeyError as error:
        raise CheckpointError(f"{path}: a layer refers to parameter {error}, which is not in the file") from error
    except AttributeError as error:
        raise CheckpointError(f"{path}: not a MatConvNet DagNN network: a layer lacks its '{error.name}'") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not a MatConvNet DagNN network: {error}") from error
    normalization = _get_field(_get_field(net, "meta"), "normalization")
    return DagNN({layer.name: layer for layer in listed}, _get_field(normalization, "averageImage"))


def _load_variables(path: Path) -> dict[str, Any]:
    """Return a file's variables by name."""
    try:
        return dict(loadmat(path, struct_as_record=False))
    except NotImplementedError as error:
        raise CheckpointError(
            f"{path}: MATLAB files of version 7.3 can't be read; in MATLAB, load it and save it with '-v7'"
        ) from error
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except MemoryError as error:
        raise CheckpointError(f"{path}: damaged, or too large for this machine's memory") from error
    except Exception as error:  # the parser trusts its input, so a damaged file can fail anywhere
        raise CheckpointError(f"{path}: not a MATLAB file, or damaged") from error


def _read_layer(item: mat_struct, values: dict[str, Any]) -> Layer:
    """Read an element of `layers`. Raises `KeyError` for an unknown parameter, `AttributeError` or `ValueError`."""
    block = _unwrap(item.block)
    settings = {key: value for key in getattr(block, "_fieldnames", []) if _is_numeric(value := getattr(block, key))}
    params = [values[_read_text(name)] for name in np.ravel(item.params)]
    if not all(_is_numeric(value) for value in params):
        raise ValueError(f"parameters of {_read_text(item.name)} are not numbers")
    return Layer(_read_text(item.name), _read_text(item.type).removeprefix("dagnn."), settings, params)


def _is_numeric(value: Any) -> bool:
    """Say whether a value is an array of real numbers."""
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiu"


def _unwrap(value: Any) -> Any:
    """Return the only element of a 1 x 1 array, or any other value unchanged."""
    return value.flat[0] if isinstance(value, np.ndarray) and value.size == 1 else value


def _get_field(owner: Any, name: str) -> Array | None:
    """Return a struct's field or a file's variable; None if it is missing or empty."""
    owner = _unwrap(owner)
    value = owner.get(name) if isinstance(owner, dict) else getattr(owner, name, None)
    return value if isinstance(value, np.ndarray) and value.size and value.dtype.kind in "Ofiu" else None


def _read_text(value: Any) -> str:
    """Return a MATLAB string. Raises `ValueError` for anything else."""
    value = _unwrap(value)
    if not isinstance(value, str):
        raise ValueError("a name is not text")
    return value
