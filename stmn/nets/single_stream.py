"""A network of one stream."""

from collections.abc import Sequence

from torch import Tensor

from stmn.nets.backbones import PARTS
from stmn.nets.network import Network
from stmn.nets.units import Activation


class SingleStream(Network):
    """One stream alone (section 3.1)."""

    def feature_maps(self, *videos: Tensor) -> tuple[Tensor]:
        """Compute the last feature maps, (B * T, C, h, w)."""
        [x] = self.run_parts(self.run_stems(*videos), PARTS, videos[0].shape[1])
        return (x.out,)

    def run_parts(self, x: Sequence[Activation], parts: Sequence[str], chunks: int) -> tuple[Activation]:
        """Run consecutive parts of the stream on the output of the part before."""
        [last], stream = x, self.stream(self.names[0])
        for part in parts:
            for unit in stream.backbone.parts[part]:
                pre = unit.join(unit.shortcut(last.out), unit.residual(last.out, chunks))  # eq. (1)
                last = Activation(pre, unit.activate(pre))
            last = stream.after_part(part, last, chunks)
        return (last,)
