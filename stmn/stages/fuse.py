"""fuse: tie two trained streams by gates and temporal filters, and train them end to end (sections 3.2, 3.3, 4.1)."""

from typing import TYPE_CHECKING, Any, Literal

from stmn import registry
from stmn.errors import DataError, UsageError
from stmn.options.base import option
from stmn.options.training import TrainingOptions, clips_of, plan_of
from stmn.recipe.execute import Context, Made
from stmn.workspace import Workspace

if TYPE_CHECKING:
    from stmn.nets.config import NetworkConfig

#: under torchrun all processes run this stage together
TOGETHER = True


class Options(TrainingOptions):
    """Options of `stmn fuse`."""

    appearance: str | None = option(None, "trained appearance stream (default: the workspace's newest)", input="model")
    motion: str | None = option(None, "trained motion stream (default: the workspace's newest)", input="model")
    fusion: str = option("multiply", "what combines the streams at a gate: a fusion plugin", plugin="fusion")
    site: Literal["residual", "direct"] = option("residual", "gate the residual branch, or the skip path too")
    direction: Literal["motion_to_appearance", "appearance_to_motion", "both"] = option(
        "motion_to_appearance", "which stream gates which"
    )
    gated_units: Literal["second_unit", "every_unit"] = option("second_unit", "units of a stage that are gated")
    operand: Literal["pre_relu", "post_relu"] = option("pre_relu", "what of the receiving stream enters the gate")
    injector: str = option("residual", "where temporal filters enter: an injector plugin", plugin="injector")
    temporal_init: Literal["centre", "average"] = option("centre", "how temporal filters start")
    temporal_length: int = option(3, "chunks that a temporal filter spans; odd", ge=1)
    motion_injector: str | None = option(
        None, "injector of the motion stream, where it is another one (default: --injector)", plugin="injector"
    )
    temporal_pool: Literal["max", "average", "none"] = option(
        "max", "pooling over time before the classifier (eq. 10: max); none classifies every chunk"
    )
    temporal_window: int | None = option(
        None, "chunks that are pooled at a time, at stride 1; predictions are averaged (default: all)", ge=1
    )
    prediction: Literal["per_stream", "averaged", "concatenated"] = option(
        "per_stream", "one loss a stream, or one on their mean, or on a linear layer over both streams' scores"
    )
    chunks: int = option(5, "T: chunks of a video in a training pass", ge=1)
    epochs: int | None = option(None, "passes of the training list (default: 40, and 25 with authors)", ge=1)
    micro_batch: int = option(4, "videos in memory at a time; batch statistics are theirs", ge=1)
    lr: float = option(1e-3, "learning rate", gt=0)
    schedule: Literal["steps", "authors", "plateau", "cosine"] = option(
        "steps",
        "steps divides lr by 10 after 20 epochs and after 10 more (the paper), authors after 10, 15 and 20 and ends "
        "after 25 (their code); cosine is for a fixed number of steps",
    )
    patience: int = option(5, "validations without a better error that count as saturated", ge=1)
    dropout: float | None = option(
        None, "dropout of the motion classifier (default: as the stream was trained)", ge=0, lt=1
    )


#: schedule -> passes of the training list after which lr is divided by 10
MILESTONES: dict[str, tuple[int, ...]] = {"steps": (20, 30), "authors": (10, 15, 20)}


def complete(options: Options, workspace: Workspace, inputs: dict[str, Any]) -> Options:
    """Fill in the streams (the workspace's newest) and the paper's batch and crops."""
    if options.temporal_length % 2 == 0:
        raise UsageError(f"temporal_length = {options.temporal_length}: a temporal filter's length is odd")
    if options.temporal_pool == "none" and options.temporal_window is not None:
        raise UsageError(
            f"temporal_window = {options.temporal_window} without pooling over time: temporal_pool is none"
        )
    found = {}
    for name, modality in (("appearance", "rgb"), ("motion", "flow")):
        if getattr(options, name) is None and name not in inputs:
            run = workspace.newest("model", modality=modality)
            if run is None:
                raise DataError(f"no trained {name} stream; make it with: stmn train-stream --modality {modality}")
            found[name] = str(run.path)
    return options.with_defaults(
        batch=128, augment="jitter", epochs=25 if options.schedule == "authors" else 40, **found
    )


