"""A network made for testing gives the network's logits, and leaves the network as it is."""

import copy

import pytest
import torch
from helpers.networks import TABLE_2, assert_same_logits, randomize_filters, randomize_norms, stable_pair, videos
from torch import nn

from stmn.nets.build import build_network
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.fast import winograd
from stmn.nets.fast.convolutions import FastConv2d, use_fast_convolutions
from stmn.nets.fast.folding import fold_batch_norms, freeze_convolutions
from stmn.nets.network import Network

SIZE = (64, 96)


def alone(arch: str, **stream: object) -> Network:
    config = NetworkConfig(
        classes=["a", "b", "c"], size=32, stack_length=2,
        streams=[StreamConfig(modality="flow", arch=arch, width=0.25, **stream)],
        temporal=TemporalConfig(injector="residual"),
    )  # fmt: skip
    return randomize_filters(randomize_norms(build_network(config)))


GATES = [
    *(GateConfig(site=site, fusion=fusion, direction=direction) for site, fusion, direction in TABLE_2),
    GateConfig(operand="post_relu"), GateConfig(units="every_unit"), GateConfig(units="every_unit", direction="both"),
]  # fmt: skip
VARIANTS = {
    **{str(number): lambda gate=gate: stable_pair(gate=gate) for number, gate in enumerate(GATES)},
    **{
        injector: lambda injector=injector: stable_pair(temporal=TemporalConfig(injector=injector, pool="max"))
        for injector in ("last_unit", "residual", "residual_every_unit", "skip", "residual_and_skip")
    },
    "every unit of both, filters everywhere": lambda: stable_pair(
        gate=GateConfig(units="every_unit", direction="both"), temporal=TemporalConfig(injector="residual_and_skip")
    ),
    "bottlenecks": lambda: stable_pair("resnet26", "resnet26"),
    "of other depths": lambda: stable_pair("resnet18", "resnet34"),
    "one classifier": lambda: stable_pair(prediction="concatenated"),
    "deep stem": lambda: alone("resnet26d"),
    "anti-aliased": lambda: alone("resnetaa50"),
    "squeeze and excitation": lambda: alone("seresnet18"),
    "caffe": lambda: alone("resnet50", layout="caffe"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_network_for_testing_gives_same_logits(name):
    """Up to 1e-4 of the largest logit, for any variant. The original network does not change."""
    net = VARIANTS[name]()
    before = copy.deepcopy(net.state_dict())
    given = videos(net, 4, *SIZE)
    with torch.inference_mode():
        expected = net(*given)
        ready = fold_batch_norms(net)
        assert_same_logits(ready(*given), expected)
        freeze_convolutions(ready)
        assert_same_logits(ready(*given), expected)
        assert_same_logits(net(*given), expected, 0)
    assert not any(type(module) is nn.BatchNorm2d for module in ready.modules())
    assert any(isinstance(module, FastConv2d) for module in ready.modules()) == (winograd.problem() is None)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    sum(logits.sum() for logits in net.train()(*given)).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_trained_network_is_made_ready_for_testing_too():
    """Its convolutions are fast already."""
    net = stable_pair(temporal=TemporalConfig(injector="residual_and_skip"))
    expected = fold_batch_norms(net)
    freeze_convolutions(expected)
    use_fast_convolutions(net)
    ready = fold_batch_norms(net)
    freeze_convolutions(ready)
    given = videos(net, 4, *SIZE)
    with torch.inference_mode():
        assert_same_logits(ready(*given), expected(*given), 0)


def test_without_compiler_network_is_only_folded(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", str(tmp_path / "no-compiler"))
    winograd.load_kernel.cache_clear()
    try:
        assert "no C compiler" in winograd.problem()
        net = stable_pair()
        ready = fold_batch_norms(net)
        freeze_convolutions(ready)
        assert not any(isinstance(module, FastConv2d) for module in ready.modules())
        given = videos(net, 2, *SIZE)
        with torch.inference_mode():
            assert_same_logits(ready(*given), net(*given))
    finally:
        winograd.load_kernel.cache_clear()
