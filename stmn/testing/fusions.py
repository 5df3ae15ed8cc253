"""The check of fusions."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from stmn.testing.checklist import Checklist
from stmn.testing.modules import check_buildable_again, check_devices, check_precisions, export

_SHAPE = "forward(receiving, sending) must return a tensor of the shape of its operands, for any N, H and W"


def check_fusion(fusion: Callable[..., nn.Module], channels: int = 8, **options: Any) -> None:
    """Check that a fusion keeps its contract, and print what passed.

    It checks the shape for any N, H and W; finite gradients to both operands and to all weights; that operands are not
    changed; that the same operands give the same output; precisions; devices; that weights can be loaded into a second
    instance; and `torch.export`. If the class declares `starts_untied = True`, its initial output with default options
    must be bit-identical to what the branch reads without a gate: the receiving maps after a ReLU.

    Args:
        fusion: the plugin, called with the number of channels.
        channels: the number of channels to try.
        options: the plugin's options.

    Raises:
        PluginError: the contract is broken; the message says what its author must change.
    """
    checks = Checklist("fusion", fusion)
    checks.check_options(fusion)
    must = "its __init__ must take the number of channels first, and everything else by keyword with a default"
    torch.manual_seed(0)
    gate = checks.build(must, fusion, channels, **options)
    checks.require(isinstance(gate, nn.Module), f"gave {type(gate).__name__}", "it must give a torch.nn.Module")
    with checks.part("shape", _SHAPE):
        for shape in ((2, channels, 5, 7), (1, channels, 1, 1), (6, channels, 4, 4)):
            found = gate(*_operands(shape))
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            checks.require(got == shape, f"output {got} for operands {shape}", _SHAPE)
    with checks.part("determinism", "forward must keep nothing between calls and draw nothing in evaluation"):
        _check_pure(checks, gate, (2, channels, 5, 7))
    with checks.part("gradient", "forward must be differentiable in both operands and in all weights"):
        _check_gradients(checks, gate, (2, channels, 5, 7))
    if getattr(fusion, "starts_untied", False) and not options:
        with checks.part("identity at the start", "initialise it so that it starts without a gate"):
            receiving, sending = _operands((2, channels, 5, 7))
            checks.require(
                torch.equal(gate(receiving, sending), torch.relu(receiving)),
                "it says starts_untied, and its output at the start is not relu(receiving)",
                "initialise it so that it is, or drop starts_untied",
            )
    operands = _operands((2, channels, 5, 7))
    check_precisions(checks, gate, operands)
    check_devices(checks, gate, operands)
    check_buildable_again(checks, gate, lambda: fusion(channels, **options), operands)
    sizes = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    export(checks, gate, operands, (sizes, sizes), _operands((3, channels, 6, 4)))
    checks.finish()


def _operands(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Maps of the receiving stream before its ReLU, and of the sending stream after its ReLU."""
    generator = torch.Generator().manual_seed(shape[0])
    return torch.randn(shape, generator=generator), torch.rand(shape, generator=generator)


def _check_pure(checks: Checklist, gate: nn.Module, shape: tuple[int, ...]) -> None:
    """Check that the same operands give the same output again, and are not changed."""
    operands = _operands(shape)
    before = [operand.clone() for operand in operands]
    state = copy.deepcopy(gate.state_dict())
    gate.eval()
    first = gate(*operands)
    checks.require(
        all(torch.equal(one, other) for one, other in zip(before, operands, strict=True)),
        "an operand was changed in place",
        "use operations that return new tensors, such as x.add(y) in place of x.add_(y)",
    )
    again = gate(*operands)
    gate.train()
    checks.require(
        torch.equal(first, again),
        "the same operands gave another output the second time: hidden state",
        "forward must keep nothing between calls",
    )
    gate(*operands)
    changed = [name for name, value in gate.state_dict().items() if not torch.equal(value, state[name])]
    checks.require(
        not changed, f"forward changed {', '.join(changed)}: hidden state", "forward must keep nothing between calls"
    )


def _check_gradients(checks: Checklist, gate: nn.Module, shape: tuple[int, ...]) -> None:
    """Check that both operands and all weights get finite gradients."""
    inputs = [operand.requires_grad_() for operand in _operands(shape)]
    weights = {name: weight for name, weight in gate.named_parameters() if weight.requires_grad}
    grads = torch.autograd.grad(gate(*inputs).square().sum(), [*inputs, *weights.values()], allow_unused=True)
    names = ["the receiving stream", "the sending stream", *(f"its weight {name}" for name in weights)]
    for name, grad in zip(names, grads, strict=True):
        checks.require(
            grad is not None and bool(torch.isfinite(grad).all()),
            f"no finite gradient reaches {name}",
            "use it in forward, without detach, item, argmax or rounding"
            if "stream" in name else "use it in forward, or remove it",
        )  # fmt: skip
