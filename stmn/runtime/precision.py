"""float32 that is float32: torch lets a GPU compute float32 convolutions in TF32, whose fractions have 10 bits."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch


@contextmanager
def exact_float32() -> Iterator[None]:
    """Compute float32 convolutions and matrix products in float32, whatever was chosen for this process before.

    What was chosen is in force again afterwards. Half precision, as under autocast, stays what it is.
    """
    # Both of torch's interfaces are set, because torch refuses to read one that contradicts the other.
    products, convolutions = torch.get_float32_matmul_precision(), None
    with suppress(RuntimeError):  # a program that has set only the newer one
        convolutions = torch.backends.cudnn.allow_tf32
    before = [(operation, operation.fp32_precision) for operation in _operations()]
    try:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        for operation, _ in before:
            operation.fp32_precision = "ieee"
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        if convolutions is not None:
            torch.backends.cudnn.allow_tf32 = convolutions
        for operation, precision in before:
            operation.fp32_precision = precision


def _operations() -> list[Any]:
    """The operations whose float32 torch 2.9 and later can make coarser, each with an `fp32_precision`."""
    backends: Any = torch.backends
    kinds = [(backends.cudnn, "conv"), (backends.cudnn, "rnn"), (backends.cuda, "matmul")]
    kinds += [(backends.mkldnn, "conv"), (backends.mkldnn, "rnn"), (backends.mkldnn, "matmul")]
    found = [getattr(library, name, None) for library, name in kinds]
    return [operation for operation in found if hasattr(operation, "fp32_precision")]
