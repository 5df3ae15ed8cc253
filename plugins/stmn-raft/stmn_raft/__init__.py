"""A flow for stmn: RAFT (Teed and Deng, ECCV 2020), torchvision's implementation, with weights from a file."""

from functools import cache
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stmn.errors import DataError, UsageError

__all__ = ["raft"]

#: pixels: RAFT looks for matches at an eighth of the resolution, in a pyramid of four levels
_LEAST, _MULTIPLE = 128, 8


def raft(
    first: Tensor, second: Tensor, *, weights: str, model: Literal["small", "large"] = "large", updates: int = 12
) -> Tensor:
    """Estimate flow with RAFT; it wants a GPU, and reads the grey frames as colour.

    Args:
        first: (B, H, W) grey frames, uint8 or floating point, 0 to 255 in either case.
        second: (B, H, W), as `first`.
        weights: a file with torchvision's weights of this model, .pth or .safetensors.
        model: which of the two networks the weights are of.
        updates: iterations of the recurrent unit, 1 to 32.

    Returns:
        (B, 2, H, W) float32 on the frames' device: u to the right, v downwards, in pixels.

    Raises:
        UsageError: there is no such file.
        DataError: the file does not hold the weights of this model.
        ValueError: `updates` is out of its range.
    """
    if not 1 <= updates <= 32:
        raise ValueError(f"updates = {updates}: must be 1 to 32")
    path = Path(weights)
    if not path.is_file():
        raise UsageError(f"raft: weights = {weights}: no such file; name one of torchvision's weights of raft_{model}")
    network = _load(path.resolve(), model, path.stat().st_mtime_ns).to(first.device)
    height, width = first.shape[1:]
    below, beside = (max(_LEAST, side) + -max(_LEAST, side) % _MULTIPLE - side for side in (height, width))
    flows = []
    with torch.inference_mode():
        for one, other in zip(first, second, strict=True):  # by itself: memory grows with the fourth power of the side
            frames = torch.stack([one, other]).float()[:, None] / 127.5 - 1
            frames = F.pad(frames, (0, beside, 0, below), mode="replicate").expand(-1, 3, -1, -1)
            flows.append(network(frames[:1], frames[1:], num_flow_updates=updates)[-1][0, :, :height, :width])
    return torch.stack(flows).clone() if flows else torch.zeros(0, 2, height, width, device=first.device)


@cache
def _load(path: Path, model: str, changed: int) -> nn.Module:
    """The network with the weights of a file, last changed at a time in ns; nothing in the file is run."""
    from safetensors.torch import load_file
    from torchvision.models import optical_flow

    make = optical_flow.raft_small if model == "small" else optical_flow.raft_large
    network: nn.Module = make(weights=None, progress=False).eval()
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        network.load_state_dict(state)
    except Exception as error:  # of pickle, of safetensors, or names of tensors
        raise DataError(f"{path}: not torchvision's weights of raft_{model}: {str(error).splitlines()[0]}") from error
    return network
