"""Plugins have options: one mechanism for all kinds, in flags, recipes, help, records and model files."""

import json

import pytest
from conftest import TINY_TRAINING
from helpers.commands import call, errors_of, over, write_recipe
from helpers.packages import on_path

from stmn.errors import PluginError, UsageError
from stmn.nets.build import sketch_network
from stmn.nets.checkpoint import read_description
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig

PARTS = """
from pathlib import Path
import torch
from torch import nn
from stmn.plugins import TemporalFilter

class Gate(nn.Module):
    '''A gate.

    Args:
        reduction: what the channels are
            divided by.
    '''
    def __init__(self, channels: int, *, reduction: int = 2) -> None:
        super().__init__()
        if channels % reduction:
            raise ValueError(f"reduction = {reduction} does not divide {channels} channels")
        self.reduce = nn.Conv2d(channels, channels // reduction, 1)
        self.restore = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, receiving, sending):
        return receiving * self.restore(self.reduce(sending))

def sparse(backbone, length, init, *, parts: list[str] = ["conv5"]):
    for part in parts:
        unit = backbone.parts[part][1]
        unit.temporal = TemporalFilter(unit.middle, length, init)

class Rows:
    def __init__(self, folder, step, about, *, name: str):
        self.file, self.name = folder / "rows.txt", f"{name} of {about['run']}, seed {about['options']['seed']}"

    def write(self, row):
        with self.file.open("a") as file:
            print(self.name, row["step"], file=file)

    def close(self):
        pass

class Failing(Rows):
    def write(self, row):
        raise OSError("no connection")

def wide(*, in_channels, width, factor: float = 1.0):
    from stmn.nets.backbones import resnet18
    return resnet18(in_channels=in_channels, width=width * factor)

def empty(*, in_channels, width):
    return nn.Conv2d(in_channels, 64, 7)

def flat(channels):
    return lambda receiving, sending: receiving

class Narrow(Gate):
    def forward(self, receiving, sending):
        return receiving[:, :1]

def smaller(first, second):
    return torch.zeros(len(first), 2, 3, 3)

def failing(first, second):
    raise KeyError("nothing")

class Raising(Gate):
    def forward(self, receiving, sending):
        return receiving.nothing
"""
KINDS = {
    "fusion": {"gate": "Gate", "flat": "flat", "narrow": "Narrow", "raising": "Raising"},
    "injector": {"sparse": "sparse"},
    "logger": {"rows": "Rows", "failing": "Failing"},
    "backbone": {"wide": "wide", "empty": "empty"},
    "flow": {"smaller": "smaller", "failing": "failing"},
}
TINY = [f"--{key.replace('_', '-')}={value}" for key, value in (TINY_TRAINING | {"steps": 1, "chunks": 1}).items()]


@pytest.fixture
def parts(tmp_path, monkeypatch):
    with on_path(tmp_path / "site", monkeypatch) as packages:
        packages.install("parts", PARTS, **KINDS)
        yield packages


def last_row(result):
    return json.loads(result.stdout.splitlines()[-1])


def network(fusion="multiply", arch="resnet18", temporal=None, **options):
    streams = [
        StreamConfig(modality=m, arch=arch, width=0.125, arch_options=options.get("arch_options", {}))
        for m in ("rgb", "flow")
    ]
    gate = GateConfig(fusion=fusion, fusion_options=options.get("fusion_options", {}))
    return NetworkConfig(
        classes=["a", "b"], size=32, stack_length=10, streams=streams, gate=gate, temporal=temporal or TemporalConfig()
    )  # fmt: skip


def test_options_are_in_the_run_and_in_its_model(parts, own):
    words = "--fusion gate --fusion-options reduction=4 --injector sparse --injector-options parts=['conv2','conv3']"
    command = ["fuse", *words.split(), *TINY, "-w", own.root, "--json"]
    done = call(*command, "--logger", "rows", "--logger-options", "name=mine")
    assert done.exit_code == 0, done.stderr
    record = last_row(done)
    assert record["options"]["fusion_options"] == {"reduction": 4}
    run = own.find_input("fused", "model")
    network = read_description(run.path).network
    assert network.gate.fusion_options == {"reduction": 4}
    assert network.temporal.injector_options == {"parts": ["conv2", "conv3"]}
    folder = run.path.parent
    assert (folder / "rows" / "rows.txt").read_text() == f"mine of {folder.name}, seed 1 1\n"

    # the model is built again with its options, and the same options are the same run
    assert call("nets", "show", run.path).exit_code == 0
    same = call(*command)
    assert last_row(same)["finished"] == record["finished"]  # it was up to date
    other = call(*over(command, "--fusion-options", "reduction=8"))
    assert last_row(other)["fingerprint"] != record["fingerprint"]


def test_failing_logger_does_not_end_the_training(parts, own):
    done = call("fuse", "--logger", "failing", "--logger-options", "name=x", *TINY, "-w", own.root)
    assert done.exit_code == 0
    said = (
        "logger 'failing' of package parts 1.0 failed: OSError: no connection; the log goes on in metrics.jsonl alone"
    )
    assert said in done.stderr.splitlines()


