"""Export to ONNX with free batch size, number of chunks, height and width."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stmn.errors import MissingExtra
from stmn.exporting.base import Runner
from stmn.nets.checkpoint import Description
from stmn.nets.network import Network

#: the averages and the classifier, which stay float32 in a float16 file
_FLOAT32_OPERATIONS = ["AveragePool", "Gemm", "GlobalAveragePool", "MatMul", "ReduceMean"]


class OnnxExporter:
    """Writes a `.onnx` file with the model's description (classes, preprocessing, plugins) in its metadata."""

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
        onnx.save(model, path)

    def runner(self, path: Path) -> Runner:
        """Load the file into ONNX Runtime, on the CPU.

        Raises:
            MissingExtra: The package onnxruntime is not installed.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtra("the parity check of ONNX files", "onnxruntime", "export") from error
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [given.name for given in session.get_inputs()]

        def run(given: Sequence[Tensor]) -> list[Tensor]:
            values = dict(zip(names, (tensor.numpy() for tensor in given), strict=True))
            return [torch.from_numpy(output) for output in session.run(None, values)]

        return run


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
