"""timm's residual blocks, opened up: shortcut, residual branch and their sum before the ReLU are each at hand.

The modules are timm's own, under timm's names, so state dicts load unchanged.
"""

from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn


class Unit(nn.Module):
    """A residual unit, eq. (1): x' = f(shortcut(x) + F(x)).

    `temporal` is a filter over chunks behind the residual branch's 3x3 convolution, or None; an injector sets it.
    """

    last_activation: str  # the name of the one behind the sum
    middle: int  # channels where the temporal filter sits
    conv1: nn.Conv2d
    bn1: nn.Module
    act1: nn.Module
    conv2: nn.Conv2d
    bn2: nn.Module
    act2: nn.Module
    aa: nn.Module
    drop_block: nn.Module
    temporal: nn.Module | None
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

    def keep_sum(self) -> None:
        """Leave the sum before the last ReLU as it is, for a gate that reads it; elsewhere the ReLU overwrites it.

        Fresh memory for what it writes costs as much as the ReLU.
        """
        last = getattr(self, self.last_activation)
        if isinstance(last, nn.ReLU):
            last.inplace = False

    def shortcut(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the unit's output shape: the identity, or timm's downsampling."""
        return x if self.downsample is None else self.downsample(x)

    def residual(self, x: Tensor, chunks: int) -> Tensor:
        """The residual branch F; N is videos x `chunks`."""
        raise NotImplementedError

    def join(self, shortcut: Tensor, residual: Tensor) -> Tensor:
        """Their sum before the ReLU, `pre`; the branch's memory holds it, as in timm's blocks."""
        return residual.add_(shortcut)

    def activate(self, pre: Tensor) -> Tensor:
        """The non-linearity f behind the sum."""
        raise NotImplementedError

    def filtered(self, x: Tensor, chunks: int) -> Tensor:
        """The temporal filter, where there is one."""
        return x if self.temporal is None else self.temporal(x, chunks)

    def finish(self, x: Tensor) -> Tensor:
        """What timm may have at the branch's end: squeeze-excitation, stochastic depth."""
        if self.se is not None:
            x = self.se(x)
        return x if self.drop_path is None else self.drop_path(x)


class BasicUnit(Unit):
    """Two 3x3 convolutions (ResNet-18, 34); the temporal filter sits between them."""

    last_activation = "act2"

    def __init__(self, block: BasicBlock) -> None:
        super().__init__(block)
        self.middle = block.conv2.in_channels

    def residual(self, x: Tensor, chunks: int) -> Tensor:
        """F(x): 3x3, BN, ReLU, [temporal], 3x3, BN."""
        x = self.aa(self.act1(self.drop_block(self.bn1(self.conv1(x)))))
        x = self.filtered(x, chunks)
        return self.finish(self.bn2(self.conv2(x)))

    def activate(self, pre: Tensor) -> Tensor:
        """f(pre)."""
        return self.act2(pre)


class BottleneckUnit(Unit):
    """1x1, 3x3, 1x1 (ResNet-50 and deeper); the temporal filter sits behind the 3x3 (Table 1)."""

    last_activation = "act3"
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
        x = self.filtered(x, chunks)
        return self.finish(self.bn3(self.conv3(x)))

    def activate(self, pre: Tensor) -> Tensor:
        """f(pre)."""
        return self.act3(pre)


def open_unit(block: nn.Module) -> Unit:
    """The unit of a timm block. Raises `TypeError` for blocks that are not a ResNet's."""
    if isinstance(block, Bottleneck):
        return BottleneckUnit(block)
    if isinstance(block, BasicBlock):
        return BasicUnit(block)
    raise TypeError(f"{type(block).__name__} is no ResNet block")
