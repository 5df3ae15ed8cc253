"""The options of export."""

from pathlib import Path
from typing import Literal

from stmn.options.base import StageOptions, option


class ExportOptions(StageOptions):
    """Export a model to another format, such as ONNX."""

    model: str | None = option(
        None, "model to export: a run or a file [default: the newest]", "Data", argument=True, inputs=("model",)
    )
    format: str = option("onnx", "file format: an exporter plugin", "Run", plugin="exporter")
    precision: Literal["float32", "float16"] = option(
        "float32",
        "type of weights and features in the file; inputs, classifier, averages and logits are float32 in each",
        "Run",
    )
    copy_to: Path | None = option(
        None,
        "also copy the file to this path; what is there is overwritten with --force alone",
        "Run",
        execution=True,
        typed=True,
    )
