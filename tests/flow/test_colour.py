"""Flow as pictures: a scale that suits what moves, and a background that stays white."""

import pytest
import torch
from torch import Tensor

from stmn.flow.colour import colour_scale, colour_wheel, paint_flow
from stmn.flow.quantise import dequantise_for_display, quantise


def subject(speed: float, side: int = 8, background: float = 0.0) -> Tensor:
    """(1, 2, 64, 64): a square that moves to the right by `speed` pixels over a background that moves down."""
    flow = torch.zeros(1, 2, 64, 64)
    flow[:, 1] = background
    flow[:, :, 20 : 20 + side, 20 : 20 + side] = torch.tensor([speed, 0.0])[:, None, None]
    return flow


@pytest.mark.parametrize("side", [2, 8, 40])
def test_scale_is_the_subjects_whatever_its_size(side):
    assert colour_scale(subject(6, side)) == pytest.approx(6)
    assert colour_scale(subject(6, side, background=0.2)) == pytest.approx(6)  # noise does not count


def test_scale_has_a_floor():
    assert colour_scale(subject(0.9)) == 2
    assert colour_scale(torch.zeros(3, 2, 10, 10)) == 2


def test_a_few_outliers_fade_nothing():
    flow = subject(4, 20)
    flow[:, 0, 25, 25:35] = 300
    assert colour_scale(flow) == pytest.approx(4)
    painted = paint_flow(flow)
    assert torch.equal(painted[0, :, 25, 25], painted[0, :, 21, 21])  # in full strength like everything fast


def test_noise_of_the_store_is_white_and_the_subject_is_not():
    flow = subject(1.5, 6)
    levels = quantise(flow, 20.0).int() + torch.randint(-2, 3, flow.shape, generator=torch.Generator().manual_seed(0))
    shown = dequantise_for_display(levels.to(torch.uint8), 20.0)
    painted = paint_flow(shown)[0]
    still = torch.ones(64, 64, dtype=torch.bool)
    still[20:26, 20:26] = False
    assert (painted[:, still] == 255).all()
    red, green, blue = painted[:, 20:26, 20:26].float().mean(dim=(1, 2))
    assert red > 240 and max(green, blue) < 140


def test_colours_are_those_of_the_wheel():
    wheel = colour_wheel(65)
    assert (wheel[:, 32, 32] == 255).all()
    for row, column, u, v in ((32, 64, 3, 0), (32, 0, -3, 0), (0, 32, 0, -3), (64, 32, 0, 3)):
        flow = torch.tensor([float(u), float(v)])[None, :, None, None]
        assert (paint_flow(flow, full=3)[0, :, 0, 0].int() - wheel[:, row, column]).abs().max() <= 1
