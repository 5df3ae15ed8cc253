"""Checks for every module that a network is built from: precisions, devices, weights, export."""

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stmn.testing.checklist import Checklist


def check_precisions(checks: Checklist, module: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Check that the output has the type of the inputs, in double precision and in bfloat16, as in GPU training."""
    with checks.part("dtype", "make tensors in forward with dtype=x.dtype, or register them as buffers"):
        for dtype in (torch.float64, torch.bfloat16):
            found = copy.deepcopy(module).to(dtype)(*(item.to(dtype) for item in inputs))
            name = str(dtype).removeprefix("torch.")
            checks.require(
                found.dtype == dtype,
                f"gave {str(found.dtype).removeprefix('torch.')} for {name}",
                "make tensors in forward with dtype=x.dtype, or register them as buffers",
            )
            checks.require(
                bool(torch.isfinite(found).all()), f"gave NaN or infinity in {name}", "avoid large powers and divisions"
            )


def check_devices(checks: Checklist, module: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Check that all work is done on the inputs' device: on PyTorch's meta device, and on CUDA if there is a GPU."""
    devices = ["meta"] + (["cuda"] if torch.cuda.is_available() else [])
    change = "make tensors in forward with device=x.device, or register them as buffers; don't ask tensors for values"
    with checks.part("device", change):
        for device in devices:
            found = copy.deepcopy(module).to(device)(*(item.to(device) for item in inputs))
            checks.require(found.device.type == device, f"gave a tensor on {found.device.type} for {device}", change)


def check_buildable_again(
    checks: Checklist, module: nn.Module, make: Callable[[], nn.Module], inputs: Sequence[Tensor]
) -> None:
    """Check that a second module with the first one's weights computes the same, so a model file has all it needs."""
    change = "keep everything that decides the output in parameters and buffers"
    with checks.part("weights", change), torch.no_grad():
        for parameter in module.parameters():  # as after training
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        second = make()
        second.load_state_dict(module.state_dict())
        module.eval(), second.eval()
        checks.require(
            torch.equal(module(*inputs), second(*inputs)),
            "a second one with its weights gives another output",
            change,
        )


def export(
    checks: Checklist, module: nn.Module, inputs: Sequence[Tensor], sizes: Any, others: Sequence[Tensor]
) -> None:
    """Check that `torch.export` takes the module at any size.

    Args:
        checks: where the result is noted.
        module: the module.
        inputs: the example inputs for the export.
        sizes: which sizes of each input may change, as `torch.export` takes them.
        others: inputs of other sizes, on which the exported program must run.
    """
    change = "forward must not depend on values of tensors, nor on sizes in Python's if"
    with checks.part("export", change), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module.eval()
        program = torch.export.export(module, tuple(inputs), dynamic_shapes=sizes).module()
        for given in (inputs, others):
            checks.require(
                torch.allclose(program(*given), module(*given), atol=1e-5),
                "exported, it gives another output",
                change,
            )
