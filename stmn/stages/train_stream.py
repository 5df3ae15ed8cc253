"""train-stream: one stream on its own, appearance or motion (section 4.1)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stmn.options.base import option
from stmn.options.training import TrainingOptions, clips_of, plan_of
from stmn.recipe.execute import Context, Made
from stmn.workspace import Workspace

if TYPE_CHECKING:
    from stmn.nets.config import NetworkConfig

#: modality -> (batch, dropout, epochs, augmentation): the paper's, and the authors' code where the paper is silent
DEFAULTS: dict[str, tuple[int, float, int, str]] = {
    "rgb": (256, 0.0, 60, "jitter"),
    "flow": (128, 0.8, 400, "multi_scale"),
}
#: modality -> passes of the training list after which `steps` divides lr by 10: the authors' code
MILESTONES: dict[str, tuple[int, ...]] = {"rgb": (20, 40), "flow": (100, 200, 300)}


#: under torchrun all processes run this stage together
TOGETHER = True


class Options(TrainingOptions):
    """Options of `stmn train-stream`."""

    modality: Literal["rgb", "flow"] = option("rgb", "rgb trains the appearance stream, flow the motion stream")
    arch: str = option("resnet50", "backbone: a plugin, or any ResNet of timm by its name", plugin="backbone")
    width: float = option(1.0, "channels of the four stages, times this", gt=0, le=4)
    weights: str = option(
        "auto",
        "start: imagenet, none, auto (imagenet if on this machine, else none), or a file: a state dict of timm or "
        "torchvision (.safetensors, .pth), a ResNet of MatConvNet (.mat)",
    )
    size: int = option(224, "side of the training crop, pixels", ge=32)
    stack_length: int = option(10, "L: flow fields of a stack", ge=1)
    chunks: int = option(1, "T: chunks of a video in a training pass", ge=1)
    epochs: int | None = option(None, "passes of the training list at most (default: 60 for rgb, 400 for flow)", ge=1)
    micro_batch: int = option(32, "videos in memory at a time; batch statistics are theirs", ge=1)
    lr: float = option(1e-2, "learning rate", gt=0)
    schedule: Literal["plateau", "steps", "cosine"] = option(
        "plateau",
        "plateau lowers lr twice when the validation error saturates; steps divides it by 10 at the authors' epochs "
        "(20, 40 for rgb; 100, 200, 300 for flow); cosine is for a fixed number of steps",
    )
    patience: int = option(5, "validations without a better error that count as saturated", ge=1)
    dropout: float | None = option(None, "dropout before the classifier (default: 0.8 for flow, 0 for rgb)", ge=0, lt=1)


def complete(options: Options, workspace: Workspace, inputs: dict[str, Any]) -> Options:
    """Fill in what depends on the modality and on this machine."""
    from stmn.nets.weights.pretrained import resolve_weights

    options = with_paper(options)
    return options.model_copy(update={"weights": resolve_weights(options.weights, options.arch)})


def with_paper(options: Options) -> Options:
    """Options in which what depends on the modality has the paper's values."""
    batch, dropout, epochs, augment = DEFAULTS[options.modality]
    return options.with_defaults(batch=batch, dropout=dropout, epochs=epochs, augment=augment)


def network_config(options: Options, classes: list[str]) -> "NetworkConfig":
    """The network that complete options describe."""
    from stmn.nets.config import NetworkConfig, StreamConfig
    from stmn.nets.weights.pretrained import layout_of

    stream = StreamConfig(
        modality=options.modality,
        arch=options.arch,
        width=options.width,
        dropout=options.dropout or 0.0,
        layout=layout_of(options.weights),
    )
    return NetworkConfig(classes=classes, size=options.size, stack_length=options.stack_length, streams=[stream])


def label(options: Options) -> str:
    """`motion-resnet152`."""
    return f"{'appearance' if options.modality == 'rgb' else 'motion'}-{options.arch}"


def plugins(options: Options) -> list[dict[str, str]]:
    """The backbone, and what is in the file that it starts from."""
    from stmn.nets.backbones import backbone_identity
    from stmn.runtime.files import file_digest

    known = [backbone_identity(options.arch)]
    if options.weights not in ("imagenet", "none"):
        known.append({"kind": "weights", "name": options.weights, "digest": file_digest(Path(options.weights))})
    return known


def run(options: Options, context: Context) -> Made:
    """Train, and write `model.safetensors`."""
    from stmn.nets.checkpoint import Description, TrainedOn, save_checkpoint
    from stmn.nets.network import build_network
    from stmn.nets.weights.pretrained import describe_weights, load_weights
    from stmn.runtime.device import choose_device
    from stmn.sampling.augment import FLOW_TO_INPUT, RGB_TO_INPUT
    from stmn.training.loop import train
    from stmn.training.state import remove_state

    device = choose_device(context.device, options.precision)
    clips, validation = clips_of(
        options, context, (options.modality,), options.size, options.stack_length, options.chunks
    )  # fmt: skip
    header = clips.store.header
    config = network_config(options, header.classes)
    network = build_network(config, options.seed)
    context.progress.say(f"{options.arch}: starting from {describe_weights(options.weights, options.arch)}")
    levels = RGB_TO_INPUT if options.modality == "rgb" else FLOW_TO_INPUT
    load_weights(network.stream(network.names[0]).backbone, options.weights, options.arch, levels)
    plan = plan_of(options, len(clips), MILESTONES[options.modality])
    state = train(network, clips, validation, plan, device, context.out, context.progress, context.ranks)
    trained_on = TrainedOn(data=header.name, split=options.split, videos=header.part(options.split, "train"))
    if context.ranks.first:
        save_checkpoint(
            context.out / "model.safetensors",
            network,
            Description(config, header.preparation, trained_on, header.keeps, options.model_dump(mode="json")),
        )
        remove_state(context.out)
    last = state.history[-1] if state.history else {}
    return Made(
        outputs={"model": "model.safetensors", "metrics": "metrics.jsonl"},
        results={"steps": state.step, "training_videos": len(clips), **last},
    )
