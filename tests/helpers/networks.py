"""Networks, inputs and comparisons that tests share."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from helpers.plain import logits
from stmn.nets.build import build_network
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.network import Network
from stmn.nets.temporal import TemporalFilter

#: the rows of Table 2: site, fusion, direction
TABLE_2 = [
    ("direct", "add", "motion_to_appearance"),  # Fig. 2(a)
    ("direct", "multiply", "motion_to_appearance"),  # Fig. 2(b)
    ("residual", "add", "motion_to_appearance"),  # Fig. 2(c)
    ("residual", "multiply", "motion_to_appearance"),  # Fig. 2(d), Fig. 3
    ("residual", "add", "appearance_to_motion"),
    ("residual", "multiply", "appearance_to_motion"),
    ("residual", "multiply", "both"),  # Fig. 2(e)
]
#: the rows of Table 3: injector, temporal init, pooling over time (with `none`, each chunk is classified)
TABLE_3 = [
    ("none", "centre", "none"),
    ("last_unit", "average", "none"),
    ("residual", "average", "none"),
    ("residual_and_skip", "average", "none"),
    ("residual", "centre", "none"),
    ("last_unit", "centre", "none"),
    ("residual_and_skip", "centre", "none"),
    ("residual", "centre", "max"),
    ("residual_and_skip", "centre", "max"),
]


def tied(
    appearance: str = "resnet18", motion: str = "resnet18", width: float = 0.125, gate: GateConfig | None = None,
    temporal: TemporalConfig | None = None, **config: object,
) -> Network:  # fmt: skip
    """Two tied streams of an eighth of the width: three classes, frames of 32 pixels, stacks of two fields."""
    streams = [StreamConfig(modality=m, arch=a, width=width) for m, a in (("rgb", appearance), ("flow", motion))]
    values = {"classes": ["a", "b", "c"], "size": 32, "stack_length": 2, "streams": streams}
    return build_network(
        NetworkConfig(**(values | config), gate=gate or GateConfig(), temporal=temporal or TemporalConfig())
    )


def videos(network: Network, chunks: int, *size: int, batch: int = 2) -> list[Tensor]:
    """Random videos for each stream, (batch, chunks, C, H, W) in the network's precision; by default 32 x 32 pixels."""
    height, width = size or (32, 32)
    dtype = next(network.parameters()).dtype
    generator = torch.Generator().manual_seed(chunks)
    channels = [network.config.in_channels(stream.modality) for stream in network.config.streams]
    return [torch.randn(batch, chunks, n, height, width, generator=generator).to(dtype) for n in channels]


def randomize_norms(network: nn.Module) -> nn.Module:
    """Draw statistics and gains: fresh ones hide mistakes, as each unit's last normalisation starts with gain 0."""
    generator = torch.Generator().manual_seed(7)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            for tensor in (module.bias, module.running_mean):
                tensor.data.copy_(torch.randn(tensor.shape, generator=generator) / 2)
    return network.eval()


def randomize_filters(network: nn.Module) -> nn.Module:
    """Change filters and classifiers as training would: none is an identity, a mean or zero any more."""
    generator = torch.Generator().manual_seed(8)
    for module in network.modules():
        if isinstance(module, TemporalFilter | nn.Linear):
            for tensor in module.parameters():
                tensor.data.add_(torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype) / 10)
    return network


def stable_pair(appearance: str = "resnet18", motion: str = "resnet18", **config: object) -> Network:
    """Two tied streams of a quarter of the width, without identities and with small gate products."""
    network = randomize_filters(randomize_norms(tied(appearance, motion, width=0.25, **config)))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.mul_(0.3)
            module.bias.data.mul_(0.3)
    return network


def assert_same_logits(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float = 1e-4) -> None:
    """Equal up to a fraction of the largest logit, for each output."""
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert theirs.isfinite().all() and theirs.std() > 0
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * float(theirs.abs().max()))


def check_equations(network: Network, given: list[Tensor]) -> None:
    """Compare a float64 network with the plain restatement: every output, and the gradient of every parameter.

    The loss is the paper's: one softmax loss for each output, over all videos and places in time. Gradients may differ
    by rounding, which is a fraction of the largest entry of each tensor: sums that cancel leave small entries with the
    rounding of large ones.
    """
    weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
    for name, _ in network.named_parameters():
        weights[name].requires_grad_()
    expected = logits(network.config, weights, given, network.training)
    got = network.logits(*given)
    assert len(got) == len(network.outputs) == len(expected)
    for ours, plain in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10)
    for ours, plain in zip(network(*given), expected, strict=True):
        torch.testing.assert_close(ours, plain.mean(dim=1), rtol=1e-10, atol=1e-10)

    labels = torch.tensor([2, 0])
    for outputs in (got, expected):
        losses = [cross_entropy(x.flatten(0, 1), labels.repeat_interleave(x.shape[1])) for x in outputs]
        sum(losses).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, f"no gradient reaches {name}"
        plain = weights[name].grad
        torch.testing.assert_close(
            parameter.grad, plain, rtol=0, atol=1e-11 * float(plain.abs().max()),
            msg=lambda text, name=name: f"{name}: {text}",
        )  # fmt: skip
