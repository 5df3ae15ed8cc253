"""A model file of a stranger is refused in one line, before it costs memory or time; so are weights and scores."""

import codecs
import json
import resource
import struct
import time
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.commands import call, errors_of
from safetensors.torch import save_file

from stmn.errors import CheckpointError, StmnError
from stmn.nets.backbones import create_backbone
from stmn.nets.build import build_network
from stmn.nets.checkpoint import Description, TrainedOn, load_checkpoint
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.weights.pretrained import load_weights
from stmn.prediction.api import load_model
from stmn.runtime.memory import limit_memory
from stmn.sampling.augment import RGB_TO_INPUT
from stmn.store.format.header import Preparation

CONFIG = NetworkConfig(
    classes=["wave", "jump"], size=32, stack_length=2, gate=GateConfig(), temporal=TemporalConfig(injector="last_unit"),
    streams=[StreamConfig(modality=m, arch="resnet18", width=0.125) for m in ("rgb", "flow")],
)  # fmt: skip
HOW = Preparation(short_side=32, flow="tvl1", bound=5, quality=95, camera_motion="keep")
ABOUT = Description(CONFIG, HOW, TrainedOn(data="a", split="1", videos=[]), ["mirror"]).to_json()


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return build_network(CONFIG).state_dict()


@contextmanager
def limits(seconds: float = 1):
    """Allow 400 MB more than now, and a second; what other tests left in memory costs none of it."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit_memory(400 * 2**20)
    start = time.process_time()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.process_time() - start < seconds


@pytest.fixture
def bounded():
    """The limits for a whole test."""
    with limits():
        yield


def changed(place: str, value: Any) -> str:
    """The description of a model, as JSON, with another value at `network.streams.0.width`; "..." leaves it out."""
    about = json.loads(json.dumps(ABOUT))
    *way, last = place.split(".")
    inner = about
    for key in way:
        inner = inner[int(key) if key.isdecimal() else key]
    if value is ...:
        del inner[last]
    else:
        inner[int(last) if last.isdecimal() else last] = value
    return json.dumps(about)


HOSTILE = [
    *(("network.streams.0.width", value) for value in (300, 4, 1e300, 0, -1, "wide", None, [1], float("nan"))),
    *(("network.streams.1.arch", value) for value in ("resnet152", "resnet18.x", "os:system", "no\n\x1b[2J", "a" * 10**6, "")),
    *(("network.stack_length", value) for value in (10**8, 10**30, 100, 0, -5, 2.5)),
    *(("network.size", value) for value in (0, -1, 10**9, "big")),
    *(("network.classes", value) for value in ([], ["a"], ["a", "a"], [1, 2], "ab", ["", "b"], ["x" * 10**5, "y"])),
    ("network.classes", [f"class {number}" for number in range(50_000)]),
    ("network.classes", [f"class {number}" for number in range(200_000)]),
    *(("network.temporal.length", value) for value in (0, 2, 99, 10**7 + 1)),
    ("network.temporal.injector", "subprocess:run"), ("network.temporal.window", 0), ("network.temporal.pool", "all"),
    ("network.gate", None), ("network.gate.fusion", "pickle"), ("network.gate.units", 5), ("network.gate.fusion", "x" * 10**6),
    ("network.streams", []), ("network.streams.0.modality", "flow"), ("network.streams.0.layout", "caffe"),
    ("network.unknown", 1), ("network", []), ("network", ...), ("network", "resnet18"),
    *(("preparation.bound", value) for value in (0, -5, float("nan"), float("inf"), 1e30, "far")),
    *(("preparation.short_side", value) for value in (0, -32, 10**6, 10**40)),
    *(("preparation.fps", value) for value in (0, -25, 1e9, float("inf"))),
    ("preparation.quality", 101), ("preparation.flow_options", [1]), ("preparation.camera_motion", "add"),
    ("preparation.flow", 7), ("preparation.flow", "f" * 10**5), ("preparation", ...), ("preparation", 5),
    ("trained_on", ...), ("trained_on.videos", "all"), ("trained_on.held_out", {"videos": [], "share": 7, "seed": 0}),
    ("keeps", 5), ("keeps", ...), ("training", [1]), ("training", ...), ("batch_statistics", 5),
    ("mirror_pairs", {"left": "right"}), ("mirror_pairs", [1]),
]  # fmt: skip
TEXTS = {
    "deep": '{"network": ' + "[" * 10**5 + "]" * 10**5 + "}", "digits": '{"network": ' + "9" * 5000 + "}",
    "surrogate": '{"network": {"classes": ["\\ud800", "b"]}}', "list": "[]", "text": '"network"', "none": "null",
    "empty": "", "half": '{"network": {', "nan": "NaN", "many": "[" + "[]," * 10**5 + "[]]",
}  # fmt: skip


def refuse(path: Path) -> str:
    """The line that refuses a model."""
    with pytest.raises(StmnError) as raised:
        load_checkpoint(path)
    line = str(raised.value)
    assert line.startswith(f"{path}: ") and "\n" not in line and len(line) < 600 + len(str(path))
    return line


@pytest.mark.parametrize(("place", "value"), HOSTILE, ids=[f"{n}-{place}" for n, (place, _) in enumerate(HOSTILE)])
def test_descriptions_are_refused(place, value, weights, tmp_path, bounded):
    path = tmp_path / "model.safetensors"
    save_file(weights, path, metadata={"stmn": changed(place, value)})
    refuse(path)


@pytest.mark.parametrize("name", TEXTS)
def test_damaged_descriptions_are_refused(name, weights, tmp_path, bounded):
    path = tmp_path / "model.safetensors"
    save_file(weights, path, metadata={"stmn": TEXTS[name]})
    refuse(path)


FC = "streams.appearance.fc.weight"


@pytest.mark.parametrize("change", [
    {FC: torch.full((2, 64), torch.nan)}, {FC: torch.full((2, 64), torch.inf)}, {FC: torch.zeros(64, 2)},
    {FC: torch.zeros(2, 64, dtype=torch.int8)}, {FC: torch.zeros(2, 64, dtype=torch.complex64)}, {FC: torch.zeros(0)},
    {FC: torch.zeros(2, 2**20)}, {FC: torch.zeros(())}, {FC: None}, {"more": torch.zeros(1)}, {"x\n\x1b[2J": torch.zeros(1)},
    {"streams.motion.backbone.bn1.running_var": torch.full((64,), -1.0)},
])  # fmt: skip
def test_tensors_are_refused(change, weights, tmp_path):
    path = tmp_path / "model.safetensors"
    tensors = {name: tensor for name, tensor in (weights | change).items() if tensor is not None}
    save_file(tensors, path, metadata={"stmn": json.dumps(ABOUT)})
    refuse(path)


def test_the_model_itself_is_read(weights, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(weights, path, metadata={"stmn": json.dumps(ABOUT)})
    assert load_checkpoint(path)[1].network == CONFIG


@pytest.mark.parametrize(("flow", "options"), [
    ("tvl1", {"warps": 10**9}), ("tvl1", {"iterations": 10**9}), ("tvl1", {"scales": 10**9}), ("tvl1", {"lambda": 1e30}),
    ("tvl1", {"tau": "much"}), ("tvl1", {"first": 1}), ("farneback", {"iterations": 10**9}), ("farneback", {"window": 10**6}),
    ("farneback", {"sigma": -1}), ("farneback", {"scale": 2}), ("dis", {"preset": "__class__"}),
])  # fmt: skip
def test_flow_options_are_bounded(flow, options, weights, tmp_path):
    if flow != "tvl1":
        pytest.importorskip("cv2")
    path, about = tmp_path / "model.safetensors", json.loads(json.dumps(ABOUT))
    about["preparation"] |= {"flow": flow, "flow_options": options}
    save_file(weights, path, metadata={"stmn": json.dumps(about)})
    with pytest.raises(StmnError) as raised:
        load_model(path)
    assert str(raised.value).startswith(f"{path}: ") and "\n" not in str(raised.value)


@pytest.mark.parametrize("arguments", [("predict", "FILE", "x.avi"), ("nets", "show", "FILE"), ("export", "FILE")])
def test_commands_say_one_line(arguments, weights, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(weights, path, metadata={"stmn": changed("network.stack_length", 10**8)})
    result = call(*(path if word == "FILE" else word for word in arguments))
    assert result.exit_code in (1, 2) and len(errors_of(result)) == 1 and "Traceback" not in result.stderr


class Reduced:
    """Unpickled, it calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def zipped(path: Path, **change: Any) -> Path:
    """A file of torch whose parts are compressed or changed."""
    torch.save({"conv1.weight": torch.zeros(2**20)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", change.get("method", zipfile.ZIP_STORED)) as archive:
        for name, content in parts.items():
            archive.writestr(name, content[: change.get("most", len(content))])
    return path


def cyclic(path: Path) -> Path:
    state: dict[str, Any] = {}
    state["model"] = state
    torch.save(state, path)
    return path


def written(path: Path, value: Any, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


def bomb_of_matlab(path: Path) -> Path:
    """300 MB of zeros, and a header that says 4 GB of them."""
    header = b"MATLAB 5.0 MAT-file".ljust(116) + bytes(8) + struct.pack("<HH", 0x0100, 0x4D49)
    matrix = struct.pack("<IIIIII", 6, 8, 6, 0, 5, 8) + struct.pack("<iiHHI", 1, 2**29, 1, 3, 0x74656E)
    content = struct.pack("<II", 14, 2**32 - 100) + matrix + struct.pack("<II", 9, 2**32 - 400) + bytes(3 * 10**8)
    packed = zlib.compress(content, 1)
    path.write_bytes(header + struct.pack("<II", 15, len(packed)) + packed)
    return path


WEIGHTS = {
    "memory": lambda path: written(path, {"conv1.weight": Reduced(bytearray, 10**11)}),
    "memory, older format": lambda path: written(
        path, {"conv1.weight": Reduced(bytearray, 10**11)}, _use_new_zipfile_serialization=False
    ),
    "a tensor's memory": lambda path: written(path, {"conv1.weight": Reduced(torch.Tensor, 10**6, 10**6)}),
    "codec": lambda path: written(path, {"conv1.weight": Reduced(codecs.encode, "a" * 100, "hex")}),
    "compressed": lambda path: zipped(path, method=zipfile.ZIP_DEFLATED),
    "cut parts": lambda path: zipped(path, most=500),
    "itself": cyclic,
    "strides of 0": lambda path: written(path, {"conv1.weight": torch.zeros(1).expand(10**6, 3, 10**3, 10**3)}),
    "sparse": lambda path: written(path, {"conv1.weight": torch.sparse_coo_tensor([[0], [0]], [1.0], (10**6, 10**6))}),
    "meta": lambda path: written(path, {"conv1.weight": torch.zeros(10**6, 10**6, device="meta")}),
    "numbers for names": lambda path: written(path, {1: torch.zeros(1)}),
    "complex": lambda path: written(path, {"conv1.weight": torch.zeros(1, dtype=torch.complex64)}),
    "MATLAB": lambda path: bomb_of_matlab(path.with_suffix(".mat")),
}  # fmt: skip


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_of_strangers_are_refused(kind, tmp_path):
    path = WEIGHTS[kind](tmp_path / "w.pth")
    backbone = create_backbone("resnet50", 3, 0.125, layout="caffe" if kind == "MATLAB" else "torchvision")
    with limits(), pytest.raises(CheckpointError) as raised:
        load_weights(backbone, str(path), "resnet50", RGB_TO_INPUT)
    line = str(raised.value)
    assert line.startswith(f"{path}: ") and "\n" not in line
