"""Two streams without gates, and gates that start as if they were not there."""

import pytest
import torch
from helpers.networks import randomize_filters, randomize_norms, stable_pair, tied, videos
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

from stmn.nets.build import build_network
from stmn.nets.config import GateConfig, TemporalConfig
from stmn.nets.fusions import BlendedMultiply
from stmn.nets.network import Network

LABELS = torch.tensor([2, 0])
FILTERS = TemporalConfig(injector="residual", pool="max")


def untied(*pair: str, **config: object) -> Network:
    return randomize_filters(randomize_norms(tied(*pair, gate=GateConfig(fusion="none"), **config)))


def gradients(network: Network, given: list[Tensor]) -> dict[str, Tensor]:
    network.zero_grad()
    sum(cross_entropy(logits, LABELS) for logits in network(*given)).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if name.startswith("streams.")}


@pytest.mark.parametrize("pair", [("resnet18", "resnet18"), ("resnet18", "resnet26"), ("resnet10t", "resnet18")])
@pytest.mark.parametrize("training", [False, True])
def test_untied_streams_are_each_stream_alone(pair, training):
    """Also streams that no gate could tie: of other channels, or without second units."""
    temporal = TemporalConfig(pool="max") if "resnet10t" in pair else FILTERS
    width = 1.0 if "resnet10t" in pair else 0.125
    network = untied(*pair, temporal=temporal, width=width).train(training)
    assert not network.gates and network.receivers == []
    rgb, flow = videos(network, 3)
    together = network(rgb, flow)
    for number, given in enumerate((rgb, flow)):
        config = network.config.model_copy(update={"streams": [network.config.streams[number]], "gate": None})
        alone = build_network(config)
        alone.load_state_dict({k: v for k, v in network.state_dict().items() if k in alone.state_dict()})
        assert torch.equal(alone.train(training)(given)[0], together[number])


def test_losses_of_untied_streams_reach_their_own_stream_alone():
    network = untied()
    appearance, _ = network(*videos(network, 1))
    cross_entropy(appearance, LABELS).backward()
    touched = {name.split(".")[1] for name, p in network.named_parameters() if p.grad is not None}
    assert touched == {"appearance"}


@pytest.mark.parametrize("gate", [
    {}, {"operand": "post_relu"}, {"site": "direct"}, {"direction": "appearance_to_motion"},
    {"direction": "both", "units": "every_unit"},
], ids=str)  # fmt: skip
def test_blended_gates_start_as_the_untied_pair(gate):
    """The logits to the bit, and the gradient of every weight that both have."""
    network = untied("resnet18", "resnet34", temporal=FILTERS)
    blended = tied("resnet18", "resnet34", gate=GateConfig(fusion="blended_multiply", **gate), temporal=FILTERS)
    blended.load_state_dict(blended.state_dict() | network.state_dict())
    given = videos(network, 3)
    for training in (False, True):
        expected, found = (net.train(training)(*given) for net in (network, blended))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    expected, found = (gradients(net.eval(), given) for net in (network, blended))
    assert all(torch.allclose(found[name], expected[name], rtol=1e-4, atol=1e-7) for name in expected)
    moved = [gate.scale.grad.abs().max() for gate in blended.gates.values()]
    assert len(moved) >= 4 and min(moved) > 0, "and they learn how much to gate"


@pytest.mark.parametrize("operand", ["pre_relu", "post_relu"])
def test_blended_gates_of_scale_1_are_the_papers(operand):
    paper = stable_pair(gate=GateConfig(operand=operand)).double()
    blended = stable_pair(gate=GateConfig(fusion="blended_multiply", operand=operand)).double()
    weights = paper.state_dict()
    ones = {name: torch.ones_like(value) for name, value in blended.state_dict().items() if name.endswith(".scale")}
    blended.load_state_dict(weights | ones)
    given = videos(paper, 1)
    for ours, theirs in zip(blended(*given), paper(*given), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_scale_of_each_channel_blends_the_product_in():
    gate = BlendedMultiply(3, start=0.25)
    assert gate.scale.tolist() == [0.25] * 3
    nn.init.uniform_(gate.scale)
    generator = torch.Generator().manual_seed(1)
    x, sent = torch.randn(2, 3, 4, 5, generator=generator), torch.rand(2, 3, 4, 5, generator=generator)
    for channel in range(3):
        plain, product = relu(x[:, channel]), x[:, channel] * sent[:, channel]
        expected = torch.lerp(plain, product, float(gate.scale[channel].detach()))
        torch.testing.assert_close(gate(x, sent)[:, channel], expected)