@pytest.mark.parametrize(("command", "message"), [
    ("fuse --fusion gate --fusion-options reducton=4",
     "fusion 'gate' has no option 'reducton' (did you mean 'reduction'?); it has: reduction"),
    ("fuse --fusion gate --fusion-options reduction=four", "fusion 'gate': reduction = 'four': must be a whole number"),
    ("fuse --fusion gate --fusion-options reduction=true", "fusion 'gate': reduction = True: must be a whole number"),
    ("fuse --fusion multiply --fusion-options reduction=4", "fusion 'multiply' has no option 'reduction'; it has none"),
    ("fuse --fusion gate --fusion-options reduction=3", "fusion 'gate': reduction = 3 does not divide 16 channels"),
    ("fuse --injector sparse --injector-options parts=3", "injector 'sparse': parts = 3: must be a list"),
    ("fuse --motion-injector-options parts=[]",
     "fuse: motion_injector_options: motion_injector is not set; injector_options are those of both streams"),
    ("fuse --logger rows", "logger 'rows' needs its option 'name'"),
    ("fuse --logger-options name=x", "fuse: logger_options: logger is not set; name one, such as logger = tensorboard"),
    ("train-stream --arch resnet26 --arch-options factor=2",
     "backbone 'resnet26' is a ResNet of timm, which has no options; leave out factor"),
    ("train-stream --tensorboard", "--tensorboard is called --logger now (see stmn train-stream --help)"),
    ("prepare --dataset synthetic --dataset-options tran=4",
     "data set 'synthetic' has no option 'tran' (did you mean 'train'?); it has: train, test, frames, size, task, seed"),
])  # fmt: skip
def test_wrong_options_are_found_before_anything_runs(parts, own, command, message):
    refused = call(*command.split(), *(TINY if command.startswith("fuse") else []), "-w", own.root)
    assert refused.exit_code == 2 and errors_of(refused) == [message]


def test_recipes_are_checked_for_options_of_plugins(parts, tmp_path):
    streams = [f'id = "{m}"\nuses = "train-stream"\nmodality = "{m}"' for m in ("rgb", "flow")]
    fuse = 'id = "fused"\nuses = "fuse"\nappearance = "rgb"\nmotion = "flow"\nfusion = "gate"\nfusion_options = { {} }'
    for options, exit_code in (("reduction = 4", 0), ("reduction = 0.5", 2)):
        recipe = write_recipe(tmp_path / "r.toml", 'name = "r"', *streams, fuse.replace("{}", options))
        assert call("recipes", "validate", recipe).exit_code == exit_code


@pytest.mark.parametrize(("config", "error", "message"), [
    ({"fusion": "narrow"}, PluginError,
     r"fusion 'narrow' of package parts 1.0 gave \(2, 1, 3, 5\) for maps of \(2, 8, 3, 5\); its output must have the"),
    ({"fusion": "raising"}, PluginError, "fusion 'raising' of package parts 1.0 failed: AttributeError: .*nothing"),
    ({"fusion": "flat"}, PluginError, "fusion 'flat' of package parts 1.0 gave function, and a fusion is a torch.nn.Module"),
    ({"arch": "empty"}, PluginError, "backbone 'empty' of package parts 1.0 builds no backbone: it has no stem, parts"),
    ({"arch": "wide", "arch_options": {"factor": "big"}}, UsageError, "backbone 'wide': factor = 'big': must be a number"),
])  # fmt: skip
def test_parts_that_break_their_contract_are_named(parts, config, error, message):
    with pytest.raises(error, match=message):
        sketch_network(network(**config))


def test_options_reach_every_kind_of_part(parts):
    assert (
        sketch_network(network(arch="wide", arch_options={"factor": 2})).stream("motion").backbone.num_features == 128
    )
    temporal = TemporalConfig(injector="none", motion_injector="sparse", motion_injector_options={"parts": ["conv4"]})
    streams = sketch_network(network(temporal=temporal)).streams
    assert [bool(streams[n].backbone.parts["conv4"][1].temporal) for n in ("appearance", "motion")] == [False, True]
    gates = sketch_network(network("gate", fusion_options={"reduction": 8})).gates
    assert all(gate.restore.in_channels == gate.reduce.in_channels // 8 for gate in gates.values())


@pytest.mark.parametrize(("flow", "message"), [
    ("smaller", "flow 'smaller' of package parts 1.0 gave (1, 2, 3, 3), and flow of these frames is (1, 2, 32, 32)"),
    ("failing", "flow 'failing' of package parts 1.0 failed: KeyError: 'nothing'; stmn plugins list --check says what "
     "its authors must change"),
])  # fmt: skip
def test_flow_that_breaks_its_contract_stops_before_any_video(parts, tmp_path, flow, message):
    refused = call("prepare", "--dataset", "synthetic", "--flow", flow, "-w", tmp_path / "work")
    assert refused.exit_code == 1 and errors_of(refused) == [message]
    assert not list(tmp_path.glob("work/data/*/shards"))
