"""How to train: everything that decides a run's result, except the network and the videos."""

from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np

from stmn.training.freezing import FrozenPart
from stmn.training.loggers import LoggerChoice
from stmn.training.normalisation import BatchNormMode
from stmn.training.schedule import Schedule

OptimizerName = Literal["sgd", "adamw"]


@dataclass(frozen=True)
class Multipliers:
    """Factors of the learning rate; where several apply, they are multiplied.

    Attributes:
        new: layers that have no starting weights.
        bias: biases of convolutions and linear layers.
        gain: gains of batch normalisation.
        appearance: starting weights of a fused network's appearance stream.
        motion: starting weights of its motion stream.
    """

    new: float = 1.0
    bias: float = 1.0
    gain: float = 1.0
    appearance: float = 1.0
    motion: float = 1.0


@dataclass(frozen=True)
class Plan:
    """The numbers of a training run.

    Attributes:
        steps: updates of the weights.
        batch: videos per step.
        micro_batch: videos in memory at a time.
        schedule: the learning rate.
        seed: seed of all randomness.
        optimizer: the update rule.
        momentum: momentum of SGD, or beta1 of AdamW.
        weight_decay: decay of weights; biases and batch normalisation do not decay.
        validate_every: steps between validations; 0 for none.
        log_every: steps between rows of the log.
        checkpoint_minutes: minutes between saved states.
        resume: continue from a saved state if there is one.
        compile: a backend of torch.compile, or "" for none.
        compile_mode: a mode of it, for the backend `inductor`; None for its default.
        logger: a plugin that gets the rows of the log in addition to its file; None for none.
        stride: range that one temporal stride per micro-batch is drawn from, frames; None draws one per video.
        multipliers: factors of the learning rate.
        clip: largest norm of the gradient; None for no limit.
        label_smoothing: share of each label that is spread over all classes, in [0, 1).
        mixup: alpha of the Beta distribution that the shares of mixed videos are drawn from; 0 mixes none.
        class_weights: weight each video's loss by how rare its class is.
        loss_weights: the weight of each output's loss, in the order of the outputs; empty for equal ones.
        ema: decay of a running average of the weights, which is validated and kept; None for none.
        keep_best: keep the weights of the best validation, not the last ones.
        keep_every: steps between the networks handed out during training; 0 for none.
        freeze: parts of the network that are not trained.
        bn: which layers of batch normalisation are trained.
        bn_momentum: weight of a step in the running statistics, in (0, 1).
        bn_passes: passes over the training list that recompute the statistics at the end; 0 for none.
        bn_group: videos that batch statistics are computed over; None for a micro-batch.
    """

    steps: int
    batch: int
    micro_batch: int
    schedule: Schedule
    seed: int
    momentum: float = 0.9
    weight_decay: float = 5e-4
    validate_every: int = 0
    log_every: int = 10
    checkpoint_minutes: float = 10.0
    resume: bool = True
    compile: str = ""
    logger: LoggerChoice | None = None
    stride: tuple[int, int] | None = None
    optimizer: OptimizerName = "sgd"
    multipliers: Multipliers = Multipliers()
    clip: float | None = None
    label_smoothing: float = 0.0
    mixup: float = 0.0
    class_weights: bool = False
    loss_weights: tuple[float, ...] = ()
    ema: float | None = None
    keep_best: bool = False
    keep_every: int = 0
    freeze: tuple[FrozenPart, ...] = ()
    bn: BatchNormMode = "train"
    bn_momentum: float = 0.05
    bn_passes: int = 1
    bn_group: int | None = None
    compile_mode: str | None = None

    @property
    def group(self) -> int:
        """Videos that batch statistics are computed over; micro-batches consist of such groups."""
        return self.bn_group or self.micro_batch

    @property
    def uses_graphs(self) -> bool:
        """True if CUDA graphs may be recorded; these keep their own memory for their results."""
        return bool(self.compile) and self.compile_mode == "reduce-overhead"

    @property
    def micro_batches(self) -> int:
        """Micro-batches per step."""
        return ceil(self.batch / self.micro_batch)

    def count_groups(self, micro_batches: range) -> int:
        """Return the number of groups in a range of a step's micro-batches."""
        first, last = (
            min(number * self.micro_batch, self.batch) for number in (micro_batches.start, micro_batches.stop)
        )
        return ceil((last - first) / self.group)

    def validates_at(self, step: int) -> bool:
        """True if the row of the log that ends with `step` has a validation; the last row always has one."""
        return self.validate_every > 0 and (step % self.validate_every < self.log_every or step == self.steps)

    @property
    def validations(self) -> int:
        """Number of validations in the whole training."""
        rows = [*range(self.log_every, self.steps, self.log_every), self.steps]
        return sum(self.validates_at(step) for step in rows)

    def dropout_seed(self, step: int, group: int) -> int:
        """Return the seed for dropout in a group: a function of the plan's seed, the step and the group's first video.

        It is the first 64-bit word of NumPy's `SeedSequence` of (seed, step, video), which is the same in all versions
        of Python and NumPy, on all machines.

        Args:
            step: the step, from 0.
            group: number of the group in the step, from 0; `video` above is that of its first video.
        """
        sequence = np.random.SeedSequence((self.seed, step, group * self.group))
        return int(sequence.generate_state(1, np.uint64)[0])

    def group_seeds(self, step: int, micro_batch: int) -> list[int]:
        """`dropout_seed` of each group of a micro-batch."""
        first = micro_batch * self.micro_batch // self.group
        count = self.count_groups(range(micro_batch, micro_batch + 1))
        return [self.dropout_seed(step, group) for group in range(first, first + count)]
