"""Residual units: timm's blocks, opened up so that skip path, residual branch and their sum are accessible.

The modules are timm's own, under timm's names, so that state dicts load unchanged.
"""

from typing import NamedTuple

from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn


class Activation(NamedTuple):
    """A feature map before and after a ReLU f; (N, C, H, W) each.

    Where the last step is not a ReLU (pool1, or a temporal filter in the skip path), both are the same.

    Attributes:
        pre: x, the sum before the ReLU. Units overwrite it in place unless `Unit.keep_sum` was called.
        out: f(x), the value after it.
    """

    pre: Tensor
    out: Tensor


class Unit(nn.Module):
    """A residual unit, eq. (1): f(shortcut(x) + F(x)).

    In code that is `activate(join(shortcut(x), residual(x, chunks)))`. At a gate, the argument of `residual` differs.
    All maps are (N, C, H, W), where N is videos times chunks.

    Attributes:
        middle: channels where the temporal filter sits.
        temporal: a filter over chunks in the residual branch, or None; injectors set it. It is called with
            (N, `middle`, H, W) and the number of chunks.
    """

    middle: int
    temporal: nn.Module | None
    conv1: nn.Conv2d
    bn1: nn.Module
    act1: nn.Module
    conv2: nn.Conv2d
    bn2: nn.Module
    act2: nn.Module
    aa: nn.Module
    drop_block: nn.Module
    downsample: nn.Module | None
    se: nn.Module | None
    drop_path: nn.Module | None

    def __init__(self, block: BasicBlock | Bottleneck) -> None:
        super().__init__()
        for name, module in block.named_children():
            setattr(self, name, module)
        for name in ("se", "drop_path", "downsample"):
            if getattr(block, name, None) is None:
                setattr(self, name, None)
        self.temporal = None

    def shortcut(self, x: Tensor) -> Tensor:
        """The skip path: the identity, or timm's downsampling."""
        return x if self.downsample is None else self.downsample(x)

    def residual(self, x: Tensor, chunks: int) -> Tensor:
        """The residual branch F, with its temporal filter; N is videos times `chunks`."""
        raise NotImplementedError

    def join(self, shortcut: Tensor, residual: Tensor) -> Tensor:
        """Add both paths. The sum overwrites the branch, as in timm's blocks."""
        return residual.add_(shortcut)

    def activate(self, pre: Tensor) -> Tensor:
        """Apply the last ReLU, f; in place unless `keep_sum` was called."""
        activated: Tensor = self._last_relu(pre)
        return activated

    def keep_sum(self) -> None:
        """Keep `Activation.pre`, for a gate that reads it.

        By default the last ReLU overwrites it: allocating memory for its output would cost as much as the ReLU itself.
        """
        if isinstance(self._last_relu, nn.ReLU):
            self._last_relu.inplace = False

    @property
    def in_channels(self) -> int:
        """Channels of the input, where a gate combines the streams."""
        return self.conv1.in_channels

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        raise NotImplementedError

    @property
    def _last_relu(self) -> nn.Module:
        """The activation after the sum."""
        raise NotImplementedError

    def _filter_time(self, x: Tensor, chunks: int) -> Tensor:
        """Apply the temporal filter, if there is one."""
        return x if self.temporal is None else self.temporal(x, chunks)

    def _finish(self, x: Tensor) -> Tensor:
        """Apply timm's optional modules at the end of the branch: squeeze-and-excitation, stochastic depth."""
        if self.se is not None:
            x = self.se(x)
        return x if self.drop_path is None else self.drop_path(x)


class BasicUnit(Unit):
    """Two 3x3 convolutions (ResNet-18 and 34), with the temporal filter between them."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__(block)
        self.middle = block.conv2.in_channels

    def residual(self, x: Tensor, chunks: int) -> Tensor:
        """F(x): 3x3, BN, ReLU, [temporal], 3x3, BN."""
        x = self.aa(self.act1(self.drop_block(self.bn1(self.conv1(x)))))
        x = self._filter_time(x, chunks)
        return self._finish(self.bn2(self.conv2(x)))

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.conv2.out_channels

    @property
    def _last_relu(self) -> nn.Module:
        return self.act2


class BottleneckUnit(Unit):
    """1x1, 3x3 and 1x1 convolutions (ResNet-50 and deeper), with the temporal filter after the 3x3 (Table 1)."""

    conv3: nn.Conv2d
    bn3: nn.Module
    act3: nn.Module

    def __init__(self, block: Bottleneck) -> None:
        super().__init__(block)
        self.middle = block.conv3.in_channels

    def residual(self, x: Tensor, chunks: int) -> Tensor:
        """F(x): 1x1, BN, ReLU, 3x3, BN, ReLU, [temporal], 1x1, BN."""
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.aa(self.act2(self.drop_block(self.bn2(self.conv2(x)))))
        x = self._filter_time(x, chunks)
        return self._finish(self.bn3(self.conv3(x)))

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.conv3.out_channels

    @property
    def _last_relu(self) -> nn.Module:
        return self.act3


def open_unit(block: nn.Module) -> Unit:
    """Open up a timm block.

    Raises:
        TypeError: it is not a block of a ResNet.
    """
    if isinstance(block, Bottleneck):
        return BottleneckUnit(block)
    if isinstance(block, BasicBlock):
        return BasicUnit(block)
    raise TypeError(f"{type(block).__name__} is not a ResNet block")
