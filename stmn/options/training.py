"""The options that both trainings share, and how they become a plan."""

from math import ceil
from typing import TYPE_CHECKING, Any, Literal

from stmn.errors import UsageError
from stmn.options.base import Trained, option

if TYPE_CHECKING:
    from stmn.recipe.execute import Context
    from stmn.sampling.clips import Clips
    from stmn.training.plan import Plan


class TrainingOptions(Trained):
    """How a network is trained (section 4.1)."""

    stride_min: int = option(5, "smallest temporal stride between the chunks of a video, frames", ge=1)
    stride_max: int = option(35, "largest temporal stride", ge=1)
    shared_stride: bool = option(
        False, "draw one stride for each micro-batch, as the authors' code, in place of one for each video"
    )
    steps: int | None = option(None, "training steps (default: as many as --epochs makes)", ge=1)
    batch: int | None = option(None, "videos a step; gradients are aggregated over micro-batches", ge=1)
    momentum: float = option(0.9, "momentum of SGD", ge=0, lt=1)
    weight_decay: float = option(5e-4, "weight decay; none on biases and batch normalisation", ge=0)
    augment: Literal["multi_scale", "jitter", "random_resized", "centre"] | None = option(
        None, "crops: multi_scale (default for flow), jitter (default for rgb and fused), random_resized, or centre"
    )
    validation: float = option(0.1, "share of the training groups held out to watch the error", ge=0, lt=0.9)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto", "of convolutions: auto is bfloat16 on a GPU (float16 on one without), float32 on a CPU"
    )
    compile: bool = option(
        False, "compile the network with torch.compile; the first step takes minutes", execution=True
    )
    resume: bool = option(True, "go on where an interrupted run of the same options stopped, or anew", execution=True)
    tensorboard: bool = option(False, "write what metrics.jsonl holds for TensorBoard, too", execution=True)
    cache_mb: int = option(1024, "memory for decoded pictures, MB", ge=0, execution=True)
    checkpoint_minutes: float = option(10.0, "minutes between saved states", gt=0, execution=True)


def clips_of(
    options: Any, context: "Context", modalities: tuple[str, ...], size: int, stack_length: int, chunks: int
) -> tuple["Clips", "Clips | None"]:
    """Training and validation samples of the prepared set's training list. The test list is never looked at."""
    from stmn.sampling.clips import Clips, Sampling, split_validation
    from stmn.store.format.read import Store

    store = Store(context.data, cache_bytes=options.cache_mb << 20)
    kept, held = split_validation(store.part(options.split, "train"), options.validation, options.seed)
    sampling = Sampling(
        modalities,
        size,
        stack_length,
        chunks,
        strides(options),
        options.augment,
        options.seed,
    )
    return Clips(store, kept, sampling), Clips(store, held, sampling) if held else None


def plan_of(options: Any, videos: int, milestones: tuple[int, ...] = ()) -> "Plan":
    """The plan for a number of training videos; milestones are epochs."""
    from stmn.training.plan import Plan
    from stmn.training.schedule import Schedule

    per_epoch = videos / options.batch
    steps = options.steps or max(1, ceil(options.epochs * per_epoch))
    schedule = Schedule(
        options.schedule, options.lr, steps, tuple(round(epoch * per_epoch) for epoch in milestones), options.patience
    )
    micro_batch = min(options.micro_batch, options.batch)
    return Plan(
        steps,
        options.batch,
        micro_batch,
        schedule,
        options.seed,
        options.momentum,
        options.weight_decay,
        validate_every=max(10, round(per_epoch)),
        checkpoint_minutes=options.checkpoint_minutes,
        resume=options.resume,
        compile="inductor" if options.compile else "",
        tensorboard=options.tensorboard,
        stride=strides(options) if options.shared_stride else None,
    )


def strides(options: Any) -> tuple[int, int]:
    """The range of temporal strides, frames. Raises `UsageError` when it is empty."""
    if options.stride_min > options.stride_max:
        raise UsageError(f"stride_min = {options.stride_min} is above stride_max = {options.stride_max}: set both")
    return options.stride_min, options.stride_max
