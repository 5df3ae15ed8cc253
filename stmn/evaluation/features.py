"""Features of a video: the inputs of a network's classifiers."""

import torch
from torch import Tensor

from stmn.evaluation.passes import PassLimit, compute_last_maps
from stmn.evaluation.protocol import Protocol
from stmn.evaluation.video_input import VideoInput
from stmn.nets.network import Network
from stmn.runtime.device import Device
from stmn.runtime.precision import exact_float32


@torch.inference_mode()
def compute_features(
    network: Network, video: VideoInput, protocol: Protocol, device: Device, limit: PassLimit
) -> list[Tensor]:
    """Compute the features of a video: its last feature maps, averaged over space, pooled over time as in training.

    A classifier is linear, so applied to these features it gives the video's logits. Mirrored views are averaged too,
    unless mirroring exchanges classes: their mean could not be told apart.

    Args:
        network: A network on the device, in evaluation mode.
        video: The video's frames and flow.
        protocol: Gives the views.
        device: Where the network is.
        limit: The largest forward pass; lowered where it does not fit into memory.

    Returns:
        For each stream (C,) float32.

    Raises:
        StmnError: There is not enough memory.
    """
    views = [view for view in protocol.views(*video.size) if not (view.mirror and protocol.mirror_order)]
    pixels = views[0].height * views[0].width

    def compute(most: int) -> list[Tensor]:
        totals: list[Tensor] = []
        for view in views:

            def inputs(first: int, last: int) -> list[Tensor]:
                return [x[None] for x in video.network_inputs(network.names, view, device, first, last)]  # noqa: B023

            with exact_float32(), device.autocast():
                maps = compute_last_maps(network, inputs, video.chunks, max(1, most // pixels))
                pairs = zip(network.names, maps, strict=True)
                pooled = [network.stream(name).pooled(x, video.chunks).float().mean(dim=1)[0] for name, x in pairs]
            totals = [a + b for a, b in zip(totals, pooled, strict=True)] if totals else pooled
        return [total.cpu() / len(views) for total in totals]

    return limit.fit(compute, pixels, video.chunks)
