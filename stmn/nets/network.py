"""The networks: one stream, or two streams tied by gates.

Both take one tensor per stream, (B, T, C, H, W), in the order of `names`. `logits` gives the logits of each of
`outputs`, (B, P, classes): P places in time are classified, as `TemporalConfig.pool` says.
Calling the network gives their means over P, (B, classes). H and W may be any size; nothing is kept between calls.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stmn import registry
from stmn.errors import UsageError
from stmn.nets.backbones import PARTS, create_backbone
from stmn.nets.config import NetworkConfig, StreamConfig
from stmn.nets.temporal import pool_time
from stmn.nets.units import Unit

#: name of the output of a network that joins the logits of two streams
FUSED = "fused"
#: both streams between two units: x and the sum before its ReLU, of appearance and of motion
Tied = tuple[Tensor, Tensor, Tensor, Tensor]


class Stream(nn.Module):
    """A backbone with temporal filters, temporal pooling and its own classifier."""

    def __init__(self, config: NetworkConfig, stream: StreamConfig) -> None:
        super().__init__()
        self.backbone = create_backbone(stream.arch, config.in_channels(stream.modality), stream.width, stream.layout)
        inject = registry.load("injector", config.temporal.injector_of(stream.modality))
        inject(self.backbone, config.temporal.length, config.temporal.init)
        self.dropout = nn.Dropout(stream.dropout)
        self.fc = nn.Linear(self.backbone.num_features, len(config.classes))
        nn.init.normal_(self.fc.weight, std=0.01)  # as the authors' code
        nn.init.zeros_(self.fc.bias)
        self.temporal = config.temporal
        self.window = config.window

    def after_part(self, part: str, x: Tensor, pre: Tensor, chunks: int) -> tuple[Tensor, Tensor]:
        """What the next part is given after `x` = f(pre), and the sum before its ReLU: a filter's output has none."""
        if part not in self.backbone.skip_temporal:
            return x, pre
        x = self.backbone.after_part(part, x, chunks)
        return x, x

    def logits(self, x: Tensor, chunks: int) -> Tensor:
        """Last features (B * T, C, h, w) to logits (B, P, classes): fully convolutional (section 4.2).

        Pool over time, average over windows of the training map's size at stride 1, classify at every place, and
        average over places. The classifier is linear, so the mean over places may be taken before it.
        """
        pooled = pool_time(x, chunks, self.temporal.pool, self.temporal.window)  # (B, P, C, h, w)
        window = (min(self.window, x.shape[-2]), min(self.window, x.shape[-1]))
        maps = pooled.flatten(1, 2)  # (B, P * C): of these sizes C alone is a number that an exported network may keep
        if window != tuple(x.shape[-2:]):  # one window is timm's own pooling, to the bit
            maps = F.avg_pool2d(maps, window, stride=1)
        features = maps.mean(dim=(2, 3))
        return self.fc(self.dropout(features.unflatten(1, (-1, self.fc.in_features))))


class Streams(nn.Module):
    """What all networks have: named streams, in the order of their inputs, and what is said of a video.

    `outputs` names the logits: the streams, or `fused` where both make one.
    """

    config: NetworkConfig
    names: list[str]
    outputs: list[str]
    streams: nn.ModuleDict

    def stream(self, name: str) -> Stream:
        """The stream `appearance` or `motion`."""
        return cast(Stream, self.streams[name])


class SingleStream(Streams):
    """One stream on its own."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.names = [config.streams[0].name]
        self.outputs = self.names
        self.streams = nn.ModuleDict({self.names[0]: Stream(config, config.streams[0])})

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """(B, T, C, H, W) to logits (B, classes)."""
        return mean_over_time(self.logits(frames))

    def logits(self, frames: Tensor) -> tuple[Tensor, ...]:
        """(B, T, C, H, W) to the logits of each place in time, (B, P, classes)."""
        return self.classify(self.maps(frames), frames.shape[1])

    def classify(self, maps: Sequence[Tensor], chunks: int) -> tuple[Tensor, ...]:
        """What `maps` gives to each output's logits at each place in time, (B, P, classes)."""
        return (self.stream(self.names[0]).logits(maps[0], chunks),)

    def maps(self, frames: Tensor) -> tuple[Tensor, ...]:
        """(B, T, C, H, W) to each stream's last maps, (B * T, C, h, w)."""
        chunks = frames.shape[1]
        backbone = self.stream(self.names[0]).backbone
        x = backbone.stem(frames.flatten(0, 1))
        for part, units in backbone.parts.items():
            for unit in units:
                x = unit.activate(unit.join(unit.shortcut(x), unit.residual(x, chunks)))
            x = backbone.after_part(part, x, chunks)
        return (x,)


