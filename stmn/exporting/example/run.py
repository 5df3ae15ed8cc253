"""Classify a video with model.onnx: python run.py VIDEO [MODEL]. Needs onnxruntime, numpy and av alone.

The model's metadata says how frames and flow are made; this program does what it says.
"""

import json
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[Any]


def main() -> None:
    """Print the classes, most probable first."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    model = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).with_name("model.onnx")
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["stmn"])
    if fps := about["use"]["frames"]["fps"]:
        print(f"frames are read as they are stored; the model was trained at {fps:g} per second", file=sys.stderr)
    classes, scores = about["network"]["classes"], classify(session, about, sys.argv[1])
    for number in np.argsort(-scores):
        print(f"{100 * scores[number]:5.1f} % {classes[number]}")


def classify(session: Any, about: dict[str, Any], video: str) -> Array:
    """(classes,) probabilities: the softmax of logits averaged over outputs and views, at the model's temperature."""
    use, classes = about["use"], about["network"]["classes"]
    pictures = decode(video, use["frames"]["decoded_short_side"])
    times, stacks = place_chunks(len(pictures), use["chunks"], use["inputs"].get("flow"))
    planes: dict[str, Array] = {}
    size: tuple[int, int] | None = None
    needed = sorted({field for stack in stacks for field in stack})
    for name in use["inputs"]:
        if name == "rgb":
            levels = np.stack([pictures[t] for t in times]).transpose(0, 3, 1, 2)
        else:
            levels = np.stack([flow_levels(pictures[i], pictures[i + 1], use["inputs"]["flow"]) for i in needed])
        size = size or scaled(levels.shape[2:], use["frames"]["short_side"])
        planes[name] = resize(levels.astype(np.float32), size)
    logits = []
    for view in use["views"]:
        given = {}
        for name, levels in planes.items():
            mirror = "mirrored" in view
            about_it = use["inputs"][name]
            mean, std = (np.reshape(np.float32(about_it[key]), (-1, 1, 1)) for key in ("mean", "std"))
            values = (levels[..., ::-1] if mirror else levels) - mean
            values = values / std
            if name == "flow":
                if mirror:
                    values = values * np.array([-1, 1], np.float32)[:, None, None]
                rows = np.array([[needed.index(field) for field in stack] for stack in stacks])
                values = values[rows].reshape(len(rows), -1, *values.shape[-2:])
            given[name] = np.ascontiguousarray(values[None], np.float32)
        scores = np.mean(session.run(None, given), axis=0)[0]
        if "mirrored" in view:  # what looks like "left" in the mirror is "right"
            scores = scores[[classes.index(use["mirrored_classes"].get(name, name)) for name in classes]]
        logits.append(scores)
    mean = np.mean(logits, axis=0) / use.get("temperature", 1.0)
    powers: Array = np.exp(mean - mean.max())
    probabilities: Array = powers / powers.sum()
    return probabilities


def decode(video: str, short_side: int) -> list[Array]:
    """All frames as (H, W, 3) RGB of a short side, as they are stored: no rotation, pixels taken as square."""
    pictures = []
    with av.open(video) as container:
        for frame in container.decode(video=0):
            height, width = scaled((frame.height, frame.width), short_side)
            pictures.append(frame.reformat(width, height, format="rgb24", interpolation="BICUBIC").to_ndarray())
    if len(pictures) < 2:
        sys.exit(f"{video}: has {len(pictures)} frames, and two are needed")
    return pictures


def scaled(size: tuple[int, ...], short_side: int) -> tuple[int, int]:
    """Height and width at a short side."""
    height, width = size
    return round(height * short_side / min(size)), round(width * short_side / min(size))


def place_chunks(frames: int, rule: dict[str, Any], flow: dict[str, Any] | None) -> tuple[list[int], list[list[int]]]:
    """The frame of each chunk, and the numbers of its flow fields."""
    first, last = rule["first_frame"], frames - 1 - rule["frames_after_last"]
    if last < first:
        first = last = frames // 2
    count = min(rule["count"], last - first + 1)
    times = sorted({round(t) for t in np.linspace(first, last, count)})
    before, length = rule["first_frame"], flow["stack_length"] if flow else 0
    stacks = [[min(max(t - before + i, 0), frames - 2) for i in range(length)] for t in times]
    return times, stacks


def flow_levels(first: Array, second: Array, about: dict[str, Any]) -> Array:
    """(2, H, W) levels 0..255 of the flow between two frames."""
    from stmn.exporting.example.flow import tvl1

    luma = np.array([0.299, 0.587, 0.114], np.float32)
    options = {name + ("_" if name == "lambda" else ""): value for name, value in about["estimator_options"].items()}
    pixels = tvl1(first.astype(np.float32) @ luma, second.astype(np.float32) @ luma, **options)
    if about["camera_motion"] == "subtract":
        ordered = np.sort(pixels.reshape(2, -1))
        pixels = pixels - ordered[:, (ordered.shape[1] - 1) // 2][:, None, None]
    bound = np.float32(about["bound_pixels"])
    return np.round((pixels.clip(-bound, bound) + bound) * np.float32(about["levels_per_pixel"]))


def resize(levels: Array, size: tuple[int, int]) -> Array:
    """(N, C, H, W) levels at another size: bilinear, anti-aliased when smaller."""
    for axis, new in ((2, size[0]), (3, size[1])):
        old = levels.shape[axis]
        if old != new:
            levels = np.moveaxis(np.moveaxis(levels, axis, -1) @ triangles(old, new), -1, axis)
    return levels


def triangles(old: int, new: int) -> Array:
    """(old, new) weights of linear interpolation with a triangle that is as wide as the larger pixel."""
    ratio = old / new
    support = max(ratio, 1.0)
    centre = (np.arange(new) + 0.5) * ratio
    distance = np.abs(np.arange(old)[:, None] + 0.5 - centre) / support
    weights = np.clip(1 - distance, 0, None)
    scaled_down: Array = (weights / weights.sum(axis=0)).astype(np.float32)
    return scaled_down


if __name__ == "__main__":
    main()
