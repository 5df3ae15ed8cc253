"""True float32: by default torch lets a GPU compute float32 convolutions in TF32, with 10-bit fractions."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, cast

import torch

from stmn.errors import StmnError
from stmn.runtime.device import Device

#: torch's message about an operation without a deterministic form
_UNSTEADY = re.compile(r"(\S+) does not have a deterministic implementation")


@contextmanager
def training_numbers(device: Device, deterministic: bool = False) -> Iterator[None]:
    """Set up torch for training: precision of products, and convolutions by the fastest or a deterministic algorithm.

    The previous settings are restored afterwards.

    Args:
        device: where it runs, and whether in TF32; batches should have the same size in all steps.
        deterministic: use only operations that give the same bits each time.

    Raises:
        StmnError: an operation has no deterministic form.
    """
    cudnn, filling = torch.backends.cudnn, cast(Any, torch.utils.deterministic)
    before = cudnn.benchmark, cudnn.deterministic, filling.fill_uninitialized_memory
    mode = torch.get_deterministic_debug_mode()
    with float32_products(device.tf32):
        try:
            cudnn.benchmark, cudnn.deterministic = device.is_cuda and not deterministic, deterministic
            if deterministic:
                torch.use_deterministic_algorithms(True)
                filling.fill_uninitialized_memory = False  # nothing here reads uninitialised memory
            yield
        except RuntimeError as error:
            found = _UNSTEADY.match(str(error))
            if not deterministic or found is None:
                raise
            raise StmnError(
                f"deterministic: {found[1]} has no deterministic form on this device; remove deterministic, or the "
                f"option that needs it"
            ) from error
        finally:
            cudnn.benchmark, cudnn.deterministic, filling.fill_uninitialized_memory = before
            torch.set_deterministic_debug_mode(mode)


def exact_float32() -> AbstractContextManager[None]:
    """Compute float32 convolutions and matrix products in float32, whatever the process's settings.

    The previous settings are restored afterwards. Half precision, as under autocast, is not affected.
    """
    return float32_products(tf32=False)


@contextmanager
def float32_products(tf32: bool) -> Iterator[None]:
    """Compute float32 convolutions and matrix products in float32, or on CUDA in TF32.

    The previous settings are restored afterwards.
    """
    # Both of torch's interfaces are set, because torch refuses to read one that contradicts the other.
    products, convolutions = torch.get_float32_matmul_precision(), None
    with suppress(RuntimeError):  # raised if a program has set only the newer one
        convolutions = torch.backends.cudnn.allow_tf32
    before = [(operation, operation.fp32_precision) for operation in _operations()]
    try:
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        for operation, _ in before:
            operation.fp32_precision = "tf32" if tf32 else "ieee"
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        if convolutions is not None:
            torch.backends.cudnn.allow_tf32 = convolutions
        for operation, precision in before:
            operation.fp32_precision = precision


def _operations() -> list[Any]:
    """Return the operations with an `fp32_precision`, whose float32 torch 2.9 and later can make coarser."""
    backends: Any = torch.backends
    kinds = [(backends.cudnn, "conv"), (backends.cudnn, "rnn"), (backends.cuda, "matmul")]
    kinds += [(backends.mkldnn, "conv"), (backends.mkldnn, "rnn"), (backends.mkldnn, "matmul")]
    found = [getattr(library, name, None) for library, name in kinds]
    return [operation for operation in found if hasattr(operation, "fp32_precision")]
