"""Export to ONNX with free batch size, number of chunks, height and width."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stmn.errors import CheckpointError, MissingExtra
from stmn.exporting.base import Runner
from stmn.nets.checkpoint import Description
from stmn.nets.network import Network

#: the metadata entry that vouches for the rest
_DIGEST = "digest"
#: how many entries there are, with that one
_ENTRIES = 3
#: the averages and the classifier, which stay float32 in a float16 file
_FLOAT32_OPERATIONS = ["AveragePool", "Gemm", "GlobalAveragePool", "MatMul", "ReduceMean"]


class OnnxExporter:
    """Writes a `.onnx` file with the model's description (classes, preprocessing, plugins) in its metadata.

    Its metadata also has the digest of all the rest.
    """

    suffix = ".onnx"
    precisions = ("float32", "float16")

    def write(
        self, network: Network, description: Description, example: Sequence[Tensor], path: Path,
        precision: str = "float32",
    ) -> None:  # fmt: skip
        """Trace the network and write it.

        Args:
            network: The network.
            description: Its classes, preprocessing and plugins.
            example: A batch for each stream, (B, T, channels, H, W).
            path: Where to write.
            precision: "float32", or "float16" for a file of half the size. Inputs, averages, the classifier and
                outputs are float32 in each.

        Raises:
            MissingExtra: The package onnx, or for float16 onnxruntime, is not installed.
        """
        try:
            import onnx
        except ImportError as error:
            raise MissingExtra("export to ONNX", "onnx", "export") from error
        names = [stream.modality for stream in description.network.streams]
        outputs = [f"{name}_scores" for name in network.outputs]
        free = {0: "batch", 1: "chunks", 3: "height", 4: "width"}
        network.eval()
        # Traced: the exporter built on torch.export takes 20 times as long and fixes the batch size at one.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parity check measures what it warns about
            torch.onnx.export(
                network, tuple(example), str(path), dynamo=False, input_names=names, output_names=outputs,
                dynamic_axes=dict.fromkeys(names, free) | {name: {0: "batch"} for name in outputs},
            )  # fmt: skip
        model = onnx.load(path)
        if precision == "float16":
            model = _to_float16(model)
        onnx.helper.set_model_props(model, {"stmn": json.dumps(description.to_json()), "precision": precision})
        digest = _digest(model)
        model.metadata_props.add(key=_DIGEST, value=digest)
        onnx.save(model, path)

    def runner(self, path: Path) -> Runner:
        """Load the file into ONNX Runtime, on the CPU.

        Raises:
            MissingExtra: The package onnxruntime is not installed.
            CheckpointError: The file is damaged.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtra("the parity check of ONNX files", "onnxruntime", "export") from error
        check_file(path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [given.name for given in session.get_inputs()]

        def run(given: Sequence[Tensor]) -> list[Tensor]:
            values = dict(zip(names, (tensor.numpy() for tensor in given), strict=True))
            return [torch.from_numpy(output) for output in session.run(None, values)]

        return run


def check_file(path: Path) -> None:
    """Make sure that an ONNX file is what was written; one without a digest is none of ours, or older.

    Raises:
        MissingExtra: The package onnx is not installed.
        CheckpointError: It is damaged.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("reading ONNX files", "onnx", "export") from error
    try:
        model = onnx.load(path)
        places = [place for place, entry in enumerate(model.metadata_props) if entry.key == _DIGEST]
        if places:
            written = model.metadata_props.pop(places[0]).value
            whole = written == _digest(model)
        else:  # the entry itself may have changed
            whole = len(model.metadata_props) != _ENTRIES
    except Exception as error:  # protobuf raises its own errors
        raise _damaged(path) from error
    if not whole:
        raise _damaged(path)


def _damaged(path: Path) -> CheckpointError:
    """What to say of a damaged file."""
    return CheckpointError(f"{path}: is damaged: not what stmn export wrote; use another copy, or export it again")


def _digest(model: Any) -> str:
    """The SHA-256 of a serialised ONNX model, which doesn't have the entry of the digest."""
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def _to_float16(model: Any) -> Any:
    """An ONNX model with weights and features in float16. Raises `MissingExtra` without onnxruntime."""
    try:
        from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    except ImportError as error:
        raise MissingExtra("export in float16", "onnxruntime", "export") from error
    kept = [*DEFAULT_OP_BLOCK_LIST, *_FLOAT32_OPERATIONS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numbers too small for float16; the parity check measures what they matter
        return convert_float_to_float16(model, keep_io_types=True, op_block_list=kept)
