"""Grey frames, the input of every flow estimator."""

from torch import Tensor


def to_grey(frames: Tensor) -> Tensor:
    """Return the luma of frames (ITU-R BT.601): (B, H, W, 3) RGB uint8 to (B, H, W) float32 in 0..255.

    It is no matrix product: on CUDA a frame's luma would depend on its batch, which decides how cuBLAS adds.
    """
    red, green, blue = frames.unbind(-1)
    return red * 0.299 + green * 0.587 + blue * 0.114
