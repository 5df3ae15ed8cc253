"""How to train: everything that a run's result is a function of, besides the network and the videos."""

from dataclasses import dataclass
from math import ceil

from stmn.training.schedule import Schedule


@dataclass(frozen=True)
class Plan:
    """`batch` videos a step, `micro_batch` of them at a time in memory (batch statistics are theirs).

    `stride`: drawn from this range once for each micro-batch, in place of once for each video. `compile`: a backend of
    torch.compile, or "" for none.
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

    @property
    def micro_batches(self) -> int:
        """Micro-batches of a step."""
        return ceil(self.batch / self.micro_batch)
