"""The checks for plugin authors accept the built-in plugins, and say what an author must change."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from stmn import registry
from stmn.errors import MissingExtra, PluginError
from stmn.nets.backbones import resnet18
from stmn.nets.temporal import TemporalFilter
from stmn.plugins import Dataset, VideoEntry
from stmn.testing import CHECKS

BUILT_IN = [(p.kind, p.name) for kind in registry.KINDS for p in registry.installed(kind) if p.package == "stmn"]
BUILT_IN.remove(("fusion", "none"))  # which makes no gates
SLOW = (
    "resnet34", "resnet101", "resnet152", "residual_every_unit", "residual_conv2_conv5", "residual_and_skip",
    "last_unit", "formula",
)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name"),
    [pytest.param(*one, marks=pytest.mark.slow if one[1] in SLOW or one[0] == "exporter" else ()) for one in BUILT_IN],
)
def test_built_ins_pass_the_checks(kind, name, capsys):
    try:
        CHECKS[kind](registry.load(kind, name))
    except MissingExtra as error:
        pytest.skip(str(error))
    assert capsys.readouterr().out.startswith(f"{kind} ")


class Fusion(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))


class Untyped(Fusion):
    def __init__(self, channels, *, reduction=4):
        super().__init__(channels)


class Nameless(Fusion):
    def __init__(self):
        super().__init__(8)


class Detached(Fusion):
    def forward(self, receiving, sending):
        return receiving * self.scale * sending.detach()


class Unused(Fusion):
    def forward(self, receiving, sending):
        return receiving * sending


class Counting(Fusion):
    calls = 0

    def forward(self, receiving, sending):
        self.calls += 1
        return receiving * sending * self.calls * self.scale


class Narrow(Fusion):
    def forward(self, receiving, sending):
        return (receiving * sending * self.scale)[:, :1]


class InPlace(Fusion):
    def forward(self, receiving, sending):
        receiving.data.mul_(2)
        return receiving * sending * self.scale


class Double(Fusion):
    def forward(self, receiving, sending):
        return receiving * sending * self.scale * torch.ones(1, 1, 1, 1, dtype=torch.float64)


class OnTheCpu(Fusion):
    def forward(self, receiving, sending):
        return receiving * sending * self.scale * torch.ones(8, 1, 1).to("cpu", receiving.dtype)


class Branching(Fusion):
    def forward(self, receiving, sending):
        return receiving * sending * self.scale if sending.sum() > 0 else receiving + sending


class Promising(Fusion):
    starts_untied = True

    def forward(self, receiving, sending):
        return receiving * sending * self.scale


class Unsaved(Fusion):
    def __init__(self, channels):
        super().__init__(channels)
        self.noise = torch.randn(1).item()

    def forward(self, receiving, sending):
        return receiving * sending * self.scale + self.noise


def taking_less(backbone, length):
    """An injector without `init`."""


def averaging(backbone, length, init):
    unit = backbone.parts["conv5"][1]
    unit.temporal = TemporalFilter(unit.middle, length, "average")


class AcrossVideos(nn.Module):
    def __init__(self, init):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(init == "average")))

    def forward(self, x, chunks):
        return x + self.weight * (x.roll(1, 0) - x)


def mixing(backbone, length, init):
    backbone.parts["conv5"][1].temporal = AcrossVideos(init)


def without_width(*, in_channels):
    return resnet18(in_channels=in_channels)


def only_rgb(*, in_channels, width):
    return resnet18(in_channels=3, width=width)


def flow_alone(*, in_channels, width):
    if in_channels == 3:
        raise ValueError("flow alone")
    return resnet18(in_channels=in_channels, width=width)


def lying(*, in_channels, width):
    made = resnet18(in_channels=in_channels, width=width)
    made.num_features = 99
    return made


def plain_module(*, in_channels, width):
    return nn.Conv2d(in_channels, 8, 3)


def backwards(first, second):
    return -registry.load("flow", "tvl1")(first, second)


def tiny(first, second):
    return torch.zeros(len(first), 2, 3, 3)


def coarse(first, second):
    return registry.load("flow", "tvl1")(first, second).double()


class Files(Dataset):
    def __init__(self, root: Path):
        self.root = root

    def videos(self):
        return [VideoEntry(i, self.root / f"{i}.mp4", "run", "g") for i in ("a", "b")]

    def splits(self):
        return {"1": {"train": ["a"], "test": ["b"]}}


class Empty(Files):
    makes_videos = True

    def videos(self):
        return []


class Twins(Empty):
    def videos(self):
        return [VideoEntry("a", self.root / "a.mp4", "run")] * 2


class Leaking(Files):
    makes_videos = True


class Unlisted(Leaking):
    def splits(self):
        return {"1": {"train": ["a"], "test": ["c"]}}


class NoMethods(Dataset):
    pass


class Unwritten:
    suffix = ".bin"

    def write(self, network, description, example, path):
        pass

    def runner(self, path):
        return lambda inputs: []


class Wrong(Unwritten):
    def write(self, network, description, example, path):
        path.write_bytes(b"")


class Rows:
    def __init__(self, folder, step, about):
        self.rows = []

    def write(self, row):
        self.rows.append(row)

    def close(self):
        pass


class Greedy(Rows):
    def write(self, row):
        self.step = row.pop("step")


class Moving(Rows):
    def close(self):
        os.chdir(os.sep)


class Demanding(Rows):
    def write(self, row):
        self.last = row["accuracy"]


@pytest.mark.parametrize(("kind", "broken", "words"), [
    ("fusion", Untyped, "its option 'reduction' has no type: annotate it, such as reduction: int = 4"),
    ("fusion", Nameless, "constructor: TypeError: .*: its __init__ must take the number of channels first"),
    ("fusion", lambda channels: None, "gave NoneType: it must give a torch.nn.Module"),
    ("fusion", Narrow, r"output \(2, 1, 5, 7\) for operands \(2, 8, 5, 7\): forward\(receiving, sending\) must return"),
    ("fusion", Detached, "no finite gradient reaches the sending stream: use it in forward, without detach"),
    ("fusion", Unused, "no finite gradient reaches its weight scale: use it in forward, or remove it"),
    ("fusion", Counting, "hidden state: forward must keep nothing between calls"),
    ("fusion", InPlace, "an operand was changed in place: use operations that return new tensors"),
    ("fusion", Double, "gave float64 for bfloat16: make tensors in forward with dtype=x.dtype"),
    ("fusion", OnTheCpu, "device: RuntimeError: .*: make tensors in forward with device=x.device"),
    ("fusion", Branching, "must not depend on values of tensors|don't ask tensors for values"),
    ("fusion", Promising, r"its output at the start is not relu\(receiving\): initialise it so that it is, or drop"),
    ("fusion", Unsaved, "a second one with its weights gives another output: keep everything that decides"),
    ("injector", taking_less, r"constructor: TypeError: .*: it must take \(backbone, length, init\)"),
    ("injector", averaging, 'with init = "centre" the output changes, 1 chunk a video: initialise the filters'),
    ("injector", mixing, "depends on the other videos of its batch: x is .*: divide it with torch.unflatten"),
    ("backbone", without_width, "constructor: TypeError: .*: it must take in_channels and width by keyword"),
    ("backbone", only_rgb, "shape: RuntimeError: .*"),
    ("backbone", lying, "num_features is 99: it must be 64"),
    ("backbone", plain_module, "what it builds has no stem: see stmn.plugins.Backbone"),
    ("flow", backwards, r"a shift of \(2, 0\) pixels was estimated as \(-.*\): u is to the right"),
    ("flow", tiny, r"gave \(2, 2, 3, 3\), not float32 \(2, 2, 96, 64\): it must return flow of"),
    ("flow", coarse, "gave torch.float64, not float32"),
    ("dataset", Fusion, "is no data set: it must be a class, a subclass of stmn.plugins.Dataset"),
    ("dataset", NoMethods, r"has no videos\(\): define videos"),
    ("dataset", Empty, r"lists no videos: videos\(\) must return at least one"),
    ("dataset", Twins, "two videos have one id"),
    ("dataset", Leaking, r"group \['g'\] is on both sides of split 1: keep groups on one side"),
    ("dataset", Unlisted, "split 1 names 'c', which videos"),
    ("exporter", Unwritten, r"write\(\) wrote no file: write to the path that it is given"),
    ("exporter", Wrong, "parity of one stream: .*outputs of shapes"),
    ("backbone", flow_alone, r"constructor: ValueError: flow alone: it must take in_channels and width by keyword"),
    ("logger", Greedy, r"write\(\) changes the row: copy it first: dict\(row\)"),
    ("logger", Moving, "changes the working folder: use absolute paths"),
    ("logger", Demanding, "rows: KeyError: 'accuracy': write.row. must take any columns"),
])  # fmt: skip
def test_author_is_told_what_to_change(kind, broken, words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PluginError, match=words):
        CHECKS[kind](broken)


def test_options_and_files_can_be_checked_too(tmp_path, capsys):
    from stmn.nets.fusions import BlendedMultiply

    CHECKS["fusion"](BlendedMultiply, start=0.5)
    with pytest.raises(PluginError, match=r"files: .*a.mp4.* fetch.. must return the path of a video that FFmpeg can"):
        CHECKS["dataset"](
            type(
                "Apart", (Files,), {"videos": lambda self: [VideoEntry(i, tmp_path / f"{i}.mp4", "run") for i in "ab"]}
            ),
            tmp_path,
        )
    assert capsys.readouterr().out == (
        "fusion BlendedMultiply: ok: options, constructor, shape, determinism, gradient, dtype, device, weights, export\n"
    )
