"""Two streams, tied by gates (section 3.2, Figures 2 and 3)."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from stmn import registry
from stmn.errors import PluginError, UsageError
from stmn.nets.backbones import PARTS
from stmn.nets.classifier import Float32Linear
from stmn.nets.config import GateConfig, NetworkConfig
from stmn.nets.fusions import no_gates
from stmn.nets.network import Network
from stmn.nets.units import Activation
from stmn.registry.options import build, plugin_errors


class TwoStream(Network):
    """An appearance and a motion stream with connections between them.

    Attributes:
        gate: how they are tied.
        gates: the fusion at each gated unit, by `gate_name`; empty if the streams are not tied.
        joint_fc: the linear layer over the logits of both streams, if `config.prediction` asks for one.

    Raises:
        UsageError: the two streams can't be tied like this.
        PluginError: a plugin can't be loaded.
    """

    def __init__(self, config: NetworkConfig) -> None:
        if config.gate is None or [stream.name for stream in config.streams] != ["appearance", "motion"]:
            raise UsageError("a two-stream network needs an appearance stream, a motion stream and a gate")
        super().__init__(config)
        self.gate = config.gate
        self.tied = registry.load("fusion", self.gate.fusion) is not no_gates
        if config.prediction == "concatenated":
            self.joint_fc = _make_joint_classifier(len(config.classes))
        self.gates = nn.ModuleDict()
        if not self.tied:
            return
        self._check_channels()
        for part in PARTS:
            for index in self._list_gated_units(part):
                for receiver in self.receivers:
                    channels = self.stream(receiver).backbone.parts[part][index].in_channels
                    self.gates[gate_name(receiver, part, index)] = _make_gate(self.gate, channels)
                    self._keep_operand(receiver, part, index)

    @property
    def receivers(self) -> list[str]:
        """The streams that receive from the other one."""
        if not self.tied:
            return []
        return {
            "motion_to_appearance": ["appearance"],
            "appearance_to_motion": ["motion"],
            "both": ["appearance", "motion"],
        }[self.gate.direction]

    def feature_maps(self, *videos: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the last feature maps of appearance and motion, (B * T, C, h, w) each."""
        a, m = self.run_parts(self.run_stems(*videos), PARTS, videos[0].shape[1])
        return a.out, m.out

    def run_parts(self, x: Sequence[Activation], parts: Sequence[str], chunks: int) -> tuple[Activation, Activation]:
        """Run consecutive parts of both streams on the output of the part before."""
        a, m = x
        for part in parts:
            a, m = self._run_part(part, a, m, chunks)
        return a, m

    def classify(self, maps: Sequence[Tensor], chunks: int, per_window: bool = False) -> tuple[Tensor, ...]:
        """Compute the logits of last feature maps, of each stream or of both together."""
        appearance, motion = super().classify(maps, chunks, per_window)
        if self.config.prediction == "averaged":
            return ((appearance + motion) / 2,)
        if self.config.prediction == "concatenated":
            return (self.joint_fc(torch.cat([appearance, motion], dim=-1)),)
        return appearance, motion

    def gating_signal(self, part: str, *videos: Tensor) -> Tensor:
        """Compute the signal that is sent to the gate of a part's second unit: f(x_m) in eq. (5).

        If that unit has no gate, it is the signal at the first unit. If both streams are gated, it is motion's.

        Args:
            part: its name in `PARTS`.
            videos: RGB (B, T, 3, H, W) and flow (B, T, 2L, H, W).

        Returns:
            (B * T, C, h, w).
        """
        chunks = videos[0].shape[1]
        a, m = self.run_parts(self.run_stems(*videos), PARTS[: PARTS.index(part)], chunks)
        receiver = self.receivers[0]
        if gate_name(receiver, part, 1) in self.gates:
            a, m = self.step(part, 0, a, m, chunks)
        return m.out if receiver == "appearance" else a.out

    def step(self, part: str, index: int, a: Activation, m: Activation, chunks: int) -> tuple[Activation, Activation]:
        """Run unit `index` of a part in both streams; each reads the other's activation from before the unit.

        Args:
            part: its name in `PARTS`.
            index: number of the unit, from 0. A stream without such a unit stays as it is.
            a: appearance, x_a and f(x_a), (B * chunks, C, h, w) each.
            m: motion, x_m and f(x_m).
            chunks: chunks of each video, T.

        Returns:
            Appearance and motion after the unit.
        """
        return (
            self._run_unit("appearance", part, index, a, m, chunks),
            self._run_unit("motion", part, index, m, a, chunks),
        )

    def _run_unit(
        self, name: str, part: str, index: int, own: Activation, other: Activation, chunks: int
    ) -> Activation:
        """Run a unit of stream `name`, through its gate if it has one."""
        units = self.stream(name).backbone.parts[part]
        if index >= len(units):
            return own
        unit = units[index]
        key = gate_name(name, part, index)
        if key not in self.gates:  # eq. (1)
            pre = unit.join(unit.shortcut(own.out), unit.residual(own.out, chunks))
        elif self.gate.site == "direct":  # Figure 2(a), (b)
            fused = self.gates[key](own.out, other.out)
            pre = unit.join(unit.shortcut(fused), unit.residual(fused, chunks))
        else:  # f(x_a) + F(x_a + f(x_m)), eq. (2); f(x_a) + F(x_a * f(x_m)), eq. (5); Figure 2(c), (d), (e)
            x = own.pre if self.gate.operand == "pre_relu" else own.out
            pre = unit.join(unit.shortcut(own.out), unit.residual(self.gates[key](x, other.out), chunks))
        return Activation(pre, unit.activate(pre))

    def _run_part(self, part: str, a: Activation, m: Activation, chunks: int) -> tuple[Activation, Activation]:
        """Run all units of a part, and the filters in the skip path after it."""
        appearance, motion = (self.stream(name) for name in self.names)
        for index in range(max(len(stream.backbone.parts[part]) for stream in (appearance, motion))):
            a, m = self.step(part, index, a, m, chunks)
        return appearance.after_part(part, a, chunks), motion.after_part(part, m, chunks)

    def _list_gated_units(self, part: str) -> Sequence[int]:
        """Return the units of a part that have a gate in each receiving stream."""
        shared = min(len(self.stream(name).backbone.parts[part]) for name in self.names)
        if self.gate.units == "every_unit":
            return range(shared)
        if shared < 2:
            raise UsageError(f"{self._pair} can't be tied: a part of one unit has no second unit to gate")
        return [1]

    def _keep_operand(self, receiver: str, part: str, index: int) -> None:
        """Keep the pre-activation that a unit's gate reads: the sum of the unit before it."""
        parts = self.stream(receiver).backbone.parts
        before = [unit for earlier in PARTS[: PARTS.index(part)] for unit in parts[earlier]] + parts[part][:index]
        if self.gate.site == "residual" and self.gate.operand == "pre_relu" and before:
            before[-1].keep_sum()

    def _check_channels(self) -> None:
        """Raise `UsageError` if the maps of the two streams differ in shape where gates read them."""
        appearance, motion = (self.stream(name).backbone for name in self.names)
        if appearance.channels != motion.channels:
            channels = " and ".join(str(list(backbone.channels.values())) for backbone in (appearance, motion))
            raise UsageError(
                f"{self._pair} can't be tied: their parts have {channels} channels, and a gate needs the same in both"
            )
        if appearance.layout != motion.layout:  # maps of odd sides would differ by a pixel
            raise UsageError(
                f"an appearance stream with {appearance.layout}'s layout can't be tied to a motion stream with "
                f"{motion.layout}'s: start both from .mat files, or neither"
            )
        stems = [backbone.parts[PARTS[0]][0].in_channels for backbone in (appearance, motion)]
        if self.gate.units == "every_unit" and stems[0] != stems[1]:
            raise UsageError(
                f"{self._pair} can't be tied at every unit: their stems give {stems[0]} and {stems[1]} channels; gate "
                f"the second units"
            )

    @property
    def _pair(self) -> str:
        """`resnet50 and resnet152`."""
        return " and ".join(stream.arch for stream in self.config.streams)