def label(options: Options) -> str:
    """`fused-multiply`."""
    return f"fused-{options.fusion}"


def plugins(options: Options) -> list[dict[str, str]]:
    """The fusion and the injectors."""
    injectors = dict.fromkeys([options.injector, options.motion_injector or options.injector])
    return [
        registry.find("fusion", options.fusion).identity,
        *(registry.find("injector", name).identity for name in injectors),
    ]


def run(options: Options, context: Context) -> Made:
    """Tie the streams, train, and write `model.safetensors`."""
    from stmn.nets.checkpoint import Description, TrainedOn, save_checkpoint
    from stmn.runtime.device import choose_device
    from stmn.training.loop import train
    from stmn.training.state import remove_state

    device = choose_device(context.device, options.precision)
    network, streams = tie(options, context)
    config = network.config
    clips, validation = clips_of(options, context, ("rgb", "flow"), config.size, config.stack_length, options.chunks)
    header = clips.store.header
    if header.classes != config.classes:
        raise DataError(
            f"the streams know {len(config.classes)} classes, data set {header.name} has other {len(header.classes)}"
        )
    plan = plan_of(options, len(clips), MILESTONES.get(options.schedule, ()))
    state = train(network, clips, validation, plan, device, context.out, context.progress, context.ranks)
    # what the streams have learned from, the fused network has too: they may know another split
    seen = [video for known in streams if known.trained_on.data == header.name for video in known.trained_on.videos]
    videos = list(dict.fromkeys([*header.part(options.split, "train"), *seen]))
    trained_on = TrainedOn(data=header.name, split=options.split, videos=videos)
    if context.ranks.first:
        save_checkpoint(
            context.out / "model.safetensors",
            network,
            Description(config, header.preparation, trained_on, streams[0].keeps, options.model_dump(mode="json")),
        )
        remove_state(context.out)
    last = state.history[-1] if state.history else {}
    return Made(
        outputs={"model": "model.safetensors", "metrics": "metrics.jsonl"},
        results={"steps": state.step, "training_videos": len(clips), **last},
    )


def tie(options: Options, context: Context) -> Any:
    """The two-stream network, filled from its two trained streams, and what these say of themselves.

    Raises `DataError` when they don't fit.
    """
    from stmn.nets.checkpoint import load_checkpoint, read_description
    from stmn.nets.network import build_network

    files = {name: context.input(name) for name in ("appearance", "motion")}
    described = {name: read_description(file.path) for name, file in files.items() if file}
    for name, description in described.items():
        if [stream.name for stream in description.network.streams] != [name]:
            raise DataError(f"{files[name].name}: is no single {name} stream")  # type: ignore[union-attr]
    config = network_config(options, described["appearance"].network, described["motion"].network)
    network = build_network(config, options.seed)
    state = network.state_dict()
    for file in files.values():
        stream, _ = load_checkpoint(file.path)  # type: ignore[union-attr]
        state |= stream.state_dict()  # all of it has its place, and nothing of a stream is left to chance
    network.load_state_dict(state)
    return network, list(described.values())


def network_config(options: Options, first: "NetworkConfig", second: "NetworkConfig") -> "NetworkConfig":
    """The network that ties an appearance and a motion stream's. Raises `DataError` when they don't fit."""
    from stmn.nets.config import GateConfig, NetworkConfig, TemporalConfig

    for what in ("size", "stack_length", "classes"):
        if getattr(first, what) != getattr(second, what):
            raise DataError(
                f"the streams don't fit: {what} is {getattr(first, what)} for appearance "
                f"and {getattr(second, what)} for motion"
            )
    motion = second.streams[0]
    if options.dropout is not None:
        motion = motion.model_copy(update={"dropout": options.dropout})
    return NetworkConfig(
        classes=first.classes,
        size=first.size,
        stack_length=first.stack_length,
        streams=[first.streams[0], motion],
        gate=GateConfig(
            fusion=options.fusion,
            site=options.site,
            direction=options.direction,
            units=options.gated_units,
            operand=options.operand,
        ),
        temporal=TemporalConfig(
            injector=options.injector,
            init=options.temporal_init,
            length=options.temporal_length,
            pool=options.temporal_pool,
            window=options.temporal_window,
            motion_injector=options.motion_injector,
        ),
        prediction=options.prediction,
    )
