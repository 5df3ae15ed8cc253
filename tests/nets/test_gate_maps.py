"""The signal that a gate is sent, which the overlay shows."""

import pytest
import torch
from helpers.networks import randomize_norms, tied, videos

from stmn.nets.config import GateConfig, TemporalConfig
from stmn.nets.units import Activation


def up_to(network, name: str, x: torch.Tensor, part: str) -> torch.Tensor:
    """A stream's maps before the second unit of a part, if no gate takes part in them."""
    backbone = network.stream(name).backbone
    chunks = x.shape[1]
    x = backbone.stem(x.flatten(0, 1))
    for each, units in backbone.parts.items():
        for unit in units[:1] if each == part else units:
            x = unit.activate(unit.join(unit.shortcut(x), unit.residual(x, chunks)))
        if each == part:
            return x
        x = network.stream(name).after_part(each, Activation(x, x), chunks).out
    raise KeyError(part)


@pytest.mark.parametrize("direction", ["motion_to_appearance", "appearance_to_motion"])
@pytest.mark.parametrize("motion", ["resnet18", "resnet34"])
@torch.no_grad()
def test_gate_is_sent_what_the_other_stream_has_there(direction, motion):
    """The stream without gates is as if it were alone, in every part."""
    network = randomize_norms(
        tied(motion=motion, gate=GateConfig(direction=direction), temporal=TemporalConfig(injector="last_unit"))
    )
    rgb, flow = videos(network, 3, 64, 96)
    sender, given = ("motion", flow) if direction == "motion_to_appearance" else ("appearance", rgb)
    for part, stride in (("conv2", 4), ("conv3", 8), ("conv4", 16), ("conv5", 32)):
        sent = network.gating_signal(part, rgb, flow)
        assert sent.shape[-2:] == (64 // stride, 96 // stride)
        assert torch.equal(sent, up_to(network, sender, given, part))


@torch.no_grad()
def test_with_both_streams_gated_it_is_what_motion_sends():
    network = randomize_norms(tied(gate=GateConfig(direction="both")))
    rgb, flow = videos(network, 2)
    assert torch.equal(
        network.gating_signal("conv2", rgb, flow), up_to(network, "motion", flow, "conv2")
    )  # before any gate
    shut = network.gating_signal("conv4", torch.zeros_like(rgb), flow)
    assert not torch.equal(network.gating_signal("conv4", rgb, flow), shut), "appearance has gated motion before"
