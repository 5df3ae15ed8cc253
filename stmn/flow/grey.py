"""Grey frames, the input of every flow estimator."""

import torch
from torch import Tensor

#: weights of red, green and blue (ITU-R BT.601)
_LUMA = (0.299, 0.587, 0.114)


def to_grey(frames: Tensor) -> Tensor:
    """Return the luma of frames: (B, H, W, 3) RGB uint8 to (B, H, W) float32 in 0..255."""
    return frames.float() @ torch.tensor(_LUMA).to(frames.device, non_blocking=True)  # the host does not wait
