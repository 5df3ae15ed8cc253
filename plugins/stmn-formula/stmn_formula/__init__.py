"""Starting weights of both streams that learned from rendered fractals and motions, from no photograph and no film."""

from pathlib import Path


def formula(modality: str) -> Path:
    """Weights of a ResNet-18 of half width, in float16, that learned from videos that formulas render.

    Appearance learned to tell 192 fractals and textures apart, motion 44 kinds of motion. They need
    `--arch resnet18 --width 0.5`.

    Args:
        modality: "rgb" for an appearance stream, "flow" for a motion stream.

    Returns:
        The model file.
    """
    return Path(__file__).with_name(f"{modality}.safetensors")
