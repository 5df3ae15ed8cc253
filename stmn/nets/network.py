"""The base class of all networks: named streams, and logits for each output."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from stmn.nets.config import NetworkConfig
from stmn.nets.stream import Stream
from stmn.nets.units import Activation

#: name of the output of a network that joins the logits of two streams
FUSED = "fused"


class Network(nn.Module):
    """A network of one or two streams.

    It takes one tensor for each stream, in the order of `names`: (B, T, C, H, W), T chunks of each of B videos. H and
    W may be any size. It returns one tensor for each of `outputs`. Nothing is kept between calls.

    Attributes:
        config: the configuration that it was built from.
        names: the streams in order, `appearance` and `motion`.
        outputs: the outputs by name: the streams, or `fused` if both streams make one prediction.
        streams: the streams by name.

    Raises:
        UsageError: the parts of the network don't fit together.
        PluginError: a plugin can't be loaded.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.names = [stream.name for stream in config.streams]
        self.outputs = self.names if config.prediction == "per_stream" else [FUSED]
        self.streams = nn.ModuleDict({stream.name: Stream(config, stream) for stream in config.streams})

    def stream(self, name: str) -> Stream:
        """The stream `appearance` or `motion`."""
        return cast(Stream, self.streams[name])

    def forward(self, *videos: Tensor) -> tuple[Tensor, ...]:
        """Compute logits (B, classes) for each output: the mean over places in time."""
        return mean_over_time(self.logits(*videos))

    def logits(self, *videos: Tensor) -> tuple[Tensor, ...]:
        """Compute logits (B, P, classes) for each output, at the P places in time that pooling leaves."""
        return self.classify(self.feature_maps(*videos), videos[0].shape[1])

    def feature_maps(self, *videos: Tensor) -> tuple[Tensor, ...]:
        """Compute the last feature maps of each stream, (B * T, C, h, w)."""
        raise NotImplementedError

    def run_stems(self, *videos: Tensor) -> tuple[Activation, ...]:
        """Compute the input of each stream's first unit from its (B, T, C, H, W) video."""
        return tuple(self.stream(name).stem(video) for name, video in zip(self.names, videos, strict=True))

    def run_parts(self, x: Sequence[Activation], parts: Sequence[str], chunks: int) -> tuple[Activation, ...]:
        """Run consecutive parts of all streams.

        Args:
            x: output of the part before for each stream, (B * chunks, C, h, w); for conv2, the output of `run_stems`.
            parts: their names in `PARTS`, in order.
            chunks: chunks of each video, T.

        Returns:
            The output of the last part for each stream.
        """
        raise NotImplementedError

    def classify(self, maps: Sequence[Tensor], chunks: int, per_window: bool = False) -> tuple[Tensor, ...]:
        """Compute the logits of last feature maps.

        Args:
            maps: the output of `feature_maps`.
            chunks: chunks of each video, T.
            per_window: don't average over the windows in space.

        Returns:
            (B, P, classes) for each output, or (B, P, windows, classes).
        """
        found: list[Tensor] = []
        for name, x in zip(self.names, maps, strict=True):
            stream = self.stream(name)
            found.append(stream.window_logits(x, chunks) if per_window else stream.logits(x, chunks))
        return tuple(found)


def mean_over_time(logits: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Average logits (B, P, classes) over places in time, to (B, classes)."""
    return tuple(output.mean(dim=1) for output in logits)
