"""One stream: a backbone with temporal filters, pooling over time and its own classifier."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stmn.nets.backbones import create_backbone
from stmn.nets.classifier import Float32Linear, at_least_float32
from stmn.nets.config import NetworkConfig, StreamConfig
from stmn.nets.temporal import pool_time
from stmn.nets.units import Activation
from stmn.registry.options import build


class Stream(nn.Module):
    """A stream, which `SingleStream` and `TwoStream` run part by part.

    Attributes:
        backbone: stem and parts, with temporal filters injected.
        dropout: before the classifier.
        fc: the classifier.
        temporal: how features are pooled over time.
        window: side of the windows that are averaged over space.

    Raises:
        UsageError: there is no such backbone, or it has no place for the filters.
        PluginError: a plugin can't be loaded.
    """

    def __init__(self, config: NetworkConfig, stream: StreamConfig) -> None:
        super().__init__()
        self.backbone = create_backbone(
            stream.arch, config.in_channels(stream.modality), stream.width, stream.layout, stream.arch_options
        )
        temporal, modality = config.temporal, stream.modality
        build(
            "injector", temporal.injector_of(modality), temporal.injector_options_of(modality),
            self.backbone, temporal.length, temporal.init,
        )  # fmt: skip
        self.dropout = nn.Dropout(stream.dropout)
        self.fc = Float32Linear(self.backbone.num_features, len(config.classes))
        nn.init.normal_(self.fc.weight, std=0.01)  # as in the authors' code
        nn.init.zeros_(self.fc.bias)
        self.temporal = config.temporal
        self.window = config.window

    def stem(self, chunks: Tensor) -> Activation:
        """Compute the input of the first unit: (B, T, C, H, W) chunks to (B * T, 64, H/4, W/4)."""
        x = self.backbone.stem(chunks.flatten(0, 1))
        return Activation(x, x)  # pool1 comes last, not a ReLU

    def after_part(self, part: str, x: Activation, chunks: int) -> Activation:
        """Apply the temporal filter in the skip path after a part, if there is one (Figure 4(a)).

        Args:
            part: its name in `PARTS`.
            x: output of the part's last unit, (B * chunks, C, h, w).
            chunks: chunks of each video, T.

        Returns:
            The input of the next part, of the same shape.
        """
        if part not in self.backbone.skip_temporal:
            return x
        out = self.backbone.skip_temporal[part](x.out, chunks)
        return Activation(out, out)  # no ReLU follows the filter

    def logits(self, features: Tensor, chunks: int) -> Tensor:
        """Classify the last feature maps, fully convolutionally in space and time (section 4.2).

        Pool over time, average over windows of the training map's size at stride 1, classify each window and average
        the logits over space. The classifier is linear, so the average over space is taken before it.

        Args:
            features: (B * chunks, C, h, w).
            chunks: chunks of each video, T.

        Returns:
            (B, P, classes) at the P places in time that pooling leaves.
        """
        logits: Tensor = self.fc(self.dropout(self.pooled(features, chunks)))
        return logits

    def pooled(self, features: Tensor, chunks: int) -> Tensor:
        """Pool the last feature maps over time and average them over windows and space: the classifier's input.

        Args:
            features: (B * chunks, C, h, w).
            chunks: chunks of each video, T.

        Returns:
            (B, P, C) at the P places in time that pooling leaves.
        """
        maps = self._average_windows(features, chunks)
        return torch.unflatten(maps.mean(dim=(2, 3)), 1, (-1, self.fc.in_features))

    def window_logits(self, features: Tensor, chunks: int) -> Tensor:
        """Classify the windows of the last feature maps one by one, for averages that are not linear.

        Args:
            features: (B * chunks, C, h, w).
            chunks: chunks of each video, T.

        Returns:
            (B, P, W, classes) of W windows, whose mean over W is `logits`.
        """
        maps = self._average_windows(features, chunks)
        if self.window >= max(features.shape[-2:]):  # the whole map is the one window
            maps = maps.mean(dim=(2, 3), keepdim=True)
        maps = maps.unflatten(1, (-1, self.fc.in_features))  # (B, P, C, rows, columns)
        logits: Tensor = self.fc(self.dropout(maps.flatten(3).transpose(2, 3)))
        return logits

    def _average_windows(self, features: Tensor, chunks: int) -> Tensor:
        """Pool over time and average over windows: returns (B, P * C, rows, columns) of windows.

        A map no larger than a window is returned whole: its mean over space is its only window. An exported network
        takes maps of at least a window, so it has no such branch.
        """
        features = at_least_float32(features)
        pooled = pool_time(features, chunks, self.temporal.pool, self.temporal.window)  # (B, P, C, h, w)
        maps = pooled.flatten(1, 2)  # (B, P * C, h, w): only C may be a constant in an exported network
        if torch.compiler.is_exporting():
            return F.avg_pool2d(maps, self.window, stride=1)
        window = (min(self.window, features.shape[-2]), min(self.window, features.shape[-1]))
        if window != tuple(features.shape[-2:]):  # without windows this is timm's own pooling, to the bit
            maps = F.avg_pool2d(maps, window, stride=1)
        return maps