class TwoStream(Streams):
    """Appearance and motion stream with cross-stream connections (section 3.2, Figures 2 and 3)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        if config.gate is None or [s.name for s in config.streams] != ["appearance", "motion"]:
            raise UsageError("a two-stream network has an appearance and a motion stream and says how they are tied")
        self.config = config
        self.gate = config.gate
        self.names = ["appearance", "motion"]
        self.streams = nn.ModuleDict({stream.name: Stream(config, stream) for stream in config.streams})
        appearance, motion = (self.stream(name).backbone for name in self.names)
        if appearance.channels != motion.channels:
            channels = " and ".join(str(list(backbone.channels.values())) for backbone in (appearance, motion))
            raise UsageError(
                f"{config.streams[0].arch} and {config.streams[1].arch} can't be tied: their parts have {channels} "
                f"channels, and a gate needs the same in both"
            )
        self.outputs = self.names if config.prediction == "per_stream" else [FUSED]
        if config.prediction == "concatenated":
            self.joint_fc = mean_of_two(len(config.classes))
        if config.streams[0].layout != config.streams[1].layout:  # maps of odd sides would differ by a pixel
            raise UsageError(
                f"an appearance stream with {config.streams[0].layout}'s layout and a motion stream with "
                f"{config.streams[1].layout}'s can't be tied: start both from .mat files, or neither"
            )
        fusion = registry.load("fusion", self.gate.fusion)
        self.gates = nn.ModuleDict()
        for part in PARTS:
            units = appearance.parts[part], motion.parts[part]
            shared = min(map(len, units))
            if shared < 2 and self.gate.units == "second_unit":
                raise UsageError(
                    f"{config.streams[0].arch} and {config.streams[1].arch} can't be tied: a part of one unit has no "
                    f"second, which is the one that is gated"
                )
            for unit in [1] if self.gate.units == "second_unit" else range(shared):
                width, other = (of_stream[unit].conv1.in_channels for of_stream in units)
                if width != other:
                    raise UsageError(
                        f"{config.streams[0].arch} and {config.streams[1].arch} can't be tied at every unit: their "
                        f"stems give {width} and {other} channels; gate the second units"
                    )
                for name in self.receivers:
                    self.gates[gate_name(name, part, unit)] = fusion(width)
                    self.keep_sum_before(name, part, unit)

    def keep_sum_before(self, name: str, part: str, unit: int) -> None:
        """See to it that the unit before a gate leaves the sum that the gate reads (`receiving` in `unit`)."""
        parts = self.stream(name).backbone.parts
        before = [u for p in PARTS[: PARTS.index(part)] for u in parts[p]] + parts[part][:unit]
        if self.gate.site == "residual" and self.gate.operand == "pre_relu" and before:
            before[-1].keep_sum()

    @property
    def receivers(self) -> list[str]:
        """The streams whose residual units are gated."""
        return {
            "motion_to_appearance": ["appearance"],
            "appearance_to_motion": ["motion"],
            "both": ["appearance", "motion"],
        }[self.gate.direction]

    def forward(self, rgb: Tensor, flow: Tensor) -> tuple[Tensor, ...]:
        """(B, T, 3, H, W) and (B, T, 2L, H, W) to the logits of each output, (B, classes)."""
        return mean_over_time(self.logits(rgb, flow))

    def logits(self, rgb: Tensor, flow: Tensor) -> tuple[Tensor, ...]:
        """(B, T, 3, H, W) and (B, T, 2L, H, W) to each output's logits at each place in time, (B, P, classes)."""
        return self.classify(self.maps(rgb, flow), rgb.shape[1])

    def maps(self, rgb: Tensor, flow: Tensor) -> tuple[Tensor, ...]:
        """(B, T, 3, H, W) and (B, T, 2L, H, W) to each stream's last maps, (B * T, C, h, w)."""
        chunks = rgb.shape[1]
        tied = self.stems(rgb, flow)
        for part in PARTS:
            for index in range(self.depth(part)):
                tied = self.step(part, index, tied, chunks)
            tied = self.after_part(part, tied, chunks)
        a, _, m, _ = tied
        return a, m

    def classify(self, maps: Sequence[Tensor], chunks: int) -> tuple[Tensor, ...]:
        """What `maps` gives to each output's logits at each place in time, (B, P, classes)."""
        return self.join(*(self.stream(n).logits(m, chunks) for n, m in zip(self.names, maps, strict=True)))

    def sent(self, rgb: Tensor, flow: Tensor, part: str) -> Tensor:
        """What the gate of a part's second unit is sent, f(x_m) in eq. (5): (B * T, C, h, w).

        Of a part that has no second, the first one's; where both streams are gated, what motion sends. The input is
        that of `logits`.
        """
        chunks = rgb.shape[1]
        receiver = self.receivers[0]
        gated = 1 if gate_name(receiver, part, 1) in self.gates else 0
        tied = self.stems(rgb, flow)
        for before in PARTS[: PARTS.index(part)]:
            for index in range(self.depth(before)):
                tied = self.step(before, index, tied, chunks)
            tied = self.after_part(before, tied, chunks)
        for index in range(gated):
            tied = self.step(part, index, tied, chunks)
        a, _, m, _ = tied
        return m if receiver == "appearance" else a

    def depth(self, part: str) -> int:
        """Units of the deeper stream in a part."""
        return max(len(self.stream(name).backbone.parts[part]) for name in self.names)

    def stems(self, rgb: Tensor, flow: Tensor) -> Tied:
        """What the first units are given."""
        a = self.stream("appearance").backbone.stem(rgb.flatten(0, 1))
        m = self.stream("motion").backbone.stem(flow.flatten(0, 1))
        return a, a, m, m  # before the first unit lies no sum: pool1 is what a gate there is given

    def step(self, part: str, index: int, tied: Tied, chunks: int) -> Tied:
        """Unit `index` of a part in both streams, as far as they have it, each given what the other was before."""
        a, pre_a, m, pre_m = old_a, old_pre_a, old_m, old_pre_m = tied
        units_a, units_m = (self.stream(name).backbone.parts[part] for name in self.names)
        if index < len(units_a):
            pre_a = self.unit("appearance", part, index, units_a[index], old_a, old_pre_a, old_m, chunks)
            a = units_a[index].activate(pre_a)
        if index < len(units_m):
            pre_m = self.unit("motion", part, index, units_m[index], old_m, old_pre_m, old_a, chunks)
            m = units_m[index].activate(pre_m)
        return a, pre_a, m, pre_m

    def after_part(self, part: str, tied: Tied, chunks: int) -> Tied:
        """The filters after a part, in both streams."""
        a, pre_a, m, pre_m = tied
        return (
            *self.stream("appearance").after_part(part, a, pre_a, chunks),
            *self.stream("motion").after_part(part, m, pre_m, chunks),
        )

    def join(self, appearance: Tensor, motion: Tensor) -> tuple[Tensor, ...]:
        """The two streams' logits, or those that both make."""
        if self.config.prediction == "averaged":
            return ((appearance + motion) / 2,)
        if self.config.prediction == "concatenated":
            return (self.joint_fc(torch.cat([appearance, motion], dim=-1)),)
        return appearance, motion

    def unit(
        self, name: str, part: str, index: int, unit: Unit, x: Tensor, pre: Tensor, sending: Tensor, chunks: int
    ) -> Tensor:
        """One unit of stream `name`, gated where there is a gate; returns its sum before the ReLU.

        `x` = f(pre) is the unit's input, `sending` = f(x_m) the other stream's at the same place.
        """
        key = gate_name(name, part, index)
        if key not in self.gates:
            return unit.join(unit.shortcut(x), unit.residual(x, chunks))  # eq. (1)
        if self.gate.site == "direct":  # Fig. 2(a), (b): the skip path too carries the fused signal
            fused = self.gates[key](x, sending)
            return unit.join(unit.shortcut(fused), unit.residual(fused, chunks))
        receiving = pre if self.gate.operand == "pre_relu" else x
        # eqs. (2), (5): f(x_a) + F(x_a o f(x_m)); Fig. 2(c), (d), (e)
        return unit.join(unit.shortcut(x), unit.residual(self.gates[key](receiving, sending), chunks))


def gate_name(receiver: str, part: str, unit: int) -> str:
    """The module name of the gate of a part's unit, counted from 0."""
    return f"{receiver}_{part}_unit{unit + 1}"


def mean_over_time(logits: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """(B, P, classes) each to their means over places in time, (B, classes)."""
    return tuple(output.mean(dim=1) for output in logits)


def mean_of_two(classes: int) -> nn.Linear:
    """A linear layer over two streams' concatenated logits that starts as their mean, which is late fusion."""
    layer = nn.Linear(2 * classes, classes)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(classes).repeat(1, 2) / 2)
        layer.bias.zero_()
    return layer


Network = SingleStream | TwoStream


def build_network(config: NetworkConfig, seed: int = 0) -> Network:
    """Build a network with random weights that are a function of `seed`. Raises `UsageError` when parts don't fit."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TwoStream(config) if len(config.streams) == 2 else SingleStream(config)
