"""train-stream: train one stream alone, appearance or motion (section 4.1)."""

from typing import TYPE_CHECKING

from stmn import registry
from stmn.errors import CheckpointError, UsageError, near_match
from stmn.options.train_stream import TrainStreamOptions
from stmn.runtime import torchrun
from stmn.runtime.files import file_digest
from stmn.stages.base import Context, Result, Stage
from stmn.stages.training import (
    check_logger,
    check_processes,
    deliver_log,
    make_plan,
    open_clips,
    train_model,
    will_resume,
)
from stmn.workspace import Input, Run, Workspace

if TYPE_CHECKING:
    from stmn.nets.config import NetworkConfig, StreamConfig
    from stmn.nets.network import Network
    from stmn.nets.weights.transfer import TrainedStream

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
    format = 2

    def check_options(self, options: TrainStreamOptions) -> None:
        """Refuse weights that are not on this machine, and frozen batch statistics without starting weights."""
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
        words = [*options.described()["weights"].words, *registry.names("weights")]
        if options.weights not in words and (near := near_match(options.weights, words)) and "weights" not in inputs:
            try:  # it may be a run's name, close to one of the keywords
                workspace.find_input(options.weights, "model")
            except UsageError as error:
                raise UsageError(f"weights = {options.weights}: no such weights{near}") from error
        options = fill_defaults(options)
        return options.model_copy(update={"weights": resolve_weights(options.weights, options.arch)})

    def find_input(self, options: TrainStreamOptions, name: str, value: str, workspace: Workspace) -> Input:
        """The weights of a package; or, as for other options, a file or a run."""
        if name == "weights" and registry.offers("weights", value):
            from stmn.nets.weights.installed import find_installed

            path, label = find_installed(value, options.modality)
            return Input(path, file_digest(path), value, label)
        return super().find_input(options, name, value, workspace)

    def deliver(self, options: TrainStreamOptions, run: Run) -> None:
        """Give the log to the logger asked for, if the training did not."""
        deliver_log(options, run)

    def label(self, options: TrainStreamOptions) -> str:
        """`motion-resnet152`."""
        return f"{'appearance' if options.modality == 'rgb' else 'motion'}-{options.arch}"

    def plugins(self, options: TrainStreamOptions) -> list[dict[str, str]]:
        """The backbone."""
        from stmn.nets.needed import backbone_identity

        return [backbone_identity(options.arch)]

    def check(self, options: TrainStreamOptions, context: Context) -> None:
        """Refuse an unavailable device or precision, idle processes, and a start or lists that don't fit."""
        from stmn.runtime.device import choose_device
        from stmn.store.format.header import read_header

        check_processes(options, torchrun.size())
        check_logger(options)
        choose_device(context.device, options.precision)
        start = _read_start(options, context)
        if start is not None:
            choose_start(start.description.network, options, start.label)
        _check_lists(start, options, context)
        if options.weights != "none" and not will_resume(options, context.out):
            try:
                _make_network(options, read_header(context.data).classes, start, context)
            except CheckpointError as error:  # reported before a folder is made for a training that can't start
                raise UsageError(str(error)) from error

    def run(self, options: TrainStreamOptions, context: Context) -> Result:
        """Train the stream."""
        clips = open_clips(options, context, (options.modality,), options.size, options.stack_length)
        header = clips[0].store.header
        start = _read_start(options, context)
        network, origin = _make_network(options, header.classes, start, context)
        if not will_resume(options, context.out):
            context.progress.say(f"{options.arch}: starting from {origin}")
            if start and (differences := start.compare_flow(header.preparation, options.modality)):
                context.progress.say(
                    f"{start.label} was trained on flow that was made in another way: {', '.join(differences)}"
                )
        plan = make_plan(options, len(clips[0]), MILESTONES[options.modality])
        earlier = [start.description.trained_on] if start else []
        return train_model(network, clips, plan, options, context, header.keeps, earlier)


