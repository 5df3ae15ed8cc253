"""A model file says which plugins it needs: what is missing, changed or too new is named with its package."""

import pytest
import torch
from helpers.packages import on_path

import stmn
from stmn.errors import PluginError
from stmn.nets.build import build_network
from stmn.nets.checkpoint import Description, TrainedOn, load_checkpoint, read_description, save_checkpoint
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig
from stmn.store.format.header import Preparation

GATE = """
from torch import nn

class Gate(nn.Module):
    factor = {factor}

    def __init__(self, channels):
        super().__init__()

    def forward(self, receiving, sending):
        return receiving + self.factor * sending
"""


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A model file made with the package `mine` 1.0, and where packages are installed; `mine` is installed no more."""
    streams = [StreamConfig(modality=modality, arch="resnet18", width=0.125) for modality in ("rgb", "flow")]
    with on_path(tmp_path / "before", monkeypatch) as packages:
        packages.install("mine", GATE.format(factor=1), fusion={"gate": "Gate"})
        config = NetworkConfig(
            classes=["a", "b"], size=32, stack_length=2, streams=streams, gate=GateConfig(fusion="gate")
        )
        preparation = Preparation(short_side=32, flow="tvl1", bound=20.0, quality=95, camera_motion="keep")
        about = Description(config, preparation, TrainedOn(data="d", split="1", videos=[]))
        save_checkpoint(tmp_path / "m.safetensors", build_network(config), about)
    with on_path(tmp_path / "after", monkeypatch) as packages:
        yield tmp_path / "m.safetensors", packages


def test_missing_package_is_named(model):
    path, packages = model
    packages.install("other", GATE.format(factor=1), fusion={"gate": "Gate"})  # its name alone would do
    wanted = f"{path}: fusion 'gate' of package mine 1.0 is not installed: pip install mine==1.0"
    for load in (load_checkpoint, stmn.load):
        with pytest.raises(PluginError) as caught:
            load(path)
        assert str(caught.value) == wanted


@pytest.mark.parametrize(("version", "factor", "said"), [
    ("1.0", 1, []),
    ("1.0", 2, ["the code of fusion gate of mine has changed since the model was made"]),
    ("2.0", 1, ["was made with version 1.0 of fusion gate of mine, and 2.0 is installed"]),
])  # fmt: skip
def test_other_version_or_code_is_said(model, caplog, version, factor, said):
    path, packages = model
    packages.install("mine", GATE.format(factor=factor), version, fusion={"gate": "Gate"})
    load_checkpoint(path)
    assert [record.getMessage() for record in caplog.records] == [f"{path}: {line}" for line in said]


def test_other_api_is_refused(model):
    path, packages = model
    packages.install("mine", GATE.format(factor=1), "3.0", api="2", fusion={"gate": "Gate"})
    with pytest.raises(
        PluginError, match=r"'gate' of package mine 3.0 is written for API 2 .*, and this stmn has API 1"
    ):
        load_checkpoint(path)


def test_plugin_is_that_of_the_models_package(model):
    path, packages = model
    packages.install("other", GATE.format(factor=9), fusion={"gate": "Gate"})
    packages.install("mine", GATE.format(factor=1), fusion={"gate": "Gate"})
    network, _ = load_checkpoint(path)
    assert {gate.factor for gate in network.gates.values()} == {1}
    assert read_description(path).network.gate.fusion == "mine:gate"
    assert torch.isfinite(network(*(torch.rand(1, 2, c, 32, 32) for c in (3, 4)))[0]).all()
