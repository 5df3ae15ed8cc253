"""Export to ONNX with free batch size, number of chunks, height and width."""

import hashlib
import json
import logging
import re
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stmn.errors import CheckpointError, MissingExtra, StmnError
from stmn.exporting.about import describe_use
from stmn.exporting.base import Runner
from stmn.exporting.int8 import quantise
from stmn.exporting.program import AXES, make_program
from stmn.nets.checkpoint import Description, parse_description
from stmn.nets.network import Network
from stmn.runtime.json_files import parse_json

#: the metadata entries: the description, and the digest of all the rest
_ABOUT, _DIGEST = "stmn", "digest"
#: averages and classifier, which stay float32 in a float16 file
_FLOAT32_OPERATIONS = ["AveragePool", "Gemm", "GlobalAveragePool", "MatMul", "ReduceMean"]


class OnnxExporter:
    """Writes a `.onnx` file with all that is needed to use it in its metadata, and the digest of the whole.

    `opsets` are the versions of ONNX's operators that torch can write and that this package tests.
    """

    suffix = ".onnx"
    precisions = ("float32", "float16", "int8")
    opsets = range(18, 24)

    def write(
        self, network: Network, description: Description, example: Sequence[Tensor], path: Path,
        precision: str = "float32", opset: int | None = None, clips: Sequence[Sequence[Tensor]] = (),
    ) -> None:  # fmt: skip
        """Write the network through torch.export.

        Args:
            network: The network.
            description: Its classes, preprocessing and plugins.
            example: A batch for each stream, (B, T, channels, H, W).
            path: Where to write.
            precision: "float32", "float16" for a file of half the size, or "int8" for convolutions in 8 bits. Inputs,
                averages, the classifier and outputs are float32 in any case.
            opset: The version of ONNX's operators; None: torch's default.
            clips: For int8, inputs from training videos, (1, T, channels, H, W) for each stream.

        Raises:
            MissingExtra: A package of the extra `export` is not installed.
            StmnError: The network can't be expressed.
        """
        onnx = _import_onnx("export to ONNX")
        program = make_program(network, example)
        model = _convert(program, network, opset)
        if precision == "float16":
            model = _to_float16(model)
        if precision == "int8":
            with tempfile.TemporaryDirectory() as folder:
                exact, quantised = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
                onnx.save(model, exact)
                quantise(exact, quantised, clips)
                model = onnx.load(quantised)
        save_onnx(onnx, model, describe_use(description, precision), path)

    def runner(self, path: Path) -> Runner:
        """Load the file into ONNX Runtime, on the CPU.

        Raises:
            MissingExtra: The package onnxruntime is not installed.
            CheckpointError: The file is damaged.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtra("running ONNX files", "onnxruntime", "export") from error
        check_file(path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # only errors
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own errors
            raise CheckpointError(f"{path}: onnxruntime can't load it: {str(error).splitlines()[0][:200]}") from error
        names = [given.name for given in session.get_inputs()]

        def run(given: Sequence[Tensor]) -> list[Tensor]:
            values = dict(zip(names, (tensor.numpy() for tensor in given), strict=True))
            return [torch.from_numpy(output) for output in session.run(None, values)]

        return run

    def read(self, path: Path) -> Description:
        """Read the description in a file.

        Raises:
            MissingExtra: The package onnx is not installed.
            CheckpointError: The file is damaged, or was not written by stmn.
        """
        entries = check_file(path)
        if _ABOUT not in entries:
            raise CheckpointError(
                f"{path}: an ONNX file without stmn's metadata, so nothing says how to prepare its input; use one that "
                f"stmn export wrote"
            )
        try:
            values = parse_json(entries[_ABOUT])
        except ValueError as error:
            raise CheckpointError(f"{path}: its metadata is damaged: {error}; export it again") from error
        return parse_description(values if isinstance(values, dict) else {}, path)


def save_onnx(onnx: Any, model: Any, about: dict[str, Any], path: Path) -> None:
    """Write an ONNX model with its description and digest."""
    del model.metadata_props[:]
    # `precision` is also a separate entry, as in files of older versions
    onnx.helper.set_model_props(model, {_ABOUT: json.dumps(about), "precision": about["use"]["precision"]})
    model.metadata_props.add(key=_DIGEST, value=_digest(model))
    onnx.save(model, path)


def check_file(path: Path) -> dict[str, str]:
    """Check that an ONNX file is unchanged. One without a digest is from an older version or another program.

    Returns:
        Its metadata.

    Raises:
        MissingExtra: The package onnx is not installed.
        CheckpointError: It is damaged.
    """
    onnx = _import_onnx("reading ONNX files")
    try:
        model = onnx.load(path)
        entries = {entry.key: entry.value for entry in model.metadata_props}
        places = [place for place, entry in enumerate(model.metadata_props) if entry.key == _DIGEST]
        if places:
            written = model.metadata_props.pop(places[0]).value
            whole = written == _digest(model)
        else:  # the digest's entry itself may be damaged
            whole = not any(re.fullmatch("[0-9a-f]{64}", value) for value in entries.values())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except Exception as error:  # protobuf raises its own errors
        raise _damaged(path) from error
    if not whole:
        raise _damaged(path)
    return entries


def _import_onnx(needed_for: str) -> Any:
    """The package onnx. Raises `MissingExtra`."""
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra(needed_for, "onnx", "export") from error
    return onnx


def _convert(program: Any, network: Network, opset: int | None) -> Any:
    """Convert a program of torch.export to an ONNX model. Raises `MissingExtra` or `StmnError`."""
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtra("export to ONNX", "onnxscript", "export") from error
    names = [stream.modality for stream in network.config.streams]
    outputs = [f"{name}_scores" for name in network.outputs]
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parity check measures what it warns about
            made = torch.onnx.export(
                program, (), dynamo=True, verbose=False, input_names=names, output_names=outputs, opset_version=opset
            )  # fmt: skip
        model: Any = made.model_proto  # type: ignore[union-attr]
    except Exception as error:  # torch.onnx passes on errors of any type
        first = str(error).split("\n", 1)[0][:300]
        raise StmnError(f"export: torch.onnx can't express this network: {first}") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    written = max(entry.version for entry in model.opset_import if entry.domain == "")
    if opset is not None and written != opset:
        raise StmnError(f"export: opset {opset} was asked for, but this network can only be written in {written}")
    return _name_axes(model)


def _name_axes(model: Any) -> Any:
    """Name the free axes of a model's inputs and outputs, and drop the shapes of all tensors in between."""
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_param and axis in AXES:
                dim.dim_param = AXES[axis]
    return model


def _damaged(path: Path) -> CheckpointError:
    """The error for a damaged file."""
    return CheckpointError(f"{path}: is damaged: not what stmn export wrote; use another copy, or export it again")


def _digest(model: Any) -> str:
    """The SHA-256 of a serialised ONNX model without its digest entry."""
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def _to_float16(model: Any) -> Any:
    """Convert weights and features of an ONNX model to float16. Raises `MissingExtra` without onnxruntime."""
    try:
        from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    except ImportError as error:
        raise MissingExtra("export in float16", "onnxruntime", "export") from error
    kept = [*DEFAULT_OP_BLOCK_LIST, *_FLOAT32_OPERATIONS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about numbers too small for float16; the parity check measures their effect
        return convert_float_to_float16(model, keep_io_types=True, op_block_list=kept)
