"""A network of one stream."""

from torch import Tensor

from stmn.nets.network import Network


class SingleStream(Network):
    """One stream alone (section 3.1)."""

    def feature_maps(self, *videos: Tensor) -> tuple[Tensor]:
        """Compute the last feature maps, (B * T, C, h, w)."""
        (video,) = videos
        chunks = video.shape[1]
        stream = self.stream(self.names[0])
        x = stream.stem(video)
        for part, units in stream.backbone.parts.items():
            for unit in units:
                x = unit(x.out, x.out, chunks)  # eq. (1)
            x = stream.after_part(part, x, chunks)
        return (x.out,)
