"""The gradient that reaches the sending stream at each gate (sections 3.2.1 to 3.2.3, equations (4) and (7))."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stmn.evaluation.inside.clips import Clip, in_batches, stack_inputs
from stmn.evaluation.inside.estimate import Estimate, estimate
from stmn.evaluation.inside.focus import Share, make_share, share_on
from stmn.evaluation.inside.probes import FUSIONS, Probe, list_gated_units, watch_gates
from stmn.nets.two_stream import TwoStream
from stmn.runtime.device import Device
from stmn.runtime.precision import exact_float32


@dataclass(frozen=True)
class UnitGradient:
    """The gradient of a video's loss with respect to a gate's input from the other stream, as norms.

    Norms are over chunks, channels and space. The gradient is the sum of three parts: through this gate, through later
    gates, and from the sending stream's own classifier.

    Attributes:
        unit: label of the gated unit, `conv2 unit 2`.
        receiver: the stream that is gated.
        sender: the stream that sends features to the gate.
        through_gate: norm of the part through this gate: the second term of equations (4) and (7).
        through_later: norm of the part through later gates.
        own: norm of the part from the sending stream's own classifier.
        whole: norm of the sum.
        factor: norm of the part through the gate over the norm of the gradient at the gate's output. It is 1 for `add`;
            for `multiply` it shows how strongly the other stream's features scale the gradient, equation (7).
        focus: shares of the part through the gate that fall on the objects of a video.
    """

    unit: str
    receiver: str
    sender: str
    through_gate: Estimate
    through_later: Estimate
    own: Estimate
    whole: Estimate
    factor: Estimate
    focus: Share


@dataclass(frozen=True)
class Gradients:
    """Gradients at all gates of a network with one gate function.

    Attributes:
        fusion: the gate function.
        own_fusion: True if it is the one that the network was made with.
        loss: mean loss of the videos, the sum over the outputs.
        units: one entry for each gate.
    """

    fusion: str
    own_fusion: bool
    loss: Estimate
    units: list[UnitGradient]


def measure_gradients(network: TwoStream, clips: Sequence[Clip], device: Device) -> list[Gradients]:
    """Measure the gradients with the network's own gates, and with `add` or `multiply` in their place.

    Weights stay as they are, batch normalisation uses its running statistics, and there is no dropout.

    Args:
        network: a tied network, in evaluation mode on the device. Its weights get no gradient.
        clips: videos with their classes.
        device: where to compute.
    """
    own = network.gate.fusion
    others = [name for name in FUSIONS if name != own]
    return [_measure(network, clips, device, own, None)] + [
        _measure(network, clips, device, name, FUSIONS[name]) for name in others
    ]


def _measure(
    network: TwoStream, clips: Sequence[Clip], device: Device, fusion: str, exchange: Callable[[int], nn.Module] | None
) -> Gradients:
    """Measure the gradients with one gate function; `exchange` is None for the network's own."""
    units = list_gated_units(network)
    losses: list[float] = []
    rows: dict[str, list[dict[str, float]]] = {unit.key: [] for unit in units}
    shares: dict[str, list[dict[str, float]]] = {unit.key: [] for unit in units}
    areas: list[dict[str, float]] = []
    frozen = {p: p.requires_grad for p in network.parameters()}
    network.requires_grad_(False)
    try:
        with watch_gates(network, exchange) as probes, exact_float32():
            for batch in in_batches(clips):
                loss, gradients = _differentiate(network, batch, device, probes)
                losses += loss.tolist()
                areas += [{name: float(mask.mean()) for name, mask in clip.masks.items()} for clip in batch]
                for unit in units:
                    parts = gradients[unit.key]
                    receiver, sender = (network.names.index(name) for name in (unit.receiver, unit.sender))
                    found = _split(parts, receiver, sender, len(batch))
                    rows[unit.key] += found
                    maps = (parts[0][1] + parts[1][1]).float().abs().mean(dim=1).cpu().unflatten(0, (len(batch), -1))
                    height, width = maps.shape[-2:]
                    for clip, gradient in zip(batch, maps, strict=True):
                        shares[unit.key].append(share_on(gradient, clip.cover((height, width))))
    finally:
        for parameter, needed in frozen.items():
            parameter.requires_grad_(needed)
    groups = [clip.group for clip in clips]
    return Gradients(
        fusion,
        exchange is None,
        estimate(losses, groups),
        [
            UnitGradient(
                unit=unit.label,
                receiver=unit.receiver,
                sender=unit.sender,
                **{name: estimate([row[name] for row in rows[unit.key]], groups) for name in rows[unit.key][0]},
                focus=make_share(shares[unit.key], areas, groups),
            )
            for unit in units
        ],
    )


