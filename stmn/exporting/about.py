"""The description in an exported file: all that is needed to use it without this package."""

from typing import Any

from stmn.flow.quantise import ZERO_LEVEL
from stmn.nets.checkpoint import Description
from stmn.nets.network import FUSED
from stmn.sampling.augment import FLOW_STD, RGB_MEAN, RGB_STD

#: chunks of a whole video (section 4.2)
CHUNKS = 25


def describe_use(description: Description, precision: str) -> dict[str, Any]:
    """Describe how to make the network's input and read its output, as JSON values.

    Args:
        description: The network's description.
        precision: The precision of weights and features in the file: "float32", "float16" or "int8".

    Returns:
        The values of `Description.to_json`, and under `use`: inputs with mean, deviation and order of planes; outputs,
        and the temperature of their softmax; the positions of chunks; the size that frames are resized to; the views
        to average over.
    """
    return description.to_json() | {"use": _use(description, precision)}


def _use(description: Description, precision: str) -> dict[str, Any]:
    """The table `use`."""
    config, how, length = description.network, description.preparation, description.network.stack_length
    inputs: dict[str, Any] = {}
    for stream in config.streams:
        inputs[stream.modality] = {"shape": ["batch", "chunks", config.in_channels(stream.modality), "height", "width"]}
        if stream.modality == "rgb":
            inputs["rgb"] |= {
                "planes": ["red", "green", "blue"],
                "mean": [255 * mean for mean in RGB_MEAN],
                "std": [255 * std for std in RGB_STD],
            }
        else:
            inputs["flow"] |= {
                "planes": [f"{axis}{number}" for number in range(1, length + 1) for axis in "uv"],
                "stack_length": length,
                "bound_pixels": how.bound,
                "levels_per_pixel": 255 / (2 * how.bound),
                "mean": ZERO_LEVEL,
                "std": FLOW_STD,
                "estimator": how.flow,
                "estimator_options": how.flow_options,
                "camera_motion": how.camera_motion,
            }
    outputs = [stream.name for stream in config.streams] if config.prediction == "per_stream" else [FUSED]
    first = length // 2
    return {
        "precision": precision,
        "inputs": inputs,
        "values": "(level - mean) / std, with levels in 0..255; flow level = round((clip(pixels, +-bound) + bound) * "
        "levels_per_pixel)",
        "outputs": [f"{name}_scores" for name in outputs],
        "answer": "logits; average them over outputs and views, divide by the temperature, then softmax",
        "temperature": description.temperature,
        "chunks": {
            "count": CHUNKS,
            "first_frame": first,
            "frames_after_last": length - first,
            "rule": "frame numbers from 0, spread evenly from first_frame to frames - 1 - frames_after_last, rounded "
            "half to even, each once; a video too short for that has one chunk, at frames // 2",
            "stack": f"fields t - {first} to t + {length - first - 1}, of which field i leads from frame i to i + 1; "
            "fields outside the video are its first or last one",
        },
        "frames": {
            "fps": how.fps,
            "decoded_short_side": how.short_side,
            "short_side": description.test_short_side,
            "smallest_side": config.size,
            "resize": "bilinear, anti-aliased, centres of pixels aligned",
        },
        "views": ["whole frame", "whole frame mirrored, u with its sign changed"][
            : 1 + ("mirror" in description.keeps)
        ],
        "mirrored_classes": description.mirror_pairs,
    }
