"""fuse: tie two trained streams by gates and temporal filters, and train them end to end (sections 3.2, 3.3, 4.1)."""

from dataclasses import replace
from typing import TYPE_CHECKING

from stmn import registry
from stmn.errors import DataError
from stmn.options.fuse import FuseOptions
from stmn.options.train_stream import TrainStreamOptions
from stmn.runtime import torchrun
from stmn.stages.base import Context, Result, Stage
from stmn.stages.training import check_logger, check_processes, deliver_log, make_plan, open_clips, train_model
from stmn.workspace import Input, Run, Workspace

if TYPE_CHECKING:
    from stmn.nets.checkpoint import Description
    from stmn.nets.config import NetworkConfig
    from stmn.nets.network import Network
    from stmn.training.plan import Plan

#: schedule -> epochs after which lr is divided by 10
MILESTONES: dict[str, tuple[int, ...]] = {"steps": (20, 30), "authors": (10, 15, 20)}


class Fuse(Stage[FuseOptions]):
    """Trains two streams together and writes `model.safetensors`."""

    options = FuseOptions
    makes = ("model",)
    shared = True
    format = 2

    def complete(self, options: FuseOptions, workspace: Workspace, inputs: dict[str, list[Input]]) -> FuseOptions:
        """Fill in the streams (the newest of the data set and split) and the paper's batch and crops."""
        from stmn.nets.config import MODALITIES

        found = {}
        for name, modality in MODALITIES.items():
            if getattr(options, name) is None and name not in inputs:
                data = workspace.find_data(options.data).name
                run = workspace.newest("model", data, modality=modality, split=options.split)
                if run is None:
                    raise DataError(
                        f"no {name} stream was trained on {data}, split {options.split}; make it with: "
                        f"{_train_command(modality, options, workspace)}"
                    )
                found[name] = str(run.path)
        return fill_defaults(options).with_defaults(**found)

    def deliver(self, options: FuseOptions, run: Run) -> None:
        """Give the log to the logger asked for, if the training did not."""
        deliver_log(options, run)

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
        """Refuse an unavailable device or precision, and streams that don't fit each other, the data or the split."""
        from stmn.runtime.device import choose_device

        check_processes(options, torchrun.size())
        check_logger(options)
        choose_device(context.device, options.precision)
        streams = _describe_streams(context)
        _check_streams(options, context, streams)
        foreign = any(known["package"] != registry.BUILT_IN for known in self.plugins(options))
        if options.freeze or options.fusion_options or foreign:
            from stmn.nets.build import sketch_network
            from stmn.training.freezing import check_frozen

            network = sketch_network(fused_config(options, streams["appearance"].network, streams["motion"].network))
            check_frozen(network, options.freeze or [])

    def run(self, options: FuseOptions, context: Context) -> Result:
        """Tie the streams and train them."""
        network, streams = _tie_streams(options, context)
        config = network.config
        clips = open_clips(options, context, ("rgb", "flow"), config.size, config.stack_length)
        plan = _plan_pair(options, make_plan(options, len(clips[0]), MILESTONES.get(options.schedule, ())))
        keeps = [kept for kept in clips[0].store.header.keeps if all(kept in stream.keeps for stream in streams)]
        return train_model(network, clips, plan, options, context, keeps, [stream.trained_on for stream in streams])


def fill_defaults(options: FuseOptions) -> FuseOptions:
    """Fill in the paper's batch, crops and epochs where none were given."""
    epochs = 25 if options.schedule == "authors" else 40
    return options.with_defaults(batch=128, augment="jitter", epochs=epochs)


def _plan_pair(options: FuseOptions, plan: "Plan") -> "Plan":
    """Add to a plan what concerns two streams: learning rates, loss weights, and what is frozen."""
    return replace(
        plan,
        multipliers=replace(plan.multipliers, appearance=options.lr_appearance, motion=options.lr_motion),
        loss_weights=tuple(options.loss_weights or ()),
        freeze=tuple(options.freeze or ()),
    )


def _train_command(modality: str, options: FuseOptions, workspace: Workspace) -> str:
    """The command that trains a missing stream and holds out the videos that are validated on here."""
    data = options.data or workspace.find_data(None).name
    held_out: list[str] = []
    if options.validation:
        defaults = {name: TrainStreamOptions.model_fields[name].default for name in ("validation", "validation_seed")}
        if options.validation > defaults["validation"]:
            held_out += ["--validation", f"{options.validation:g}"]
        if options.validation_seed != defaults["validation_seed"]:
            held_out += ["--validation-seed", str(options.validation_seed)]
    return workspace.command("train-stream", "--modality", modality, *held_out, data=data, split=options.split)


