"""train-stream: one stream alone, appearance or motion (section 4.1)."""

from pathlib import Path
from typing import TYPE_CHECKING

from stmn.errors import UsageError
from stmn.options.train_stream import TrainStreamOptions
from stmn.stages.base import Context, Result, Stage
from stmn.stages.training import make_plan, open_clips, train_model
from stmn.workspace import Input, Workspace

if TYPE_CHECKING:
    from stmn.nets.config import NetworkConfig

#: modality -> (batch, dropout, epochs, augmentation): the paper's, or its authors' code where the paper is silent
_DEFAULTS: dict[str, tuple[int, float, int, str]] = {
    "rgb": (256, 0.0, 60, "jitter"),
    "flow": (128, 0.8, 400, "multi_scale"),
}
#: modality -> epochs after which `steps` divides lr by 10: the authors' code
MILESTONES: dict[str, tuple[int, ...]] = {"rgb": (20, 40), "flow": (100, 200, 300)}


class TrainStream(Stage[TrainStreamOptions]):
    """Trains one stream and writes `model.safetensors`."""

    options = TrainStreamOptions
    makes = ("model",)
    shared = True

    def check_options(self, options: TrainStreamOptions) -> None:
        """Refuse weights that are not on this machine, and frozen layers of random weights."""
        from stmn.nets.weights.pretrained import resolve_weights

        if resolve_weights(options.weights, options.arch) == "none" and options.bn != "train":
            raise UsageError(
                f"bn = {options.bn} keeps the batch statistics of the starting weights, and random weights have none: "
                f"name weights, or use bn = train"
            )

    def complete(
        self, options: TrainStreamOptions, workspace: Workspace, inputs: dict[str, list[Input]]
    ) -> TrainStreamOptions:
        """Fill in what depends on the modality and on this machine."""
        from stmn.nets.weights.pretrained import resolve_weights

        self.check_options(options)
        options = fill_defaults(options)
        return options.model_copy(update={"weights": resolve_weights(options.weights, options.arch)})

    def label(self, options: TrainStreamOptions) -> str:
        """`motion-resnet152`."""
        return f"{'appearance' if options.modality == 'rgb' else 'motion'}-{options.arch}"

    def plugins(self, options: TrainStreamOptions) -> list[dict[str, str]]:
        """The backbone, and the content of the weights file that it starts from."""
        from stmn.nets.backbones import backbone_identity
        from stmn.runtime.files import file_digest

        known = [backbone_identity(options.arch)]
        if options.weights not in ("imagenet", "none"):
            known.append({"kind": "weights", "name": options.weights, "digest": file_digest(Path(options.weights))})
        return known

    def check(self, options: TrainStreamOptions, context: Context) -> None:
        """Refuse a device or a precision that is not here."""
        from stmn.runtime.device import choose_device

        choose_device(context.device, options.precision)

    def run(self, options: TrainStreamOptions, context: Context) -> Result:
        """Train the stream."""
        from stmn.nets.build import build_network
        from stmn.nets.weights.pretrained import describe_weights, load_weights
        from stmn.sampling.augment import FLOW_TO_INPUT, RGB_TO_INPUT

        clips = open_clips(options, context, (options.modality,), options.size, options.stack_length)
        header = clips[0].store.header
        network = build_network(stream_config(options, header.classes), options.seed)
        context.progress.say(f"{options.arch}: starting from {describe_weights(options.weights, options.arch)}")
        levels = RGB_TO_INPUT if options.modality == "rgb" else FLOW_TO_INPUT
        load_weights(network.stream(network.names[0]).backbone, options.weights, options.arch, levels)
        plan = make_plan(options, len(clips[0]), MILESTONES[options.modality])
        return train_model(network, clips, plan, options, context, header.keeps)


def fill_defaults(options: TrainStreamOptions) -> TrainStreamOptions:
    """Options in which what depends on the modality has the paper's values."""
    batch, dropout, epochs, augment = _DEFAULTS[options.modality]
    return options.with_defaults(batch=batch, dropout=dropout, epochs=epochs, augment=augment)


def stream_config(options: TrainStreamOptions, classes: list[str]) -> "NetworkConfig":
    """The network that complete options describe."""
    from stmn.nets.config import NetworkConfig, StreamConfig
    from stmn.nets.weights.pretrained import choose_layout

    stream = StreamConfig(
        modality=options.modality,
        arch=options.arch,
        width=options.width,
        dropout=options.dropout or 0.0,
        layout=choose_layout(options.weights),
    )
    return NetworkConfig(classes=classes, size=options.size, stack_length=options.stack_length, streams=[stream])
