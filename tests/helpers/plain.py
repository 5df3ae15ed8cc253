"""The paper's network written down a second time: sections 3.1 to 3.3 as plain functions of weights, without modules.

It shares only the names of the weights with `stmn.nets`. Where gates, filters and poolings go is written down here again.
Parts are numbers: conv2 is 2.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d, relu

#: units of each part, conv2 to conv5
UNITS = {
    "resnet18": (2, 2, 2, 2), "resnet26": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3),
    "resnet152": (3, 8, 36, 3),
}  # fmt: skip
#: injector -> parts whose second unit has a filter after its 3 x 3, and parts with one in the skip path (Table 1)
FILTERED = {
    "none": ((), ()),
    "last_unit": ((5,), ()),
    "residual": ((2, 3, 4, 5), ()),
    "residual_every_unit": ((2, 3, 4, 5), ()),  # not the second unit alone: every one
    "residual_and_skip": ((2, 3, 4, 5), (2, 3, 4, 5)),
    "residual_conv2_conv5": ((2, 5), ()),
    "skip": ((), (2, 3, 4, 5)),
}


class Signal(NamedTuple):
    """x_l, the sum before the ReLU, and f(x_l): (N, C, H, W) each. Where no ReLU comes last, both are the same."""

    pre: Tensor
    post: Tensor


class PlainStream:
    """One stream's layers, from a dictionary of its weights."""

    def __init__(self, weights: dict[str, Tensor], arch: str, injector: str, chunks: int, training: bool) -> None:
        self.weights, self.chunks, self.training = weights, chunks, training
        self.units = dict(zip((2, 3, 4, 5), UNITS[arch], strict=True))
        self.in_units, self.in_skips = FILTERED[injector]
        self.in_every_unit = injector == "residual_every_unit"

    def convolve(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = self.weights[f"backbone.{name}.weight"]
        return conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def normalise(self, x: Tensor, name: str) -> Tensor:
        """Batch normalisation: by this batch's moments in training, by the running ones in testing."""
        gain, bias, mean, variance = (
            self.weights[f"backbone.{name}.{part}"][:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        if self.training:
            mean = x.mean(dim=(0, 2, 3), keepdim=True)
            variance = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
        return gain * (x - mean) / torch.sqrt(variance + 1e-5) + bias

    def filter_time(self, x: Tensor, name: str) -> Tensor:
        """Eq. (8): y(t) = b + sum over k of W(k) x(t + k - K // 2), with zeros beyond the ends."""
        weight, bias = (self.weights[f"backbone.{name}.conv.{part}"] for part in ("weight", "bias"))
        taps = weight[..., 0].unbind(dim=-1)  # K matrices (C, C)
        video = x.unflatten(0, (-1, self.chunks))
        filtered = []
        for t in range(self.chunks):
            y = bias[:, None, None]
            for k, tap in enumerate(taps):
                if 0 <= (source := t + k - len(taps) // 2) < self.chunks:
                    y = y + torch.einsum("oc,bchw->bohw", tap, video[:, source])
            filtered.append(y.expand_as(video[:, t]))
        return torch.stack(filtered, dim=1).flatten(0, 1)

    def stem(self, frames: Tensor) -> Signal:
        x = relu(self.normalise(self.convolve(frames.flatten(0, 1), "conv1", stride=2), "bn1"))
        x = max_pool2d(x, 3, stride=2, padding=1)
        return Signal(x, x)

    def branch(self, x: Tensor, part: int, unit: int) -> Tensor:
        """F of eq. (1), with a temporal filter after the 3 x 3 and its ReLU (Figure 4(b))."""
        name = f"layer{part - 1}.{unit - 1}"
        stride = 2 if part > 2 and unit == 1 else 1
        bottleneck = f"backbone.{name}.conv3.weight" in self.weights
        if bottleneck:
            x = relu(self.normalise(self.convolve(x, f"{name}.conv1"), f"{name}.bn1"))
            x = relu(self.normalise(self.convolve(x, f"{name}.conv2", stride), f"{name}.bn2"))
        else:
            x = relu(self.normalise(self.convolve(x, f"{name}.conv1", stride), f"{name}.bn1"))
        if part in self.in_units and (unit == 2 or self.in_every_unit):
            x = self.filter_time(x, f"{name}.temporal")
        last = 3 if bottleneck else 2
        return self.normalise(self.convolve(x, f"{name}.conv{last}"), f"{name}.bn{last}")

    def skip(self, x: Tensor, part: int, unit: int) -> Tensor:
        """The identity, or the projection if a part begins with other channels or half the map."""
        name = f"layer{part - 1}.{unit - 1}.downsample"
        if f"backbone.{name}.0.weight" not in self.weights:
            return x
        return self.normalise(self.convolve(x, f"{name}.0", stride=1 if part == 2 else 2), f"{name}.1")

    def after_part(self, x: Signal, part: int) -> Signal:
        """The temporal filter in the skip path, after a part's last ReLU (Figure 4(a))."""
        if part not in self.in_skips:
            return x
        y = self.filter_time(x.post, f"skip_temporal.conv{part}")
        return Signal(y, y)

    def classify(self, x: Tensor, pool: str, window: int | None, side: int) -> Tensor:
        """(B * T, C, h, w) to logits (B, P, classes): eq. (10), and the mean over all windows of `side` x `side`."""
        video = x.unflatten(0, (-1, self.chunks))
        length = 1 if pool == "none" else min(window or self.chunks, self.chunks)
        height, width = (min(side, size) for size in x.shape[-2:])
        outputs = []
        for t in range(self.chunks - length + 1):
            run = video[:, t : t + length]
            pooled = run.mean(dim=1) if pool == "average" else torch.stack(list(run.unbind(1))).max(dim=0).values
            places = [
                pooled[..., i : i + height, j : j + width].mean(dim=(2, 3)) @ self.weights["fc.weight"].T
                + self.weights["fc.bias"]
                for i in range(x.shape[-2] - height + 1)
                for j in range(x.shape[-1] - width + 1)
            ]
            outputs.append(sum(places) / len(places))
        return torch.stack(outputs, dim=1)


def gated(receiver: PlainStream, own: Signal, other: Signal, part: int, unit: int, gate: Any) -> Tensor:
    """A unit that receives the other stream: the sum before its ReLU."""
    if gate.site == "direct":  # Figure 2(a), (b): both paths carry the fused signal
        fused = own.post + other.post if gate.fusion == "add" else own.post * other.post
        return receiver.skip(fused, part, unit) + receiver.branch(fused, part, unit)
    x = own.pre if gate.operand == "pre_relu" else own.post
    fused = x + other.post if gate.fusion == "add" else x * other.post  # eq. (2), eq. (5)
    return receiver.skip(own.post, part, unit) + receiver.branch(fused, part, unit)


def logits(config: Any, weights: dict[str, Tensor], given: list[Tensor], training: bool = False) -> list[Tensor]:
    """Each output's logits, (B, P, classes), of a network with these weights (names as in its state dict)."""
    chunks = given[0].shape[1]
    streams, signals = {}, {}
    for stream, frames in zip(config.streams, given, strict=True):
        prefix = f"streams.{stream.name}."
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        injector = config.temporal.motion_injector if stream.name == "motion" else None
        streams[stream.name] = PlainStream(own, stream.arch, injector or config.temporal.injector, chunks, training)
        signals[stream.name] = streams[stream.name].stem(frames)
    receivers = {
        "motion_to_appearance": {"appearance": "motion"},
        "appearance_to_motion": {"motion": "appearance"},
        "both": {"appearance": "motion", "motion": "appearance"},
    }[config.gate.direction] if config.gate else {}  # fmt: skip
    for part in (2, 3, 4, 5):
        shared = min(stream.units[part] for stream in streams.values())
        for unit in range(1, max(stream.units[part] for stream in streams.values()) + 1):
            before = dict(signals)
            for name, stream in streams.items():
                if unit > stream.units[part]:
                    continue
                here = unit == 2 if config.gate and config.gate.units == "second_unit" else unit <= shared
                if name in receivers and here:
                    pre = gated(stream, before[name], before[receivers[name]], part, unit, config.gate)
                else:  # eq. (1)
                    x = before[name].post
                    pre = stream.skip(x, part, unit) + stream.branch(x, part, unit)
                signals[name] = Signal(pre, relu(pre))
        signals = {name: stream.after_part(signals[name], part) for name, stream in streams.items()}
    side = -(-config.size // 32)
    temporal = config.temporal
    outputs = [s.classify(signals[n].post, temporal.pool, temporal.window, side) for n, s in streams.items()]
    if config.prediction == "averaged":
        return [sum(outputs) / 2]
    if config.prediction == "concatenated":
        return [torch.cat(outputs, dim=-1) @ weights["joint_fc.weight"].T + weights["joint_fc.bias"]]
    return outputs
