"""Shared by both training stages: samples, the plan, training itself, and the model file."""

from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmn.errors import UsageError, count_of
from stmn.options.training import TrainingOptions
from stmn.registry.options import load_with
from stmn.runtime import torchrun
from stmn.stages.base import Context, Result
from stmn.workspace import Run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stmn.nets.checkpoint import Description, TrainedOn
    from stmn.nets.network import Network
    from stmn.sampling.clips import Clips
    from stmn.training.loggers import LoggerChoice
    from stmn.training.plan import Plan


def open_clips(
    options: Any, context: Context, modalities: tuple[str, ...], size: int, stack_length: int
) -> tuple["Clips", "Clips | None"]:
    """Samples of the training list: those to train on, and those held out. The test list is never read.

    Raises:
        DataError: no videos can be held out.
    """
    from stmn.sampling.clips import Clips, Sampling
    from stmn.sampling.colour import ColourJitter
    from stmn.sampling.noise import measure_noise
    from stmn.sampling.validation import hold_out
    from stmn.store.format.read import Store

    store = Store(context.data, cache_bytes=options.cache_mb << 20)
    lists = hold_out(store.part(options.split, "train"), options.validation, options.validation_seed)
    if note := lists.describe():
        context.progress.say(note)
    blank = getattr(options, "blank", None)
    noise = measure_noise(store, store.part(options.split, "train"), blank) if blank else None
    sampling = Sampling(
        modalities, size, stack_length, options.chunks, options.strides, options.augment, options.seed,
        options.sampling, ColourJitter(*options.colour_jitter) if options.colour_jitter else None, options.balance,
        noise,
    )  # fmt: skip
    held_out = Clips(store, lists.held_out, sampling) if lists.held_out else None
    return Clips(store, lists.kept, sampling), held_out


def count_held_out(options: Any, data: Path) -> int:
    """Count the videos that a training on a prepared set holds out for validation.

    Raises:
        DataError: no videos can be held out.
    """
    from stmn.sampling.validation import hold_out
    from stmn.store.format.read import Store

    with Store(data) as store:
        videos = store.part(options.split, "train")
        return len(hold_out(videos, options.validation, options.validation_seed).held_out)


def accuracy_kept(results: "Mapping[str, Any]") -> float | None:
    """The accuracy, 0..1, on the validation videos of the weights that a training kept, from its results.

    The weights are those of the last step or of the best validation. None if there was no validation.
    """
    error = results.get("kept_validation_error", results.get("validation_error"))
    return None if error is None else 1 - float(error)


def will_resume(options: TrainingOptions, out: Path) -> bool:
    """True if a training continues from the state that an earlier one left in a run's folder."""
    from stmn.training.state import STATE_FILE

    return options.resume and (out / STATE_FILE).exists()


def check_logger(options: TrainingOptions) -> None:
    """Import the logger before anything is written. Raises `StmnError` if that fails, or it lacks an option."""
    if options.logger:
        load_with("logger", options.logger, options.logger_options)


def deliver_log(options: TrainingOptions, run: Run) -> None:
    """Give the log of a finished training to its logger, if it has one that hasn't got it yet.

    Raises:
        StmnError: the logger can't start.
    """
    if run.done and (choice := _choose_logger(options, run.path)):
        from stmn.training.loggers import write_finished

        write_finished(choice, run.path, run.output("metrics"))


def _choose_logger(options: TrainingOptions, out: Path) -> "LoggerChoice | None":
    """The logger that options name, with the facts about the run that it gets."""
    if not options.logger:
        return None
    from stmn.training.loggers import LoggerChoice

    about = {"run": out.name, "options": options.model_dump(mode="json")}
    return LoggerChoice(options.logger, options.logger_options, about)


def check_processes(options: Any, processes: int) -> None:
    """Refuse a training whose steps have fewer micro-batches than processes; its options must be complete.

    Raises:
        UsageError: there are fewer; the message has the micro-batch to set.
    """
    torchrun.check_micro_batches(options.batch, min(options.micro_batch, options.batch), processes)


def make_plan(options: Any, videos: int, milestones: tuple[int, ...] = ()) -> "Plan":
    """The plan for a number of training videos.

    Args:
        videos: length of the training list.
        milestones: the schedule's milestones in epochs, if the options have none.

    Raises:
        UsageError: the warm-up is as long as the training.
    """
    from stmn.training.plan import Multipliers, Plan
    from stmn.training.schedule import Schedule

    per_epoch = videos / options.batch
    steps = options.steps or max(1, ceil(options.epochs * per_epoch))
    warmup = options.warmup if options.warmup_epochs is None else round(options.warmup_epochs * per_epoch)
    if warmup is not None and warmup >= steps:
        raise UsageError(
            f"lr would rise for {count_of(warmup, 'step')}, and the training has {steps}: use a shorter warm-up"
        )
    lowered_at = tuple(round(epoch * per_epoch) for epoch in options.milestones or milestones)
    schedule = Schedule(options.schedule, options.lr, steps, lowered_at, options.patience, warmup=warmup)
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
        compile_mode=None if options.compile_mode == "default" else options.compile_mode,
        stride=options.strides if options.shared_stride else None,
        optimizer=options.optimizer,
        multipliers=Multipliers(options.lr_new, options.lr_bias, options.lr_gain),
        clip=options.clip,
        label_smoothing=options.label_smoothing,
        mixup=options.mixup,
        class_weights=options.class_weights,
        ema=options.ema,
        keep_best=options.keep == "best",
        keep_every=options.keep_every,
        bn=options.bn,
        bn_momentum=options.bn_momentum,
        bn_passes=options.bn_passes,
        bn_group=options.bn_group,
    )


