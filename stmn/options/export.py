"""The options of export."""

from pathlib import Path
from typing import Any, Literal

from stmn.options.base import StageOptions, option


class ExportOptions(StageOptions):
    """Export a model to another format, such as ONNX."""

    model: str | None = option(
        None, "model to export: a run or a file [default: the newest]", "Data", argument=True, inputs=("model",)
    )
    format: str = option("onnx", "file format: an exporter plugin", "Run", plugin="exporter")
    format_options: dict[str, Any] = option(
        {}, "options of the exporter; 'stmn plugins show NAME' lists them", "Run", options_of="format", added_later=True
    )
    precision: Literal["float32", "float16", "int8"] = option(
        "float32",
        "type of weights and features in the file, in int8 only of convolutions; inputs, classifier, averages and "
        "logits are always float32",
        "Run",
    )
    half: bool = option(False, "the same as --precision float16", "Run", added_later=True)
    int8: bool = option(False, "the same as --precision int8", "Run", added_later=True)
    calibration: int = option(
        32, "training videos from which int8 takes the ranges of features", "Run", ge=1, le=10_000, added_later=True
    )
    opset: int | None = option(
        None, "version of the format's operators [default: that of the exporter]", "Run", ge=1, added_later=True
    )
    licence: str | None = option(
        None, "licence of the weights, to write into the file: 'CC BY 4.0'", "Run", max_length=1000, added_later=True
    )
    copy_to: Path | None = option(
        None,
        "also copy the file to this path; an existing file is overwritten only with --force",
        "Run",
        execution=True,
        command_line_only=True,
    )
    example: Path | None = option(
        None,
        "also write a folder that runs the file with onnxruntime, numpy and PyAV alone",
        "Run",
        execution=True,
        command_line_only=True,
    )
