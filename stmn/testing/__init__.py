"""Checks for plugin authors: call them in your package's tests. `stmn.plugins` describes what they check."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from stmn.errors import PluginError

__all__ = ["check_flow", "check_fusion"]


def check_fusion(fusion: Callable[[int], nn.Module], channels: int = 8) -> None:
    """Check that a fusion plugin keeps its contract.

    The output has the operands' shape for any N, H and W; both operands get finite gradients; neither is changed; and
    the same operands give the same output again, so there is no hidden state.

    Args:
        fusion: the plugin, called with the number of channels.
        channels: the number of channels to try.

    Raises:
        PluginError: the contract is broken; the message says how.
    """
    gate = fusion(channels)
    for shape in ((2, channels, 5, 7), (1, channels, 1, 1)):
        generator = torch.Generator().manual_seed(0)
        receiving = torch.randn(shape, generator=generator, requires_grad=True)
        sending = torch.rand(shape, generator=generator, requires_grad=True)
        before = receiving.detach().clone(), sending.detach().clone()
        first, again = gate(receiving, sending), gate(receiving, sending)
        if first.shape != receiving.shape:
            raise PluginError(f"fusion: output {tuple(first.shape)} for operands {shape}")
        if not torch.equal(first, again):
            raise PluginError("fusion: the same operands gave another output the second time: hidden state")
        if not (torch.equal(before[0], receiving) and torch.equal(before[1], sending)):
            raise PluginError("fusion: an operand was changed in place")
        grads = torch.autograd.grad(first.sum(), (receiving, sending), allow_unused=True)
        for name, grad in zip(("receiving", "sending"), grads, strict=True):
            if grad is None or not torch.isfinite(grad).all():
                raise PluginError(f"fusion: no finite gradient reaches the {name} stream")


def check_flow(flow: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check that a flow plugin keeps its contract.

    (B, H, W) grey frames in 0..255 give (B, 2, H, W) float32; a pattern that moves 2 pixels to the right has u near 2
    and v near 0; and a pair's flow doesn't depend on the other pairs of its batch.

    Args:
        flow: the plugin, called with the first and the second frames of pairs.

    Raises:
        PluginError: the contract is broken; the message says how.
    """
    x = torch.arange(96.0)
    pattern = (127 + 60 * torch.sin(x[None, :] / 5) + 60 * torch.sin((x[:, None] + x[None, :]) / 7)).clamp(0, 255)
    first, second = pattern[:, 2:66], pattern[:, :64]
    pairs = torch.stack([first, first]), torch.stack([second, first])
    found = flow(*pairs)
    if found.shape != (2, 2, *first.shape) or found.dtype != torch.float32:
        raise PluginError(f"flow: gave {found.dtype} {tuple(found.shape)}, not float32 (2, 2, {first.shape[0]}, 64)")
    inner = found[0, :, 16:-16, 16:-16].mean(dim=(1, 2))
    if (inner - torch.tensor([2.0, 0.0])).abs().max() > 0.3:
        raise PluginError(f"flow: a shift of (2, 0) pixels was estimated as ({inner[0]:.2f}, {inner[1]:.2f})")
    alone = flow(pairs[0][:1], pairs[1][:1])
    if not torch.allclose(alone[0], found[0], atol=1e-3):
        raise PluginError("flow: a pair's flow depends on the other pairs of its batch")
