"""fuse: tie two trained streams by gates and temporal filters, and train them end to end (sections 3.2, 3.3, 4.1)."""

from typing import TYPE_CHECKING

from stmn import registry
from stmn.errors import DataError
from stmn.options.fuse import FuseOptions
from stmn.stages.base import Context, Result, Stage
from stmn.stages.training import make_plan, open_clips, train_model
from stmn.workspace import Input, Workspace

if TYPE_CHECKING:
    from stmn.nets.checkpoint import Description
    from stmn.nets.config import NetworkConfig
    from stmn.nets.network import Network

#: schedule -> epochs after which lr is divided by 10
MILESTONES: dict[str, tuple[int, ...]] = {"steps": (20, 30), "authors": (10, 15, 20)}


class Fuse(Stage[FuseOptions]):
    """Trains two streams together and writes `model.safetensors`."""

    options = FuseOptions
    makes = ("model",)
    shared = True

    def complete(self, options: FuseOptions, workspace: Workspace, inputs: dict[str, list[Input]]) -> FuseOptions:
        """Fill in the streams (the workspace's newest) and the paper's batch and crops."""
        from stmn.nets.config import MODALITIES

        found = {}
        for name, modality in MODALITIES.items():
            if getattr(options, name) is None and name not in inputs:
                run = workspace.newest("model", modality=modality)
                if run is None:
                    raise DataError(f"no trained {name} stream; make it with: stmn train-stream --modality {modality}")
                found[name] = str(run.path)
        epochs = 25 if options.schedule == "authors" else 40
        return options.with_defaults(batch=128, augment="jitter", epochs=epochs, **found)

    def label(self, options: FuseOptions) -> str:
        """`fused-multiply`."""
        return f"fused-{options.fusion}"

    def plugins(self, options: FuseOptions) -> list[dict[str, str]]:
        """The fusion and the injectors."""
        injectors = dict.fromkeys([options.injector, options.motion_injector or options.injector])
        return [
            registry.find("fusion", options.fusion).identity,
            *(registry.find("injector", name).identity for name in injectors),
        ]

    def check(self, options: FuseOptions, context: Context) -> None:
        """Refuse a device or a precision that is not here."""
        from stmn.runtime.device import choose_device

        choose_device(context.device, options.precision)

    def run(self, options: FuseOptions, context: Context) -> Result:
        """Tie the streams and train them."""
        network, streams = _tie_streams(options, context)
        config = network.config
        clips = open_clips(options, context, ("rgb", "flow"), config.size, config.stack_length)
        header = clips[0].store.header
        if header.classes != config.classes:
            raise DataError(
                f"the streams know {len(config.classes)} classes, which are not the {len(header.classes)} of data set "
                f"{header.name}: name streams that were trained on it"
            )
        plan = make_plan(options, len(clips[0]), MILESTONES.get(options.schedule, ()))
        # the fused network has learned from whatever its streams have learned from: they may know another split
        seen = [video for known in streams if known.trained_on.data == header.name for video in known.trained_on.videos]
        return train_model(network, clips, plan, options, context, streams[0].keeps, seen)


def _tie_streams(options: FuseOptions, context: Context) -> tuple["Network", list["Description"]]:
    """The two-stream network, filled from its two trained streams, and what these say of themselves.

    Raises:
        DataError: they don't fit.
    """
    from stmn.nets.build import build_network
    from stmn.nets.checkpoint import load_checkpoint, read_description

    files = {name: context.inputs[name][0] for name in ("appearance", "motion")}
    described = {name: read_description(file.path) for name, file in files.items()}
    for name, description in described.items():
        if [stream.name for stream in description.network.streams] != [name]:
            raise DataError(f"{files[name].label}: is not a single {name} stream")
    config = fused_config(options, described["appearance"].network, described["motion"].network)
    network = build_network(config, options.seed)
    state = network.state_dict()
    for file in files.values():
        stream, _ = load_checkpoint(file.path)
        state |= stream.state_dict()
    network.load_state_dict(state)
    return network, list(described.values())


def fused_config(options: FuseOptions, appearance: "NetworkConfig", motion: "NetworkConfig") -> "NetworkConfig":
    """The network that ties the networks of an appearance and a motion stream.

    Raises:
        DataError: they don't fit.
    """
    from stmn.nets.config import GateConfig, NetworkConfig, TemporalConfig

    for what in ("size", "stack_length", "classes"):
        if getattr(appearance, what) != getattr(motion, what):
            raise DataError(
                f"the streams don't fit: {what} is {getattr(appearance, what)} for appearance "
                f"and {getattr(motion, what)} for motion"
            )
    motion_stream = motion.streams[0]
    if options.dropout is not None:
        motion_stream = motion_stream.model_copy(update={"dropout": options.dropout})
    return NetworkConfig(
        classes=appearance.classes,
        size=appearance.size,
        stack_length=appearance.stack_length,
        streams=[appearance.streams[0], motion_stream],
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
