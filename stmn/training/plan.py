"""How to train: all that decides a run's result, apart from the network and the videos."""

from dataclasses import dataclass
from math import ceil

import numpy as np

from stmn.training.normalisation import BatchNormMode
from stmn.training.schedule import Schedule


@dataclass(frozen=True)
class Plan:
    """The numbers of a training run.

    Attributes:
        steps: updates of the weights.
        batch: videos per step.
        micro_batch: videos in memory at a time; batch statistics are computed over these.
        schedule: the learning rate.
        seed: seed of all randomness.
        momentum: momentum of SGD.
        weight_decay: decay of weights; biases and batch normalisation have none.
        validate_every: steps between validations; 0 for none.
        log_every: steps between rows of the log.
        checkpoint_minutes: minutes between saved states.
        resume: continue from a saved state if there is one.
        compile: a backend of torch.compile, or "" for none.
        tensorboard: also write the log for TensorBoard.
        stride: range that one temporal stride per micro-batch is drawn from, frames; None draws one per video.
        bn: which layers of batch normalisation are trained.
        bn_momentum: weight of a step in the running statistics, in (0, 1).
        bn_passes: passes over the training list that recompute the statistics at the end; 0 for none.
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
    tensorboard: bool = False
    stride: tuple[int, int] | None = None
    bn: BatchNormMode = "train"
    bn_momentum: float = 0.05
    bn_passes: int = 1

    @property
    def micro_batches(self) -> int:
        """Micro-batches per step."""
        return ceil(self.batch / self.micro_batch)

    def validates_at(self, step: int) -> bool:
        """True when the row of the log that ends with `step` needs a validation."""
        return self.validate_every > 0 and step % self.validate_every < self.log_every

    def dropout_seed(self, step: int, micro_batch: int) -> int:
        """The seed of what dropout draws in a micro-batch: a function of the plan's seed and of the videos' numbers.

        It is the first 64-bit word of NumPy's `SeedSequence` of (seed, step, video), whose values are the same in all
        versions of Python and NumPy, on all machines.

        Args:
            step: the step, from 0.
            micro_batch: number of the micro-batch in the step, from 0; `video` above is that of its first video.
        """
        sequence = np.random.SeedSequence((self.seed, step, micro_batch * self.micro_batch))
        return int(sequence.generate_state(1, np.uint64)[0])
