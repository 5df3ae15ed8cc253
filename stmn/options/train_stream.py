"""The options of train-stream: a single stream (section 4.1)."""

from typing import Any, Literal

from stmn.options.base import option
from stmn.options.training import TrainingOptions


class TrainStreamOptions(TrainingOptions):
    """Train one stream: appearance (rgb) or motion (flow)."""

    modality: Literal["rgb", "flow"] = option(
        "rgb", "rgb trains the appearance stream, flow the motion stream", "Network"
    )
    arch: str = option("resnet50", "backbone: a plugin, or any ResNet of timm", "Network", plugin="backbone")
    arch_options: dict[str, Any] = option(
        {}, "options of the backbone, if that is a plugin", "Network", options_of="arch", added_later=True
    )
    width: float = option(1.0, "multiplies the channels of conv2 to conv5", "Network", gt=0, le=4)
    weights: str = option(
        "auto",
        "initial weights: imagenet, none, auto (imagenet if on this machine, else none), those of a package (such as "
        "formula of stmn-formula), a trained model (a run, a file or hf://user/name), or a file: a state dict of timm "
        "or torchvision (.safetensors, .pth), or a MatConvNet ResNet (.mat)",
        "Network",
        inputs=("model",),
        words=("auto", "imagenet", "none"),
        input_plugin="weights",
    )
    size: int = option(224, "side of the training crop, pixels", "Data", ge=32, le=1024)
    stack_length: int = option(10, "L: flow fields per stack", "Network", ge=1, le=100)
    dropout: float | None = option(
        None, "dropout before the classifier [default: 0.8 for flow, 0 for rgb]", "Network", ge=0, lt=1
    )
    chunks: int = option(1, "T: chunks per video in training", "Data", ge=1, le=10_000)
    epochs: int | None = option(
        None, "maximum passes over the training list [default: 60 for rgb, 400 for flow]", "Optimisation", ge=1
    )
    micro_batch: int = option(
        32,
        "videos in memory at a time; batch normalisation sees them together, or in groups of --bn-group",
        "Optimisation",
        ge=1,
    )
    lr: float = option(1e-2, "learning rate", "Optimisation", gt=0)
    schedule: Literal["plateau", "steps", "cosine"] = option(
        "plateau",
        "when to divide lr by 10; plateau: twice, when validation stops improving; steps: at the authors' epochs (20, "
        "40 for rgb; 100, 200, 300 for flow); cosine follows a cosine to 0 instead",
        "Optimisation",
    )
