"""A network that is computed by an exported file instead of modules that this package builds."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from stmn.nets.config import NetworkConfig
from stmn.nets.network import FUSED, Network


class OutsideNetwork(Network):
    """A network without modules of its own: a function maps the whole input to logits.

    Its feature maps are unavailable, so videos can't be split in time, and functions that look inside refuse it.

    Args:
        config: the configuration of the network.
        run: maps each stream's (B, T, C, H, W) to each output's logits, (B, classes).
    """

    def __init__(self, config: NetworkConfig, run: Callable[[Sequence[Tensor]], list[Tensor]]) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.names = [stream.name for stream in config.streams]
        self.outputs = self.names if config.prediction == "per_stream" else [FUSED]
        self.streams = nn.ModuleDict()
        self._run = run

    def feature_maps(self, *videos: Tensor) -> tuple[Tensor, ...]:
        """Return the input itself, (B * T, C, H, W) for each stream."""
        return tuple(video.flatten(0, 1) for video in videos)

    def classify(self, maps: Sequence[Tensor], chunks: int, per_window: bool = False) -> tuple[Tensor, ...]:
        """Compute logits from the output of `feature_maps`: (B, 1, classes) for each output, over all windows."""
        videos = [x.unflatten(0, (-1, chunks)) for x in maps]
        logits = [output[:, None] for output in self._run(videos)]
        return tuple(output[:, None] for output in logits) if per_window else tuple(logits)
