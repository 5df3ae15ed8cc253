"""What a micro-batch goes through: the network, its losses; and the optimizer that follows."""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from stmn.nets.config import MODALITIES
from stmn.nets.fast.convolutions import FasterConvolutions
from stmn.nets.network import Network
from stmn.runtime.device import Device
from stmn.training.plan import Plan


class Learner(nn.Module):
    """A network with its loss, as one module: what is wrapped and compiled is one forward pass."""

    def __init__(self, network: Network, device: Device, compile_with: str = "") -> None:
        super().__init__()
        self.network, self.device, self.compiled = network, device, bool(compile_with)
        if compile_with:
            self.compile(backend=compile_with)

    def forward(self, inputs: list[Tensor], label: Tensor) -> tuple[Tensor, Tensor]:
        """One (B, T, planes, H, W) tensor per stream and (B,) class numbers to the loss, the mean over the
        micro-batch, and how many videos were classified right.
        """
        with self.device.autocast(), self.convolutions():
            predictions = self.network.predictions(*inputs)
        return soft_max_losses(predictions, label), count_correct(predictions, label)

    def convolutions(self) -> AbstractContextManager[object]:
        """Those that take less time, where there are; a compiled network keeps PyTorch's."""
        return FasterConvolutions() if self.device.has_own_convolutions and not self.compiled else nullcontext()


def soft_max_losses(predictions: tuple[Tensor, ...], label: Tensor) -> Tensor:
    """The sum of one soft-max loss per output (section 5.1: two loss layers); each is the mean over videos and places.

    Predictions are (B, P, classes) class scores at P places in time, each of which has its video's label.
    """
    losses = [F.cross_entropy(p.float().transpose(1, 2), label[:, None].expand(p.shape[:2])) for p in predictions]
    return torch.stack(losses).sum()


def count_correct(predictions: tuple[Tensor, ...], label: Tensor) -> Tensor:
    """How many videos of a (B, P, classes) prediction are right, by the mean over outputs and places."""
    mean = torch.stack([p.detach().float().mean(dim=1) for p in predictions]).mean(dim=0)
    return (mean.argmax(dim=1) == label).sum()


def select_inputs(network: Network, batch: dict[str, Tensor]) -> list[Tensor]:
    """The tensors of a batch that a network takes, in order."""
    return [batch[MODALITIES[name]] for name in network.names]


def make_optimizer(network: nn.Module, plan: Plan) -> SGD:
    """SGD with momentum; one pass over all parameters a step, where torch has that for the device."""
    groups = parameter_groups(network, plan.weight_decay)
    return SGD(groups, lr=plan.schedule.rate, momentum=plan.momentum, fused=True)


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weights decay; biases and the parameters of batch normalisation don't."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def gradient_norm(optimizer: SGD) -> Tensor:
    """The length of the whole gradient; NaN or Inf when any of it is."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)
