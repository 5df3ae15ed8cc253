"""What a gate is sent can be asked for, to be looked at."""

import pytest
import torch
from helpers.networks import shaken, tied, videos

from stmn.nets.config import GateConfig, TemporalConfig


def up_to(network, name: str, x: torch.Tensor, stage: int) -> torch.Tensor:
    """A stream's maps before the second unit of a stage, where no gate has a part in them."""
    backbone = network.stream(name).backbone
    chunks = x.shape[1]
    x = backbone.stem(x.flatten(0, 1))
    for number, units in enumerate(backbone.stages[: stage + 1]):
        for unit in units if number < stage else units[:1]:
            x = unit.activate(unit.join(unit.shortcut(x), unit.residual(x, chunks)))
        if number < stage:
            x = backbone.behind_stage(number, x, chunks)
    return x


@pytest.mark.parametrize("direction", ["motion_to_appearance", "appearance_to_motion"])
@pytest.mark.parametrize("motion", ["resnet18", "resnet34"])
@torch.no_grad()
def test_a_gate_is_sent_what_the_other_stream_has_there(direction, motion):
    """The stream that no gate leads to is as if it were alone, at every stage."""
    network = shaken(
        tied(motion=motion, gate=GateConfig(direction=direction), temporal=TemporalConfig(injector="last_unit"))
    )
    rgb, flow = videos(network, 3, 64, 96)
    sender, given = ("motion", flow) if direction == "motion_to_appearance" else ("appearance", rgb)
    for stage in range(4):
        sent = network.sent(rgb, flow, stage)
        assert sent.shape[-2:] == (64 // 2 ** (stage + 2), 96 // 2 ** (stage + 2))
        assert torch.equal(sent, up_to(network, sender, given, stage))


@torch.no_grad()
def test_where_both_streams_are_gated_it_is_what_motion_sends():
    network = shaken(tied(gate=GateConfig(direction="both")))
    rgb, flow = videos(network, 2)
    assert torch.equal(network.sent(rgb, flow, 0), up_to(network, "motion", flow, 0))  # before any gate
    shut = network.sent(torch.zeros_like(rgb), flow, 2)
    assert not torch.equal(network.sent(rgb, flow, 2), shut), "appearance has gated motion before"
