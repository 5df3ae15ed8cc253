"""Quantise an ONNX file's convolutions to 8 bits, with feature ranges measured on training videos."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from stmn.errors import MissingExtra


def quantise(source: Path, target: Path, clips: Sequence[Sequence[Tensor]]) -> None:
    """Write an ONNX file whose convolutions have 8-bit weights and inputs, with ONNX Runtime's quantiser.

    Weights have a scale per channel. The range of each convolution's input is from its smallest to its largest value on
    the clips. All else, including the classifier, stays float32.

    Args:
        source: The float32 file.
        target: The file to write.
        clips: Training videos: (1, T, channels, H, W) for each stream.

    Raises:
        MissingExtra: The package onnxruntime is not installed.
    """
    try:
        import onnxruntime
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    except ImportError as error:
        raise MissingExtra("export in int8", "onnxruntime", "export") from error
    given = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"]).get_inputs()
    names = [value.name for value in given]

    class _Clips(CalibrationDataReader):  # type: ignore[misc]
        """Returns the clips, one at a time."""

        def __init__(self) -> None:
            self._left: Iterator[dict[str, Any]] = (
                dict(zip(names, (planes.numpy() for planes in clip), strict=True)) for clip in clips
            )

        def get_next(self) -> dict[str, Any] | None:
            return next(self._left, None)

    logger, level = logging.getLogger(), logging.getLogger().level
    try:
        logger.setLevel(logging.ERROR)  # it advises what has been done already
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantize_static(
                str(source), str(target), _Clips(), quant_format=QuantFormat.QDQ, op_types_to_quantize=["Conv"],
                per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            )  # fmt: skip
    finally:
        logger.setLevel(level)