def _describe_streams(context: Context) -> dict[str, "Description"]:
    """Read the descriptions of the two streams' files. Raises `DataError` if one is not such a stream."""
    from stmn.nets.checkpoint import read_description

    files = {name: context.inputs[name][0] for name in ("appearance", "motion")}
    described = {name: read_description(file.path) for name, file in files.items()}
    for name, description in described.items():
        if [stream.name for stream in description.network.streams] != [name]:
            raise DataError(f"{files[name].label}: is not a model of one {name} stream")
    return described


def _check_streams(options: FuseOptions, context: Context, streams: dict[str, "Description"]) -> None:
    """Refuse streams that don't fit each other, the data, its test part or its validation list. Raises `DataError`."""
    from stmn.sampling.validation import hold_out
    from stmn.stages.model_fit import check_fits, check_unseen, describe_list
    from stmn.store.format.read import Store

    fused_config(options, streams["appearance"].network, streams["motion"].network)
    with Store(context.data) as store:
        train = store.part(options.split, "train")
        lists = hold_out(train, options.validation, options.validation_seed)
        # a test video that is also in the training list will be learned from in any case
        ids, contents = {video.id for video in train}, {video.source_hash for video in train} - {""}
        listed = (store.videos.get(video_id) for video_id in store.header.part(options.split, "test"))
        test = [v for v in listed if v and v.id not in ids and v.source_hash not in contents]
        for name, description in streams.items():
            label, known = context.inputs[name][0].label, description.trained_on
            check_fits(description, label, store)
            if not options.allow_seen:
                command = _train_command(description.network.streams[0].modality, options, context.workspace)
                check_unseen(
                    description, label, store, test, f"test videos of split {options.split}",
                    f"name {'an' if name == 'appearance' else 'a'} {name} stream of that split, or train it: "
                    f"{command}; --allow-seen ties it anyway",
                )  # fmt: skip
            check_unseen(
                description, label, store, lists.held_out, "validation videos",
                "train the stream with the same --validation and --validation-seed, or set validation = 0 here"
                if known.held_out else
                "its file, of an older version of stmn, does not say which it held out: train it again, or set "
                "validation = 0 here",
            )  # fmt: skip
            if (known.data, known.split) != (store.header.name, options.split):
                seen = len(known.seen(test, store.header.name))
                context.progress.say(
                    f"{label} was trained on {describe_list(description, store)}, and is tied here on "
                    f"{store.header.name} split {options.split}"
                    + (f"; it has learned from {seen} of its {len(test)} test videos" if seen else "")
                )


def _tie_streams(options: FuseOptions, context: Context) -> tuple["Network", list["Description"]]:
    """The two-stream network with the weights of its two trained streams, and the descriptions of these.

    Raises:
        DataError: they don't fit.
    """
    from stmn.nets.build import build_network
    from stmn.nets.checkpoint import load_checkpoint

    described = _describe_streams(context)
    config = fused_config(options, described["appearance"].network, described["motion"].network)
    network = build_network(config, options.seed)
    state = network.state_dict()
    for name in described:
        stream, _ = load_checkpoint(context.inputs[name][0].path)
        state |= stream.state_dict()
    network.load_state_dict(state)
    return network, list(described.values())


def fused_config(options: FuseOptions, appearance: "NetworkConfig", motion: "NetworkConfig") -> "NetworkConfig":
    """The configuration of the network that ties an appearance and a motion stream.

    Raises:
        DataError: they don't fit.
    """
    from stmn.evaluation.agreement import compare_classes
    from stmn.nets.config import GateConfig, NetworkConfig, TemporalConfig

    if appearance.classes != motion.classes:
        differs = compare_classes(motion.classes, appearance.classes)
        raise DataError(f"the streams don't fit: motion knows other classes than appearance ({differs})")
    for what in ("size", "stack_length"):
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
            fusion_options=options.fusion_options,
        ),
        temporal=TemporalConfig(
            injector=options.injector,
            init=options.temporal_init,
            length=options.temporal_length,
            pool=options.temporal_pool,
            window=options.temporal_window,
            motion_injector=options.motion_injector,
            injector_options=options.injector_options,
            motion_injector_options=options.motion_injector_options,
        ),
        prediction=options.prediction,
    )