def gate_name(receiver: str, part: str, index: int) -> str:
    """Return the module name of a unit's gate: `appearance_conv2_unit2` for index 1."""
    return f"{receiver}_{part}_unit{index + 1}"


def _make_gate(gate: GateConfig, channels: int) -> nn.Module:
    """Make a fusion for maps of C = `channels` channels; one from another package is tried on small maps.

    Raises:
        UsageError: its options are wrong.
        PluginError: it is not a module, or its output has not the shape of its operands.
    """
    made = build("fusion", gate.fusion, gate.fusion_options, channels)
    plugin = registry.find("fusion", gate.fusion)
    if plugin.package == registry.BUILT_IN:
        return cast(nn.Module, made)
    if not isinstance(made, nn.Module):
        raise PluginError(f"{plugin.title} gave {type(made).__name__}, and a fusion is a torch.nn.Module")
    training, receiving = made.training, torch.zeros(2, channels, 3, 5)
    try:
        with plugin_errors(plugin), torch.no_grad():
            found = made.eval()(receiving, torch.zeros_like(receiving))
    except PluginError as error:
        if receiving.is_meta and isinstance(error.__cause__, RuntimeError):
            return made.train(training)  # it needs values, and maps on the meta device have none
        raise
    made.train(training)
    if getattr(found, "shape", None) != receiving.shape:
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise PluginError(
            f"{plugin.title} gave {got} for maps of {tuple(receiving.shape)}; its output must have the shape of its "
            f"operands"
        )
    return made


def _make_joint_classifier(classes: int) -> Float32Linear:
    """Make a linear layer over the logits of both streams that starts as their mean, which is late fusion."""
    layer = Float32Linear(2 * classes, classes)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(classes).repeat(1, 2) / 2)
        layer.bias.zero_()
    return layer