def _make_network(
    options: TrainStreamOptions, classes: list[str], start: "TrainedStream | None", context: Context
) -> "tuple[Network, str]":
    """The network with its starting weights, and words for them. Raises `CheckpointError` if they don't fit."""
    from stmn.nets.build import build_network
    from stmn.nets.weights.pretrained import describe_weights, load_weights
    from stmn.sampling.augment import FLOW_TO_INPUT, RGB_TO_INPUT

    config = stream_config(options, classes, start.stream if start else None)
    network = build_network(config, options.seed)
    stream = network.stream(network.names[0])
    if start:
        return network, start.fill(stream, config)
    given = context.input("weights")
    weights = str(given.path) if given else options.weights
    levels = RGB_TO_INPUT if options.modality == "rgb" else FLOW_TO_INPUT
    load_weights(stream.backbone, weights, options.arch, levels)
    return network, describe_weights(weights, options.arch)


def _read_start(options: TrainStreamOptions, context: Context) -> "TrainedStream | None":
    """The trained stream that training starts from; None for other weights."""
    from stmn.nets.weights.transfer import is_model_file, read_trained_stream

    given = context.input("weights")
    if given is None or not is_model_file(given.path):
        return None
    return read_trained_stream(given.path, given.label, options.modality)


def _check_lists(start: "TrainedStream | None", options: TrainStreamOptions, context: Context) -> None:
    """Refuse a set of one class, lists that can't spare validation videos, and a start that learned from these.

    Print a notice if it learned from test videos.
    """
    from stmn.sampling.validation import hold_out
    from stmn.stages.model_fit import check_unseen
    from stmn.store.format.read import Store

    with Store(context.data) as store:
        if len(store.header.classes) == 1:
            raise UsageError(
                f"{context.data}: all videos are of one class, '{store.header.classes[0]}'; training needs at least "
                "two: prepare a folder that holds a folder per class"
            )
        lists = hold_out(store.part(options.split, "train"), options.validation, options.validation_seed)
        if start is None:
            return
        check_unseen(
            start.description, start.label, store, lists.held_out, "validation videos",
            "start from a model with the same --validation and --validation-seed, or set validation = 0 here",
        )  # fmt: skip
        listed = [store.videos[i] for i in store.header.part(options.split, "test") if i in store.videos]
        if seen := start.description.trained_on.seen(listed, store.header.name):
            context.progress.say(
                f"{start.label} was trained on {len(seen)} of the {len(listed)} test videos of split {options.split}, "
                f"so what starts from it can't be tested on them"
            )


def choose_start(network: "NetworkConfig", options: TrainStreamOptions, label: str) -> "StreamConfig":
    """The stream of a network that training starts from. Raises `UsageError` if none fits."""
    from stmn.nets.weights.transfer import check_stream, choose_stream

    stream = choose_stream(network, options.modality, label)
    check_stream(stream, options.arch, options.width, label)
    return stream


def fill_defaults(options: TrainStreamOptions) -> TrainStreamOptions:
    """Fill in the paper's values for options that depend on the modality."""
    batch, dropout, epochs, augment = _DEFAULTS[options.modality]
    return options.with_defaults(batch=batch, dropout=dropout, epochs=epochs, augment=augment)


def stream_config(
    options: TrainStreamOptions, classes: list[str], start: "StreamConfig | None" = None
) -> "NetworkConfig":
    """The configuration of the network that complete options describe, with the layout of `start` if it is given."""
    from stmn.nets.config import NetworkConfig, StreamConfig
    from stmn.nets.weights.pretrained import choose_layout

    stream = StreamConfig(
        modality=options.modality,
        arch=options.arch,
        width=options.width,
        dropout=options.dropout or 0.0,
        layout=start.layout if start else choose_layout(options.weights),
        arch_options=options.arch_options,
    )
    return NetworkConfig(classes=classes, size=options.size, stack_length=options.stack_length, streams=[stream])
