"""The forward pass with its loss, and the optimizer."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from stmn.nets.config import MODALITIES
from stmn.nets.fast.convolutions import use_fast_convolutions
from stmn.nets.network import Network
from stmn.runtime.device import Device
from stmn.training.plan import Plan


class Learner(nn.Module):
    """A network and its loss as one module, so that one forward pass is wrapped and compiled.

    Args:
        network: the network to train.
        device: where it is, and in which precision it computes.
        compile_with: a backend of torch.compile, or "" for none.
    """

    def __init__(self, network: Network, device: Device, compile_with: str = "") -> None:
        super().__init__()
        self.network, self.device = network, device
        if compile_with:  # a compiled network keeps PyTorch's convolutions
            self.compile(backend=compile_with)
        elif device.has_own_convolutions:
            use_fast_convolutions(network)

    def forward(self, inputs: list[Tensor], label: Tensor) -> tuple[Tensor, Tensor]:
        """Run a micro-batch through the network.

        Args:
            inputs: for each stream (B, T, channels, H, W) float32.
            label: (B,) class numbers.

        Returns:
            The loss, a mean over the micro-batch, and the number of videos classified correctly; both scalars.
        """
        with self.device.autocast():
            logits = self.network.logits(*inputs)
        return soft_max_loss(logits, label), _count_correct(logits, label)


def soft_max_loss(logits: tuple[Tensor, ...], label: Tensor) -> Tensor:
    """The training loss: one soft-max loss per output, added up (section 5.1: two loss layers).

    Args:
        logits: for each output (B, P, classes) at P places in time; each place has its video's label.
        label: (B,) class numbers.

    Returns:
        A scalar; each output's loss is a mean over videos and places.
    """
    losses = [F.cross_entropy(x.float().transpose(1, 2), label[:, None].expand(x.shape[:2])) for x in logits]
    return torch.stack(losses).sum()


def _count_correct(logits: tuple[Tensor, ...], label: Tensor) -> Tensor:
    """Count the videos whose largest logit, averaged over outputs and places in time, is that of their label.

    Args:
        logits: for each output (B, P, classes).
        label: (B,) class numbers.

    Returns:
        A scalar on the logits' device.
    """
    mean = torch.stack([x.detach().float().mean(dim=1) for x in logits]).mean(dim=0)
    return (mean.argmax(dim=1) == label).sum()


def select_inputs(network: Network, batch: dict[str, Tensor]) -> list[Tensor]:
    """The tensors of a batch that a network takes, one per stream, in the order of its streams."""
    return [batch[MODALITIES[name]] for name in network.names]


def make_optimizer(network: nn.Module, plan: Plan) -> SGD:
    """SGD with momentum; fused, so that a step is one pass over all parameters."""
    groups = parameter_groups(network, plan.weight_decay)
    return SGD(groups, lr=plan.schedule.rate, momentum=plan.momentum, fused=True)


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two groups for the optimizer: weights, which decay, and biases and batch normalisation, which don't."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def gradient_norm(optimizer: SGD) -> Tensor:
    """The norm of the whole gradient, a scalar; NaN or Inf if any of it is."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)
