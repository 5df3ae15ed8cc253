"""Export to OpenVINO's format: a graph in XML, with its weights in a file beside it."""

import hashlib
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stmn.errors import CheckpointError, MissingExtra
from stmn.exporting.about import describe_use
from stmn.exporting.base import Runner
from stmn.exporting.onnx import OnnxExporter
from stmn.nets.checkpoint import Description, parse_description
from stmn.nets.network import Network
from stmn.runtime.files import read_regular
from stmn.runtime.json_files import parse_json

#: the entries in the graph's metadata: the description, and the digest of graph and weights
_ABOUT, _DIGEST = "stmn", "stmn_digest"
#: stands for the digest while it is computed
_BLANK = b"0" * 64
_WRITTEN = re.compile(rb'(<%s value=")([0-9a-f]{64})(")' % _DIGEST.encode())


class OpenVinoExporter:
    """Writes `model.xml` and `model.bin`."""

    suffix = ".xml"
    companions = (".bin",)
    precisions = ("float32", "float16")

    def write(
        self, network: Network, description: Description, example: Sequence[Tensor], path: Path,
        precision: str = "float32",
    ) -> None:  # fmt: skip
        """Write graph and weights, converted from ONNX.

        Args:
            network: The network.
            description: Its classes, preprocessing and plugins.
            example: A batch for each stream, (B, T, channels, H, W).
            path: Where to write the graph; the weights go beside it.
            precision: "float32", or "float16" for weights of half the size. Inputs and outputs are always float32.

        Raises:
            MissingExtra: A package of the extra `openvino` is not installed.
            StmnError: The network can't be expressed.
            OSError: A file can't be written; the disk may be full.
        """
        openvino = _import_openvino()
        with tempfile.TemporaryDirectory() as folder:
            between = Path(folder) / "model.onnx"
            OnnxExporter().write(network, description, example, between)
            model = openvino.convert_model(between)
        model.set_rt_info(json.dumps(describe_use(description, precision)), [_ABOUT])
        model.set_rt_info(_BLANK.decode(), [_DIGEST])
        try:
            openvino.save_model(model, path, compress_to_fp16=precision == "float16")
        except Exception as error:  # openvino raises its own errors
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise OSError(f"openvino: {lines[-1][:300]}; the disk may be full") from error
        graph = path.read_bytes()
        digest = _digest_of(graph, path.with_suffix(".bin").read_bytes())
        path.write_bytes(_WRITTEN.sub(rb"\g<1>%s\g<3>" % digest, graph, count=1))

    def runner(self, path: Path) -> Runner:
        """Load graph and weights, for the CPU in float32.

        Raises:
            MissingExtra: The package openvino is not installed.
            CheckpointError: A file is missing or damaged.
        """
        openvino = _import_openvino()
        _check(path)
        # without the hint it computes in bfloat16 on CPUs that support it
        compiled = openvino.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

        def run(given: Sequence[Tensor]) -> list[Tensor]:
            answer = compiled([tensor.numpy() for tensor in given])
            return [torch.from_numpy(answer[output].copy()) for output in compiled.outputs]

        return run

    def read(self, path: Path) -> Description:
        """Read the description in a graph.

        Raises:
            MissingExtra: The package openvino is not installed.
            CheckpointError: A file is missing or damaged, or was not written by stmn.
        """
        openvino = _import_openvino()
        ours = _check(path)
        try:
            values = parse_json(openvino.Core().read_model(str(path)).get_rt_info(_ABOUT).value) if ours else None
        except Exception as error:  # openvino raises its own errors
            raise _damaged(path) from error
        if not isinstance(values, dict):
            raise CheckpointError(
                f"{path}: not an OpenVINO graph with stmn's metadata, so nothing says how to prepare its input; use "
                f"one that stmn export wrote"
            )
        return parse_description(values, path)


def _import_openvino() -> Any:
    """The package openvino. Raises `MissingExtra`."""
    try:
        import openvino
    except ImportError as error:
        raise MissingExtra("OpenVINO's format", "openvino", "openvino") from error
    return openvino


def _check(path: Path) -> bool:
    """Check that graph and weights are unchanged; False for files of other programs."""
    weights = path.with_suffix(".bin")
    try:
        graph = read_regular(path)
        found = _WRITTEN.search(graph)
        if found is None:
            if _ABOUT.encode() in graph:  # the digest itself has changed
                raise _damaged(path)
            return False
        content = read_regular(weights, 2**34)
    except OSError as error:
        missing = weights if path.is_file() else path
        raise CheckpointError(
            f"{missing}: {error.strerror or error}: OpenVINO's format has two files, {path.name} and {weights.name}"
        ) from error
    if _digest_of(graph, content) != found[2]:
        raise _damaged(path)
    return True


def _digest_of(graph: bytes, weights: bytes) -> bytes:
    """The SHA-256 of a graph, with zeros in place of its digest, and its weights."""
    blank = _WRITTEN.sub(rb"\g<1>%s\g<3>" % _BLANK, graph, count=1)
    return hashlib.sha256(hashlib.sha256(blank).digest() + hashlib.sha256(weights).digest()).hexdigest().encode()


def _damaged(path: Path) -> CheckpointError:
    """The error for a damaged file."""
    return CheckpointError(f"{path}: is damaged: not what stmn export wrote; use another copy, or export it again")
