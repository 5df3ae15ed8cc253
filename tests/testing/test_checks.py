"""The checks for plugin authors accept plugins that keep their contract, and say what is wrong with others."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from stmn import registry
from stmn.errors import PluginError
from stmn.testing import check_flow, check_fusion

PLUGINS = Path(__file__).parents[2] / "plugins"


@pytest.mark.parametrize("name", ["add", "multiply", "blended_multiply"])
def test_built_in_fusions_keep_the_contract(name):
    check_fusion(registry.load("fusion", name))


@pytest.mark.parametrize("name", ["tvl1", "dis", "farneback"])
def test_built_in_flows_keep_the_contract(name):
    check_flow(registry.load("flow", name))


def test_example_package_keeps_the_contract(monkeypatch):
    monkeypatch.syspath_prepend(str(PLUGINS / "stmn-scaled-gate"))
    from stmn_scaled_gate import ScaledMultiply

    check_fusion(ScaledMultiply)
    sys.modules.pop("stmn_scaled_gate")


class Detached(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, receiving, sending):
        return receiving * sending.detach()


class Counting(Detached):
    calls = 0

    def forward(self, receiving, sending):
        self.calls += 1
        return receiving * sending * self.calls


class Narrow(Detached):
    def forward(self, receiving, sending):
        return (receiving * sending)[:, :1]


@pytest.mark.parametrize(("broken", "words"), [(Detached, "gradient"), (Counting, "hidden state"), (Narrow, "output")])
def test_broken_fusion_is_reported(broken, words):
    with pytest.raises(PluginError, match=words):
        check_fusion(broken)


def test_broken_flow_is_reported():
    tvl1 = registry.load("flow", "tvl1")
    with pytest.raises(PluginError, match="estimated as"):
        check_flow(lambda first, second: -tvl1(first, second))
    with pytest.raises(PluginError, match="float32"):
        check_flow(lambda first, second: torch.zeros(len(first), 2, 3, 3))
