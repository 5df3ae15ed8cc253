"""The options that both trainings share (section 4.1)."""

from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from stmn.options.base import LOADER_THREADS, option
from stmn.options.optimisation import OptimisationOptions


class TrainingOptions(OptimisationOptions):
    """How a network is trained."""

    renamed: ClassVar[dict[str, str]] = {"tensorboard": "logger"}

    stride_min: int = option(5, "smallest stride between the chunks of a video, frames", "Data", ge=1)
    stride_max: int = option(35, "largest stride between the chunks of a video, frames", "Data", ge=1)
    shared_stride: bool = option(
        False, "draw one stride per micro-batch, as the authors' code does, instead of one per video", "Data"
    )
    sampling: Literal["stride", "segments"] = option(
        "stride",
        "how chunks are sampled; stride: equally spaced, at a random stride; segments: one at random from each of as "
        "many equal segments as there are chunks, as in temporal segment networks",
        "Data",
    )
    balance: bool = option(False, "show each class equally often, however many videos it has", "Data")
    colour_jitter: list[float] | None = option(
        None,
        "how far brightness, contrast, saturation and hue of the frames may change: four numbers, such as "
        "0.4,0.4,0.4,0.1 [default: not at all]",
        "Data",
        min_length=4,
        max_length=4,
    )
    augment: Literal["multi_scale", "jitter", "random_resized", "centre"] | None = option(
        None, "how frames are cropped [default: multi_scale for flow, else jitter]", "Data"
    )
    validation: float = option(
        0.1,
        "fraction of the training videos held out for validation, in whole groups",
        "Data",
        ge=0,
        lt=0.9,
    )
    validation_seed: int = option(
        0, "which videos these are: the same in all stages with the same number, whatever their --seed", "Data", ge=0
    )
    cache_mb: int = option(1024, "memory for decoded frames and flow, MB", "Data", ge=0, execution=True)
    loader_threads: int | None = option(None, LOADER_THREADS, "Run", ge=1, le=1024, execution=True)
    steps: int | None = option(None, "training steps [default: from --epochs]", "Optimisation", ge=1)
    batch: int | None = option(
        None, "videos per step; gradients are summed over micro-batches [default: the paper's]", "Optimisation", ge=1
    )
    bn_group: int | None = option(
        None,
        "videos that are normalised by their own batch statistics; --micro-batch is a multiple of it "
        "[default: --micro-batch]",
        "Optimisation",
        ge=1,
        added_later=True,
    )
    bn: Literal["train", "frozen", "partial"] = option(
        "train",
        "batch normalisation; train: by each group's statistics; frozen: by those of the starting weights, which "
        "are not trained, nor are scale and shift; partial: frozen except the first layer of each stream",
        "Optimisation",
    )
    bn_momentum: float = option(
        0.05,
        "weight of a step (one update of the weights) in running statistics, however many groups it has",
        "Optimisation",
        gt=0,
        lt=1,
    )
    bn_passes: int = option(
        1,
        "passes over the training list that recompute the batch statistics at the end (a short list: more, up to 1000 "
        "samples); 0 keeps the running statistics",
        "Optimisation",
        ge=0,
    )
    precision: Literal["auto", "float32", "tf32", "bfloat16", "float16"] = option(
        "auto",
        "precision of convolutions; auto: bfloat16 on a GPU that has it, else float16; float32 on a CPU; tf32: float32 "
        "with products in TensorFloat-32, on a GPU",
        "Optimisation",
    )
    compile: bool = option(
        False, "compile the network with torch.compile; the first step takes minutes", "Run", execution=True
    )
    compile_mode: Literal["default", "reduce-overhead"] = option(
        "default",
        "what --compile aims at; reduce-overhead: CUDA graphs, which start all kernels of a pass at once",
        "Run",
        execution=True,
    )
    deterministic: bool = option(
        False,
        "bit-identical results in every run on one machine; on a GPU this is slower and lacks some operations",
        "Run",
        execution=True,
    )
    resume: bool = option(
        True, "resume an interrupted run with the same options; --no-resume starts over", "Run", execution=True
    )
    logger: str | None = option(
        None, "also give the log to a logger: tensorboard, or another plugin", "Run", plugin="logger", execution=True
    )
    logger_options: dict[str, Any] = option({}, "options of the logger", "Run", options_of="logger", execution=True)
    checkpoint_minutes: float = option(10.0, "minutes between saves of the training state", "Run", gt=0, execution=True)

    @model_validator(mode="after")
    def _strides_in_order(self) -> Self:
        """Refuse an empty range of strides."""
        if self.stride_min > self.stride_max:
            raise ValueError(f"stride_min = {self.stride_min} is above stride_max = {self.stride_max}: set both")
        return self

    @model_validator(mode="after")
    def _colours_in_range(self) -> Self:
        """Refuse a jitter that torchvision would refuse, or for a stream that reads no frames."""
        if self.colour_jitter is None:
            return self
        *factors, hue = self.colour_jitter
        if min(factors) < 0 or not 0 <= hue <= 0.5:
            raise ValueError(
                f"colour_jitter = {self.colour_jitter}: brightness, contrast and saturation must be 0 or more, and hue "
                f"0 to 0.5"
            )
        if getattr(self, "modality", "rgb") == "flow":
            raise ValueError("colour_jitter changes frames, and a motion stream reads none")
        return self

    @model_validator(mode="after")
    def _strides_are_drawn(self) -> Self:
        """Refuse a shared stride if chunks are not sampled by stride."""
        if self.shared_stride and self.sampling == "segments":
            raise ValueError("shared_stride draws strides, and sampling = segments has none: choose one")
        return self

    @model_validator(mode="after")
    def _logger_options_have_a_logger(self) -> Self:
        """Refuse options of a logger without a logger."""
        if self.logger_options and self.logger is None:
            raise ValueError("logger_options: logger is not set; name one, such as logger = tensorboard")
        return self

    @model_validator(mode="after")
    def _check_compile_mode(self) -> Self:
        """Refuse a compile mode without compiling."""
        if self.compile_mode != "default" and not self.compile:
            raise ValueError(f"compile_mode = {self.compile_mode} says how to compile: set compile too")
        return self

    @model_validator(mode="after")
    def _groups_fill_micro_batches(self) -> Self:
        """Refuse a micro-batch that is not whole groups, so that groups don't depend on how much fits into memory."""
        micro_batch = getattr(self, "micro_batch", None)
        if self.bn_group and micro_batch and micro_batch % self.bn_group:
            raise ValueError(
                f"micro_batch = {micro_batch} is no multiple of bn_group = {self.bn_group}: a micro-batch holds whole "
                f"groups, such as {self.bn_group * max(1, round(micro_batch / self.bn_group))}"
            )
        return self

    @classmethod
    def normalise(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Write batch groups as micro-batches of their size, which give the same result."""
        group = values.get("bn_group")
        rest = {name: value for name, value in values.items() if name != "bn_group"}
        return rest | {"micro_batch": group} if group else rest

    @property
    def strides(self) -> tuple[int, int]:
        """Smallest and largest stride, frames."""
        return self.stride_min, self.stride_max
