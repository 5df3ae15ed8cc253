"""The optimizer, and the learning rate of each parameter."""

import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

from stmn.nets.network import Network
from stmn.training.groups import BatchNorm
from stmn.training.plan import Multipliers, Plan


def make_optimizer(network: Network, plan: Plan) -> Optimizer:
    """Return the optimizer of a plan; it is fused: a step is one pass over all parameters."""
    groups, rate = parameter_groups(network, plan.weight_decay, plan.multipliers), plan.schedule.rate
    if plan.optimizer == "adamw":
        return AdamW(groups, lr=rate, betas=(plan.momentum, 0.999), fused=True)
    optimizer = SGD(groups, lr=rate, momentum=plan.momentum, fused=True)
    if plan.momentum:
        # torch would leave them uninitialised if the first step overflows in float16; from 0 all steps are the same
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def parameter_groups(
    network: Network, weight_decay: float, multipliers: Multipliers | None = None
) -> list[dict[str, object]]:
    """Return groups for the optimizer: weights, which decay, before biases and batch normalisation, which don't.

    The parameters of a group share one factor of the learning rate, `lr_scale`. Frozen parameters are left out.
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

    In a single stream that is the classifier. A fused network starts with its streams' classifiers; its temporal
    filters, its gates and the classifier that both streams share are new.
    """
    if "temporal" in name or not name.startswith("streams."):
        return True
    return len(network.names) == 1 and ".backbone." not in name


def _stream_factor(name: str, factors: Multipliers) -> float:
    """Return the learning-rate factor of starting weights in the parameter's stream."""
    return {"appearance": factors.appearance, "motion": factors.motion}[name.split(".")[1]]


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters: `rate` times their factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def clear_gradient(optimizer: Optimizer, keep_memory: bool = False) -> None:
    """Clear the gradient before a step.

    Args:
        keep_memory: fill the gradient's memory with zeros instead of freeing it. By default the next backward pass
            brings its own memory, which a CUDA graph would overwrite.
    """
    optimizer.zero_grad(set_to_none=not keep_memory)
    if keep_memory:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)


def gradient_norm(optimizer: Optimizer) -> Tensor:
    """Return the norm of the whole gradient, a scalar; NaN or Inf if any entry is."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


def clip_gradient(optimizer: Optimizer, largest: float, norm: Tensor) -> None:
    """Scale the gradient, whose norm is `norm`, so that its norm is at most `largest`."""
    for group in optimizer.param_groups:
        torch.nn.utils.clip_grads_with_norm_(group["params"], largest, norm)
