"""What both training stages share: samples, the plan, training itself, and the model file."""

from math import ceil
from typing import TYPE_CHECKING, Any

from stmn.options.training import TrainingOptions
from stmn.stages.base import Context, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stmn.nets.network import Network
    from stmn.sampling.clips import Clips
    from stmn.training.plan import Plan


def open_clips(
    options: Any, context: Context, modalities: tuple[str, ...], size: int, stack_length: int
) -> tuple["Clips", "Clips | None"]:
    """Samples of the training list: those to train on, and those held out. The test list is never read."""
    from stmn.sampling.clips import Clips, Sampling
    from stmn.sampling.colour import ColourJitter
    from stmn.sampling.order import split_validation
    from stmn.store.format.read import Store

    store = Store(context.data, cache_bytes=options.cache_mb << 20)
    kept, held_out = split_validation(store.part(options.split, "train"), options.validation, options.seed)
    sampling = Sampling(
        modalities, size, stack_length, options.chunks, options.strides, options.augment, options.seed,
        options.sampling, ColourJitter(*options.colour_jitter) if options.colour_jitter else None, options.balance,
    )  # fmt: skip
    return Clips(store, kept, sampling), Clips(store, held_out, sampling) if held_out else None


def make_plan(options: Any, videos: int, milestones: tuple[int, ...] = ()) -> "Plan":
    """The plan for a number of training videos; milestones are epochs."""
    from stmn.training.plan import Plan
    from stmn.training.schedule import Schedule

    per_epoch = videos / options.batch
    steps = options.steps or max(1, ceil(options.epochs * per_epoch))
    schedule = Schedule(
        options.schedule, options.lr, steps, tuple(round(epoch * per_epoch) for epoch in milestones), options.patience
    )
    return Plan(
        steps,
        options.batch,
        min(options.micro_batch, options.batch),
        schedule,
        options.seed,
        options.momentum,
        options.weight_decay,
        validate_every=max(10, round(per_epoch)),
        checkpoint_minutes=options.checkpoint_minutes,
        resume=options.resume,
        compile="inductor" if options.compile else "",
        tensorboard=options.tensorboard,
        stride=options.strides if options.shared_stride else None,
        bn=options.bn,
        bn_momentum=options.bn_momentum,
        bn_passes=options.bn_passes,
    )


def train_model(
    network: "Network",
    clips: tuple["Clips", "Clips | None"],
    plan: "Plan",
    options: TrainingOptions,
    context: Context,
    keeps: "Sequence[str]",
    seen: "Sequence[str]" = (),
) -> Result:
    """Train, and write `model.safetensors` with all that it says of itself.

    Args:
        clips: samples to train on, and those to validate on.
        keeps: the augmentations that keep the labels.
        seen: ids of videos of the same data set that the network has learned from before.
    """
    from stmn.nets.checkpoint import Description, TrainedOn, save_checkpoint
    from stmn.runtime.device import choose_device
    from stmn.runtime.precision import exact_float32
    from stmn.sampling.balance import describe_imbalance
    from stmn.training.loop import train
    from stmn.training.normalisation import Normalisation
    from stmn.training.recompute import describe_statistics
    from stmn.training.state import remove_state

    training, validation = clips
    device = choose_device(context.device, options.precision)
    if unequal := describe_imbalance(network.config.classes, training.labels, options.balance):
        context.progress.say(unequal)
    if device.precision_name != "float32":
        context.progress.say(f"precision: convolutions are computed in {device.precision_name} on {device.device}")
    with exact_float32():
        state = train(network, training, validation, plan, device, context.out, context.progress, context.ranks)
    if context.ranks.first:
        header = training.store.header
        videos = list(dict.fromkeys([*header.part(options.split, "train"), *seen]))
        trained_on = TrainedOn(data=header.name, split=options.split, videos=videos)
        statistics = describe_statistics(Normalisation(network, plan.bn), plan, len(training))
        description = Description(
            network.config, header.preparation, trained_on, list(keeps), options.model_dump(mode="json"), statistics
        )
        save_checkpoint(context.out / "model.safetensors", network, description)
        remove_state(context.out)
    last = state.history[-1] if state.history else {}
    return Result(
        outputs={"model": "model.safetensors", "metrics": "metrics.jsonl"},
        values={"steps": state.step, "training_videos": len(training), **last},
    )
