"""The forward pass with its loss."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from stmn.nets.config import MODALITIES
from stmn.nets.fast.convolutions import use_fast_convolutions
from stmn.nets.network import Network
from stmn.runtime.device import Device


class Learner(nn.Module):
    """A network and its loss as one module, so that both are wrapped together.

    Only `Network.feature_maps` is compiled, which is nearly all of the work. Dropout, which draws other numbers in
    compiled code, comes after it, so each size of micro-batch is one graph.

    Args:
        network: the network to train.
        device: where it computes, and in which precision.
        compile_with: a backend of torch.compile, or "" for none.
        compile_mode: a mode of it, for the backend `inductor`; None for its default.
        label_smoothing: share of each label that is spread over all classes.
        weights: (classes,) class weights in the loss, from `weight_classes`; None for equal ones.
        loss_weights: the weight of each output's loss; empty for equal ones.
    """

    def __init__(
        self, network: Network, device: Device, compile_with: str = "", label_smoothing: float = 0.0,
        weights: Tensor | None = None, loss_weights: Sequence[float] = (), compile_mode: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.network, self.device = network, device
        self.label_smoothing, self.weights = label_smoothing, None if weights is None else device.move(weights)
        self.loss_weights = loss_weights
        self._feature_maps = network.feature_maps
        if compile_with:  # a compiled network keeps PyTorch's convolutions
            # each size of micro-batch is compiled separately: with dynamic sizes, the expressions nest in every layer's
            # groups, and compiling does not end
            self._feature_maps = torch.compile(
                network.feature_maps, backend=compile_with, mode=compile_mode, dynamic=False
            )
        elif device.has_own_convolutions:
            use_fast_convolutions(network)

    def forward(self, inputs: list[Tensor], label: Tensor) -> tuple[Tensor, Tensor]:
        """Run a micro-batch through the network.

        Args:
            inputs: for each stream (B, T, channels, H, W) float32.
            label: (B,) class numbers, or (B, classes) the share of each class.

        Returns:
            The loss, a mean over the micro-batch, and the number of videos classified correctly; both float32 scalars.
        """
        with self.device.autocast():
            logits = self.network.classify(self._feature_maps(*inputs), inputs[0].shape[1])
        loss = softmax_loss(logits, label, self.label_smoothing, self.weights, self.loss_weights)
        return loss, _count_correct(logits, label)


def softmax_loss(
    logits: tuple[Tensor, ...], label: Tensor, label_smoothing: float = 0.0, weights: Tensor | None = None,
    loss_weights: Sequence[float] = (),
) -> Tensor:  # fmt: skip
    """The training loss: one softmax loss per output, added up (section 5.1: two loss layers).

    Args:
        logits: for each output (B, P, classes) at P places in time; each place has its video's label.
        label: (B,) class numbers, or (B, classes) the share of each class.
        label_smoothing: e; the target is 1 - e on the label plus e / classes on every class.
        weights: (classes,); a video's loss is multiplied by the weight of its class, or by the mean of several classes'
            weights, weighted by their shares. The sum is still divided by the number of videos, not by the sum of the
            weights, so the losses of micro-batches add up to that of their batch.
        loss_weights: the factor of each output's loss; empty for 1 each.

    Returns:
        A scalar; each output's loss is a mean over videos and places.
    """
    losses = []
    for x in logits:
        target = label.unsqueeze(-1).expand(*label.shape, x.shape[1])  # the same at each place
        scores = x.float().transpose(1, 2)
        if torch.are_deterministic_algorithms_enabled():  # CUDA has a deterministic loss only for 2-D logits
            scores, target = scores.transpose(1, 2).flatten(0, 1), target.movedim(-1, 1).flatten(0, 1)
        if weights is None:
            losses.append(F.cross_entropy(scores, target, label_smoothing=label_smoothing))
        else:
            each = F.cross_entropy(scores, target, label_smoothing=label_smoothing, reduction="none").view(x.shape[:2])
            of_video = weights[label] if label.ndim == 1 else label @ weights
            losses.append((each * of_video[:, None]).mean())
    if loss_weights:  # Python numbers, because a new tensor would make the host wait for the device
        losses = [loss * weight for loss, weight in zip(losses, loss_weights, strict=True)]
    return torch.stack(losses).sum()


def weight_classes(labels: Sequence[int], classes: int) -> Tensor:
    """Return weights that make every class count equally in the loss over a training list.

    Args:
        labels: the class number of each training video.
        classes: number of classes, K.

    Returns:
        (K,) float32: N / (K' n) for a class with n of the N videos, where K' classes have videos, so the mean over the
        videos is 1; and 0 for a class without videos.
    """
    present = np.unique(labels)
    weights = torch.zeros(classes)
    weights[present] = torch.from_numpy(compute_class_weight("balanced", classes=present, y=labels)).float()
    return weights


def _count_correct(logits: tuple[Tensor, ...], label: Tensor) -> Tensor:
    """Count the videos whose largest logit, averaged over outputs and places in time, belongs to their label.

    Args:
        logits: for each output (B, P, classes).
        label: (B,) class numbers, or (B, classes) the share of each class: the largest share is the label.

    Returns:
        A float32 scalar on the logits' device.
    """
    label = label if label.ndim == 1 else label.argmax(dim=1)
    mean = torch.stack([x.detach().float().mean(dim=1) for x in logits]).mean(dim=0)
    return (mean.argmax(dim=1) == label).sum(dtype=torch.float32)


def select_inputs(network: Network, batch: dict[str, Tensor]) -> list[Tensor]:
    """Return the tensors of a batch that a network takes, one per stream, in the order of its streams."""
    return [batch[MODALITIES[name]] for name in network.names]
