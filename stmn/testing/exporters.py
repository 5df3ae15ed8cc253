"""The check of exporters."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from stmn.exporting.base import example_inputs
from stmn.exporting.parity import TOLERANCES, check_parity
from stmn.nets.build import build_network
from stmn.nets.checkpoint import Description, TrainedOn
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.network import Network
from stmn.store.format.header import Preparation
from stmn.testing.checklist import Checklist


def check_exporter(exporter: Callable[..., Any], **options: Any) -> None:
    """Check that an exporter keeps its contract, and print what passed.

    It writes a single stream, and two that are tied as in the paper's final network. The files must run, and return the
    networks' logits for several numbers of videos and chunks and several frame sizes. `precisions`, `companions` and
    `read` are checked if the exporter has them.

    Args:
        exporter: the plugin, a class.
        options: the plugin's options.

    Raises:
        PluginError: the contract is broken; the message says what its author must change.
    """
    checks = Checklist("exporter", exporter)
    checks.check_options(exporter)
    made = checks.build("its __init__ must need no arguments but its options", exporter, **options)
    with checks.part("suffix", 'it must have suffix = ".onnx" or the like'):
        checks.require(
            isinstance(made.suffix, str) and made.suffix.startswith(".") and len(made.suffix) > 1,
            f"its suffix is {made.suffix!r}",
            "it must begin with a dot",
        )
    for what, tied in (("one stream", False), ("two tied streams", True)):
        network, description = _make(tied)
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"model{made.suffix}"
            _check_file(checks, made, network, description, path, what)
            _check_companions(checks, made, path)
            if hasattr(made, "read"):
                _check_read(checks, exporter, description, path)
    network, description = _make(False)
    for precision in getattr(made, "precisions", ()):
        with TemporaryDirectory() as folder:
            if precision != "float32":
                path = Path(folder) / f"model{made.suffix}"
                _check_file(checks, made, network, description, path, precision, precision)
    checks.finish()


def _check_file(
    checks: Checklist, made: Any, network: Network, description: Description, path: Path, what: str,
    precision: str = "float32",
) -> None:  # fmt: skip
    """Check that a file is written, and returns the network's logits."""
    checks.require(
        precision in TOLERANCES, f"its precisions have {precision!r}", f"only {', '.join(TOLERANCES)} can be asked for"
    )
    example = example_inputs(network, description, 2, 3, 32)
    more: dict[str, Any] = {} if precision == "float32" else {"precision": precision}
    if precision == "int8":
        more["clips"] = [example_inputs(network, description, 1, 3)]
    called = "".join(f", {name}" for name in more)
    with checks.part(f"file of {what}", f"write(network, description, example, path{called}) must write path"):
        made.write(network, description, example, path, **more)
        checks.require(path.is_file(), "write() wrote no file", "write to the path that it is given, a file")
    with checks.part(f"parity of {what}", "runner(path) must return what gives the network's logits"):
        check_parity(network, description, made.runner(path), precision)


def _check_companions(checks: Checklist, made: Any, path: Path) -> None:
    """Check that `write` puts beside the file what `companions` lists."""
    expected = {path.name, *(path.with_suffix(ending).name for ending in getattr(made, "companions", ()))}
    found = {file.name for file in path.parent.iterdir()}
    checks.require(
        found == expected, f"write() wrote {', '.join(sorted(found))}, not {', '.join(sorted(expected))}",
        "companions must have the endings of all files beside path",
    )  # fmt: skip


def _check_read(checks: Checklist, exporter: Callable[..., Any], description: Description, path: Path) -> None:
    """Check that an exporter without options, as it is found by the file's suffix, can read the description."""
    change = "read(path) must give the description that write() was given; it is called without options"
    checks.require(
        getattr(exporter, "suffix", None) == path.suffix,
        f"it has read(), but its class has no suffix = {path.suffix!r}", "set it on the class",
    )  # fmt: skip
    with checks.part("reading", change):
        found = exporter().read(path)
        checks.require(
            isinstance(found, Description) and found.network == description.network
            and found.preparation == description.preparation,
            "read() gives another description", change,
        )  # fmt: skip


def _make(tied: bool) -> tuple[Network, Description]:
    """A narrow network whose modules all affect the output, and its description."""
    streams = [StreamConfig(modality=modality, arch="resnet18", width=0.125) for modality in ("rgb", "flow")]
    config = NetworkConfig(
        classes=["wave", "jump", "ren"], size=64, stack_length=3, streams=streams if tied else streams[:1],
        gate=GateConfig() if tied else None, temporal=TemporalConfig(injector="residual", pool="max"),
    )  # fmt: skip
    network = build_network(config).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("bn2.weight"):  # 0 in fresh units
            torch.nn.init.ones_(parameter)
    preparation = Preparation(short_side=72, flow="tvl1", bound=20.0, quality=95, camera_motion="keep")
    return network, Description(config, preparation, TrainedOn(data="check", split="1", videos=[]), ["mirror", "crop"])
