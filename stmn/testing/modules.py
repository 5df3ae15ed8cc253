"""What is checked of every module that a network is built of: precisions, devices, its weights, its export."""

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stmn.testing.checklist import Checklist


def check_precisions(checks: Checklist, module: nn.Module, inputs: Sequence[Tensor]) -> None:
    """The output has the type of the inputs, in double precision and in bfloat16, as in training on a GPU."""
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
    """Everything happens on the device of the inputs: PyTorch's meta device, and CUDA where there is one."""
    devices = ["meta"] + (["cuda"] if torch.cuda.is_available() else [])
    change = "make tensors in forward with device=x.device, or register them as buffers; don't ask tensors for values"
    with checks.part("device", change):
        for device in devices:
            found = copy.deepcopy(module).to(device)(*(item.to(device) for item in inputs))
            checks.require(found.device.type == device, f"gave a tensor on {found.device.type} for {device}", change)


def check_buildable_again(
    checks: Checklist, module: nn.Module, make: Callable[[], nn.Module], inputs: Sequence[Tensor]
) -> None:
    """A second module with the weights of the first computes the same, so that model files hold all that matters."""
    change = "keep everything that decides the output in parameters and buffers"
    with checks.part("weights", change), torch.no_grad():
        for parameter in module.parameters():  # as if it had been trained
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
    """`torch.export` takes the module at any size.

    Args:
        checks: where it is noted.
        module: the module.
        inputs: what it is exported with.
        sizes: which sizes of each input may change, as `torch.export` takes it.
        others: inputs of other sizes, which the exported program has to compute.
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