def train_model(
    network: "Network",
    clips: tuple["Clips", "Clips | None"],
    plan: "Plan",
    options: TrainingOptions,
    context: Context,
    keeps: "Sequence[str]",
    earlier: "Sequence[TrainedOn]" = (),
) -> Result:
    """Train, and write `model.safetensors` with its description.

    Args:
        clips: samples to train on, and those to validate on.
        keeps: the augmentations that don't change the labels.
        earlier: the data that the network has learned from before.
    """
    from stmn.nets.checkpoint import save_checkpoint
    from stmn.runtime.device import choose_device, has_fast_bfloat16
    from stmn.runtime.memory import report_shortage
    from stmn.runtime.precision import training_numbers
    from stmn.sampling.balance import describe_imbalance
    from stmn.training.ending import describe_choice, describe_saturation, judge_saturation
    from stmn.training.kept import best_validation
    from stmn.training.loop import train
    from stmn.training.memory import advise_on_memory
    from stmn.training.normalisation import Normalisation
    from stmn.training.recompute import describe_statistics
    from stmn.training.state import remove_state

    training, validation = clips
    plan = replace(plan, logger=_choose_logger(options, context.out))
    _say_short_videos(training, context)
    device = choose_device(context.device, options.precision, options.loader_threads)
    if unequal := describe_imbalance(network.config.classes, training.labels, options.balance, options.class_weights):
        context.progress.say(unequal)
    if device.tf32 or device.precision_name != "float32":
        name = "tf32" if device.tf32 else device.precision_name
        slow = name == "bfloat16" and device.device.type == "cpu" and not has_fast_bfloat16()
        emulated = ", which this CPU emulates: float32 is faster" if slow else ""
        context.progress.say(f"precision: convolutions are computed in {name} on {device.device}{emulated}")
    if options.optimizer == "adamw" and plan.schedule.rate == type(options).model_fields["lr"].default:
        context.progress.say(
            f"adamw: lr = {plan.schedule.rate:g} is the default for SGD; AdamW usually wants a tenth of it"
        )
    about = _describe_model(network, clips, options, keeps, earlier)

    def save_at(kept: "Network", step: int) -> None:
        """Write the model at a step beside the final model."""
        if context.ranks.first:
            running = describe_statistics(
                Normalisation(kept, plan.bn, plan.freeze), replace(plan, bn_passes=0), len(training)
            )
            save_checkpoint(
                context.out / f"model-{step:06d}.safetensors", kept, replace(about, batch_statistics=running)
            )

    advise = advise_on_memory(network, training, plan, device, context.out)
    with training_numbers(device, options.deterministic), report_shortage(advise):
        state = train(
            network, training, validation, plan, device, context.out, context.progress, context.ranks, save_at
        )
    if context.ranks.first:
        statistics = describe_statistics(Normalisation(network, plan.bn, plan.freeze), plan, len(training))
        save_checkpoint(context.out / "model.safetensors", network, replace(about, batch_statistics=statistics))
        remove_state(context.out)
    values: dict[str, Any] = {"steps": state.step, "training_videos": len(training)}
    if state.history:
        values |= state.history[-1]
    if plan.keep_best and (best := best_validation(state.history)):
        values |= {"kept_step": best["step"], "kept_validation_error": best["validation_error"]}
    values["unsaturated"] = judge_saturation(state.history, plan, state.errors)
    for line in describe_choice(state, plan, len(training), len(validation or ())):
        context.progress.say(line)
    if values["unsaturated"]:
        context.progress.say(describe_saturation(values["unsaturated"], plan))
    return Result(outputs={"model": "model.safetensors", "metrics": "metrics.jsonl"}, values=values)


def _describe_model(
    network: "Network",
    clips: tuple["Clips", "Clips | None"],
    options: TrainingOptions,
    keeps: "Sequence[str]",
    earlier: "Sequence[TrainedOn]",
) -> "Description":
    """The description for the model file, without its batch statistics."""
    from stmn.nets.checkpoint import Description, HeldOut, TrainedOn

    training, validation = clips
    header = training.store.header
    same_set = [known.videos for known in earlier if known.data == header.name]
    trained_on = TrainedOn(
        data=header.name,
        split=options.split,
        videos=list(dict.fromkeys([v.id for v in training.videos] + [i for ids in same_set for i in ids])),
        contents=sorted({v.source_hash for v in training.videos}.union(*(k.contents for k in earlier)) - {""}),
        held_out=HeldOut(
            videos=[video.id for video in validation.videos] if validation else [],
            share=options.validation,
            seed=options.validation_seed,
        ),
    )
    return Description(
        network.config, header.preparation, trained_on, list(keeps), options.model_dump(mode="json"),
        mirror_pairs=header.mirror_pairs,
    )  # fmt: skip


def _say_short_videos(clips: "Clips", context: Context) -> None:
    """Print how many training videos are too short for their chunks, which are then spread evenly."""
    from stmn.sampling.positions import is_short

    sampling = clips.sampling
    by_segments = sampling.chunks_by == "segments"
    chunks, stride = sampling.chunks, 1 if by_segments else sampling.stride[0]
    short = sum(is_short(video.frames, sampling.stack_length, chunks, stride) for video in clips.videos)
    if chunks > 1 and short:
        where = "at different times, so some of their chunks are the same"
        if not by_segments:
            where = f"{stride} frames apart, so their chunks are spread evenly"
        context.progress.say(
            f"{short:,} of {count_of(len(clips), 'training video')} {'is' if short == 1 else 'are'} too short for "
            f"{chunks} chunks, {where}"
        )