#: gradients at a gate that come back from the last maps of one stream: with respect to the sent features, the gate's
#: own input, and the gate's output; (B * T, C, h, w) each
_Parts = tuple[Tensor, Tensor, Tensor]


def _differentiate(
    network: TwoStream, batch: Sequence[Clip], device: Device, probes: dict[str, Probe]
) -> tuple[Tensor, dict[str, list[_Parts]]]:
    """Return (B,) losses, and for each gate the gradients that come back from the last maps of each stream.

    In evaluation mode videos don't mix, so at a video's features the gradient of the summed loss is that of its own.
    """
    inputs = [device.move(x).requires_grad_() for x in stack_inputs(batch)]
    label = device.move(torch.tensor([clip.label for clip in batch]))
    with torch.enable_grad():
        maps = network.feature_maps(*inputs)
        outputs = network.classify(maps, inputs[0].shape[1])
        loss = torch.stack([_loss_of_each(x, label) for x in outputs]).sum(dim=0)
        at_maps = torch.autograd.grad(loss.sum(), maps, retain_graph=True)
        tensors = [x for probe in probes.values() for x in (probe.given, probe.sent, probe.read)]
        from_each = [
            _fill(torch.autograd.grad(m, tensors, g, retain_graph=True, allow_unused=True), tensors)
            for m, g in zip(maps, at_maps, strict=True)
        ]
    found: dict[str, list[_Parts]] = {}
    for number, key in enumerate(probes):
        found[key] = [(g[3 * number], g[3 * number + 1], g[3 * number + 2]) for g in from_each]
    return loss.detach(), found


def _loss_of_each(logits: Tensor, label: Tensor) -> Tensor:
    """Return each video's training loss for one output: (B, P, classes) logits to (B,), a mean over places in time."""
    target = label[:, None].expand(logits.shape[:2])
    return F.cross_entropy(logits.float().transpose(1, 2), target, reduction="none").mean(dim=1)


def _fill(gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    """Replace missing gradients by zeros."""
    return [torch.zeros_like(x) if g is None else g for g, x in zip(gradients, like, strict=True)]


def _split(parts: Sequence[_Parts], receiver: int, sender: int, videos: int) -> list[dict[str, float]]:
    """Return for each video the norms of the parts of a gradient, given the gradients from each stream's last maps."""
    norm = partial(_norm_of_each, videos=videos)
    through = norm(parts[0][1] + parts[1][1])
    at_output = norm(parts[0][2] + parts[1][2])
    columns = {
        "through_gate": through,
        "through_later": norm(parts[receiver][0] - parts[receiver][1]),
        "own": norm(parts[sender][0] - parts[sender][1]),
        "whole": norm(parts[receiver][0] + parts[sender][0]),
        "factor": through / at_output,
    }
    return [{name: float(column[i]) for name, column in columns.items()} for i in range(videos)]


def _norm_of_each(gradient: Tensor, videos: int) -> Tensor:
    """Map (B * T, C, h, w) to the norm for each of B videos."""
    norms: Tensor = gradient.float().unflatten(0, (videos, -1)).flatten(1).norm(dim=1)
    return norms
