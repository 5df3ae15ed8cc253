"""A network of one stream."""

from torch import Tensor

from stmn.nets.network import Network
from stmn.nets.units import Activation


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
                pre = unit.join(unit.shortcut(x.out), unit.residual(x.out, chunks))  # eq. (1)
                x = Activation(pre, unit.activate(pre))
            x = stream.after_part(part, x, chunks)
        return (x.out,)
