"""The check of flows."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from stmn.testing.checklist import Checklist


def check_flow(flow: Callable[..., Tensor], *, moves: bool = True, **options: Any) -> None:
    """Check that a flow keeps its contract, and print what passed.

    It checks that (B, H, W) grey frames in 0..255 give (B, 2, H, W) float32 for any size; that a pattern that moves 2
    pixels to the right has u near 2 and v near 0; that the frames are not changed; that the same frames give the same
    flow; and that a pair's flow doesn't depend on the other pairs in its batch.

    Args:
        flow: the plugin, called with the first and the second frames of pairs.
        moves: check directions too; False for a network without its weights, which can't tell them.
        options: the plugin's options.

    Raises:
        PluginError: the contract is broken; the message says what its author must change.
    """
    checks = Checklist("flow", flow)
    checks.check_options(flow)
    must = "it must take two batches of frames, and everything else by keyword"
    shape = "it must return flow of (B, 2, H, W), float32, for frames of (B, H, W) of any size"
    first, second = _moving_pattern()
    pairs = torch.stack([first, first]), torch.stack([second, first])
    before = [frames.clone() for frames in pairs]
    found = checks.build(must, flow, *pairs, **options)
    with checks.part("shape", shape):
        small = torch.zeros(1, 17, 40, dtype=torch.uint8)
        for frames, given in (((2, *first.shape), found), ((1, 17, 40), flow(small, small, **options))):
            wanted = (frames[0], 2, *frames[1:])
            got = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
            checks.require(got == wanted, f"gave {got}, not float32 {wanted}", shape)
    with checks.part("dtype", shape):
        checks.require(found.dtype == torch.float32, f"gave {found.dtype}, not float32 {tuple(found.shape)}", shape)
        bytes_ = [frames.round().to(torch.uint8) for frames in pairs]
        same = flow(*(frames.float() for frames in bytes_), **options)
        checks.require(
            torch.allclose(flow(*bytes_, **options), same, atol=0.05),
            "bytes and floating-point numbers give another flow",
            "both are 0 to 255: don't scale one of them alone",
        )
    with checks.part("determinism", "it must keep nothing between calls and draw nothing at random"):
        checks.require(
            torch.equal(flow(*pairs, **options), found),
            "the same frames gave another flow the second time",
            "it must keep nothing between calls and draw nothing at random",
        )
        checks.require(
            all(map(torch.equal, before, pairs)), "the frames were changed in place", "work on a copy: frames.clone()"
        )
        alone = flow(pairs[0][:1], pairs[1][:1], **options)
        checks.require(
            torch.allclose(alone[0], found[0], atol=1e-3),
            "a pair's flow depends on the other pairs of its batch",
            "normalise each pair by itself, and keep batch statistics out",
        )
    if moves:
        with checks.part("direction", "u is to the right and v downwards, in pixels, from the first frame"):
            inner = found[0, :, 16:-16, 16:-16].mean(dim=(1, 2))
            checks.require(
                bool((inner - torch.tensor([2.0, 0.0])).abs().max() <= 0.3),
                f"a shift of (2, 0) pixels was estimated as ({inner[0]:.2f}, {inner[1]:.2f})",
                "u is to the right and v downwards, in pixels, from the first frame to the second",
            )
    if torch.cuda.is_available():
        with checks.part("device", "return flow on the device of the frames"):
            on_gpu = flow(*(frames.cuda() for frames in pairs), **options)
            checks.require(on_gpu.is_cuda, "gave a tensor on the CPU for CUDA", "return flow on the frames' device")
    checks.finish()


def _moving_pattern() -> tuple[Tensor, Tensor]:
    """Two frames of 96 x 64 pixels whose pattern moves 2 pixels to the right."""
    x = torch.arange(96.0)
    pattern = (127 + 60 * torch.sin(x[None, :] / 5) + 60 * torch.sin((x[:, None] + x[None, :]) / 7)).clamp(0, 255)
    return pattern[:, 2:66], pattern[:, :64]
