"""An injector for stmn: channels that are shifted along time, in place of temporal convolutions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stmn.plugins import Backbone, TemporalInit

__all__ = ["TemporalShift", "temporal_shift"]


class TemporalShift(nn.Module):
    """Shifts some channels to later and as many to earlier chunks (Lin, Gan, Han, ICCV 2019), by a learned amount.

    x + s (shift(x) - x), where s of each shifted channel is learned: at s = 0 the input, to the bit, and at s = 1 the
    paper's shift. Beyond the first and the last chunk there are zeros.

    Args:
        channels: C, channels of the maps.
        distance: chunks by which they are shifted.
        fold: one of `fold` channels is shifted to later, and one to earlier chunks.
        start: s at the start.
    """

    def __init__(self, channels: int, distance: int, fold: int, start: float) -> None:
        super().__init__()
        self.moved = max(1, channels // fold)  # each way
        self.distance = distance
        self.amount = nn.Parameter(torch.full((2 * self.moved, 1, 1), start))

    def forward(self, x: Tensor, chunks: int) -> Tensor:
        """Shift along time.

        Args:
            x: (videos * chunks, C, H, W), the chunks of each video in order.
            chunks: chunks of each video.

        Returns:
            The same shape.
        """
        videos = torch.unflatten(x, 0, (-1, chunks))
        moving, still = videos[:, :, : 2 * self.moved], videos[:, :, 2 * self.moved :]
        padded = F.pad(moving, (0, 0, 0, 0, 0, 0, self.distance, self.distance))
        later = padded[:, : -2 * self.distance, : self.moved]
        earlier = padded[:, 2 * self.distance :, self.moved :]
        moving = moving + self.amount * (torch.cat([later, earlier], dim=2) - moving)
        return torch.cat([moving, still], dim=2).flatten(0, 1)


def temporal_shift(
    backbone: Backbone, length: int, init: TemporalInit, *, fold: int = 8, every_unit: bool = True
) -> None:
    """Shift channels in the residual branches, before the last convolution of each.

    The paper shifts at the start of the branch; here a filter's place is after the 3x3 convolution, as in Table 1.

    Args:
        backbone: the network, changed in place.
        length: chunks that a shift spans, odd: 3 shifts by one chunk either way.
        init: "centre" starts without shifts, and learns them; "average" starts as the paper's.
        fold: one of `fold` channels is shifted to later, and one to earlier chunks.
        every_unit: in every unit, as in the paper, or in the second unit of each part.

    Raises:
        ValueError: `fold` is below 2, `length` spans no other chunk, or a part has no second unit.
    """
    if fold < 2:
        raise ValueError(f"fold = {fold}: must be 2 or more, as channels are shifted both ways")
    if length < 3:
        raise ValueError(f"a temporal length of {length} shifts nothing: use 3 or more")
    for part, units in backbone.parts.items():
        if len(units) < 2 and not every_unit:
            raise ValueError(f"{part} has no second unit: use every_unit = true")
        for unit in units if every_unit else units[1:2]:
            unit.temporal = TemporalShift(unit.middle, length // 2, fold, 1.0 if init == "average" else 0.0)
