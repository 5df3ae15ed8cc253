"""The optimizer, and which parameter learns at which rate."""

import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

from stmn.nets.network import Network
from stmn.training.groups import BatchNorm
from stmn.training.plan import Multipliers, Plan


def make_optimizer(network: Network, plan: Plan) -> Optimizer:
    """The optimizer of a plan; fused, so that a step is one pass over all parameters."""
    groups, rate = parameter_groups(network, plan.weight_decay, plan.multipliers), plan.schedule.rate
    if plan.optimizer == "adamw":
        return AdamW(groups, lr=rate, betas=(plan.momentum, 0.999), fused=True)
    return SGD(groups, lr=rate, momentum=plan.momentum, fused=True)


def parameter_groups(
    network: Network, weight_decay: float, multipliers: Multipliers | None = None
) -> list[dict[str, object]]:
    """Groups for the optimizer: weights, which decay, before biases and batch normalisation, which don't.

    Each is divided by the multiple of the learning rate, `lr_scale`, that its parameters have. Frozen ones are left
    out.
    """
    factors = multipliers or Multipliers()
    groups: dict[tuple[bool, float], list[Tensor]] = {}
    for path, module in network.named_modules():
        for name, parameter in module.named_parameters(path, recurse=False):
            if not parameter.requires_grad:
                continue
            scale = factors.new if is_new(network, name) else _stream_factor(name, factors)
            if isinstance(module, BatchNorm):
                scale *= factors.gain if name.endswith("weight") else 1.0
            elif name.endswith("bias"):
                scale *= factors.bias
            groups.setdefault((parameter.ndim <= 1, scale), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": 0.0 if plain else weight_decay, "lr_scale": scale}
        for (plain, scale), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def is_new(network: Network, name: str) -> bool:
    """True for a parameter that has no starting weights.

    In a stream alone that is the classifier. A fused network starts with its streams' classifiers; its temporal
    filters, gates and the classifier that both streams share are new.
    """
    if "temporal" in name or not name.startswith("streams."):
        return True
    return len(network.names) == 1 and ".backbone." not in name


def _stream_factor(name: str, factors: Multipliers) -> float:
    """The multiple of the learning rate that the starting weights of a parameter's stream have."""
    return {"appearance": factors.appearance, "motion": factors.motion}[name.split(".")[1]]


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters: `rate`, times their multiple."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def clear_gradient(optimizer: Optimizer, keep_memory: bool = False) -> None:
    """Clear the gradient before a step.

    Args:
        keep_memory: of the gradient. By default a backward pass hands over its own, which a CUDA graph uses again.
    """
    optimizer.zero_grad(set_to_none=not keep_memory)
    if keep_memory:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)


def gradient_norm(optimizer: Optimizer) -> Tensor:
    """The norm of the whole gradient, a scalar; NaN or Inf if any of it is."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


def clip_gradient(optimizer: Optimizer, largest: float, norm: Tensor) -> None:
    """Scale the gradient, whose norm is `norm`, so that its norm is at most `largest`."""
    for group in optimizer.param_groups:
        torch.nn.utils.clip_grads_with_norm_(group["params"], largest, norm)
