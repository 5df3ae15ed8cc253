"""Backbones for stmn: timm's ConvNeXts (Liu et al., CVPR 2022), opened up into a stem and parts of residual units.

A ConvNeXt has no ReLU after its sums: what a gate is sent, and what it takes, has both signs. Its parameters have
timm's names, so `--weights FILE` starts from a file of timm's weights.
"""

from functools import partial

import timm
from timm.models.convnext import ConvNeXt, ConvNeXtBlock
from torch import Tensor, nn

__all__ = ["ConvNeXtBackbone", "ConvNeXtUnit", "convnext_atto", "convnext_base", "convnext_small", "convnext_tiny"]


class ConvNeXtUnit(nn.Module):
    """A ConvNeXt block as a residual unit: x + F(x); there is no activation after the sum. A `stmn.plugins.Unit`.

    The temporal filter sits after the depthwise convolution. The first unit of a part begins with the part's
    downsampling, which its skip path and its residual branch share in timm; here each computes it, so that a gate can
    be on the branch alone.

    Attributes:
        in_channels: channels of the input.
        out_channels: channels of the output.
        middle: channels where the temporal filter sits.
        temporal: the filter over chunks; injectors set it.
    """

    temporal: nn.Module | None

    def __init__(self, block: ConvNeXtBlock, before: nn.Module, in_channels: int, after: nn.Module) -> None:
        super().__init__()
        self.conv_dw, self.norm, self.mlp, self.gamma = block.conv_dw, block.norm, block.mlp, block.gamma
        self.drop_path = block.drop_path
        self.in_channels = in_channels
        self.out_channels = self.middle = block.conv_dw.out_channels
        self.channels_first = block.use_conv_mlp
        self.temporal = None
        self._outside = [before, after]  # in a list: their weights are the part's and the head's, not the unit's

    def shortcut(self, x: Tensor) -> Tensor:
        """The skip path: the identity, or the part's downsampling."""
        found: Tensor = self._outside[0](x)
        return found

    def residual(self, x: Tensor, chunks: int) -> Tensor:
        """F(x): depthwise 7x7, [temporal], layer norm, 1x1, GELU, 1x1, scale."""
        x = self.conv_dw(self._outside[0](x))
        if self.temporal is not None:
            x = self.temporal(x, chunks)
        if self.channels_first:
            x = self.mlp(self.norm(x))
        else:
            x = self.mlp(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        x = x if self.gamma is None else x * self.gamma.reshape(1, -1, 1, 1)
        found: Tensor = self.drop_path(x)
        return found

    def join(self, shortcut: Tensor, residual: Tensor) -> Tensor:
        """Add up both paths."""
        return shortcut + residual

    def activate(self, pre: Tensor) -> Tensor:
        """Nothing; after the last unit the layer norm of timm's head."""
        found: Tensor = self._outside[1](pre)
        return found

    def keep_sum(self) -> None:
        """Nothing: `activate` never overwrites the sum."""


class _Part(nn.Module):
    """A stage of timm's under timm's names."""

    def __init__(self, downsample: nn.Module, blocks: list[ConvNeXtUnit]) -> None:
        super().__init__()
        self.downsample, self.blocks = downsample, nn.ModuleList(blocks)


class ConvNeXtBackbone(nn.Module):
    """A ConvNeXt as a stem and parts. A `stmn.plugins.Backbone`.

    Attributes:
        stem: 4x4 convolution with stride 4, and layer norm.
        num_features: channels of the last part.
        skip_temporal: temporal filters in the skip path, by part; injectors fill it.
    """

    stride = 32
    layout = "torchvision"

    def __init__(self, net: ConvNeXt) -> None:
        super().__init__()
        self.stem = net.stem
        self.stages = nn.ModuleList()
        self.head = nn.ModuleDict({"norm": net.head.norm})
        channels = net.stem[0].out_channels
        for number, stage in enumerate(net.stages, 1):
            units = []
            for index, block in enumerate(stage.blocks, 1):
                before = stage.downsample if index == 1 else nn.Identity()
                is_last = number == len(net.stages) and index == len(stage.blocks)
                units.append(ConvNeXtUnit(block, before, channels, net.head.norm if is_last else nn.Identity()))
                channels = units[-1].out_channels
            self.stages.append(_Part(stage.downsample, units))
        self.num_features = channels
        self.skip_temporal = nn.ModuleDict()

    @property
    def parts(self) -> dict[str, list[ConvNeXtUnit]]:
        """The units of each part."""
        return {f"conv{number}": list(stage.blocks) for number, stage in enumerate(self.stages, 2)}

    @property
    def channels(self) -> dict[str, int]:
        """The output channels of each part."""
        return {part: units[-1].out_channels for part, units in self.parts.items()}


def _build(name: str, *, in_channels: int, width: float, drop_path: float = 0.0) -> ConvNeXtBackbone:
    """A ConvNeXt of timm with random weights.

    Args:
        name: timm's name.
        in_channels: channels that the stem reads: 3 for RGB, 2L for flow.
        width: scales the channels of all parts, the stem's too.
        drop_path: probability of skipping the last residual branch in training; less before it.

    Raises:
        ValueError: `drop_path` is no probability.
    """
    if not 0 <= drop_path < 1:
        raise ValueError(f"drop_path = {drop_path}: must be 0 or more and below 1")
    plain: ConvNeXt = timm.create_model(name, num_classes=0)
    dims = tuple(max(8, 8 * round(stage.blocks[0].conv_dw.out_channels * width / 8)) for stage in plain.stages)
    return ConvNeXtBackbone(
        timm.create_model(
            name,
            in_chans=in_channels,
            num_classes=0,
            drop_path_rate=drop_path,
            **({} if width == 1 else {"dims": dims}),
        )
    )


convnext_atto = partial(_build, "convnext_atto")
convnext_tiny = partial(_build, "convnext_tiny")
convnext_small = partial(_build, "convnext_small")
convnext_base = partial(_build, "convnext_base")
