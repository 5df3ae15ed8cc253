"""The log of a training run: rows of `metrics.jsonl`, the numbers beside the progress bar, the rows of a logger."""

import json
import time
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from stmn.runtime.progress import Progress, Task
from stmn.runtime.ranks import Ranks
from stmn.training.loggers import OpenLogger
from stmn.training.plan import Plan
from stmn.training.state import TrainingState

_METRICS_FILE = "metrics.jsonl"
#: fraction of the time spent waiting for data above which a notice says so
_LONG_WAIT = 0.1


class Log:
    """Sums since the last row, and the places where rows go. Only the first process writes.

    It is a context, at whose end the plan's logger is closed.
    """

    _loss: Tensor
    _correct: Tensor
    _seen: int
    _before: tuple[Tensor, Tensor, int, int]

    def __init__(
        self, out: Path, plan: Plan, videos: int, state: TrainingState, progress: Progress, ranks: Ranks
    ) -> None:
        self.out, self.plan, self.videos, self.state = out, plan, videos, state
        self.progress, self.ranks = progress, ranks
        self._rows = 0
        self._warned = False
        self._validations = len(state.errors)
        self._logger = OpenLogger(plan.logger, out, state.step) if plan.logger and ranks.first else None
        if ranks.first:  # with the rows up to the saved state: a killed run may have logged more
            out.mkdir(parents=True, exist_ok=True)
            (out / _METRICS_FILE).write_text("".join(json.dumps(row) + "\n" for row in state.history))
        self._clear()
        self._resume()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._logger is not None:
            self._logger.close()

    def start_step(self) -> None:
        """Remember the sums before a step, which a state that is saved in it has to hold."""
        self._before = self._loss, self._correct, self._seen, self._steps

    def sums(self) -> list[list[float]]:
        """What was added to the next row before this step, in each process: loss, correct, videos, steps.

        All processes call it together.
        """
        loss, *counts = self._before
        table = self._loss.new_zeros(self.ranks.size, 4, dtype=torch.float64)
        table[self.ranks.rank] = torch.stack([loss.to(table), *(torch.as_tensor(count).to(table) for count in counts)])
        rows: list[list[float]] = self.ranks.all_reduce(table).tolist()
        return rows

    def next_batch(self, batches: Iterator[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The next batch; the time it takes counts as waiting for data."""
        started = time.monotonic()
        batch = next(batches)
        self._waited += time.monotonic() - started
        return batch

    def add(self, loss: Tensor, correct: Tensor, videos: int) -> None:
        """Add a micro-batch to the next row; this does not wait for the device.

        Args:
            loss: the micro-batch's part of the step's loss, a scalar.
            correct: how many of its videos were classified correctly, a scalar.
            videos: how many there are.
        """
        self._loss = self._loss.to(loss.device) + loss.detach()
        self._correct = self._correct.to(loss.device) + correct
        self._seen += videos

    def row_is_due(self) -> bool:
        """Count a finished step; true when it ends a row."""
        self._steps += 1
        return self.state.step % self.plan.log_every == 0 or self.state.step == self.plan.steps

    def write(self, rate: float, norm: float, task: Task) -> None:
        """End a row: add it to the history, the file, the progress bar and the logger.

        Args:
            rate: the learning rate.
            norm: the gradient norm of the last step.
            task: the progress bar.
        """
        seconds = max(time.monotonic() - self._started, 1e-9)
        sums = torch.stack([self._loss, self._correct.to(self._loss), self._loss.new_tensor(float(self._seen))])
        loss, correct, seen = self.ranks.all_reduce(sums).tolist()
        seen_here = seen - self._seen_earlier
        row: dict[str, Any] = {
            "step": self.state.step,
            "epoch": round(self.state.step * self.plan.batch / self.videos, 3),
            "loss": round(loss / self._steps, 5),
            "accuracy": round(correct / seen, 4),
            "rate": rate,
            "gradient_norm": float(f"{norm:.5g}") if isfinite(norm) else None,  # float16 overflows now and then
            "videos_per_second": round(seen_here / seconds, 2),
            "data_wait": round(self._waited / seconds, 3),
        }
        if len(self.state.errors) > self._validations:
            row["validation_error"] = self.state.errors[-1]
            self._validations = len(self.state.errors)
        self.state.history.append(row)
        if self.ranks.first:
            with open(self.out / _METRICS_FILE, "a") as file:
                file.write(json.dumps(row) + "\n")
        if self._logger is not None:
            self._logger.write(row)
        shown = {name: row[name] for name in ("loss", "accuracy", "validation_error") if name in row}
        task.advance(0, **shown, lr=rate, data_wait=f"{100 * row['data_wait']:.0f}%")
        self._warn_about_waiting(row["data_wait"])
        self._clear()

    def _clear(self) -> None:
        """Start a row."""
        self._loss = torch.zeros(())
        self._correct = torch.zeros(())
        self._seen = self._steps = 0
        self._seen_earlier = 0.0
        self._waited = 0.0
        self._started = time.monotonic()

    def _resume(self) -> None:
        """Go on with the row that an interrupted run had begun; of other processes' sums the first takes all."""
        if not self.state.sums:
            return
        sums = torch.tensor(self.state.sums, dtype=torch.float64)
        own = sums[self.ranks.rank] if len(sums) == self.ranks.size else sums.sum(dim=0) * self.ranks.first
        self._loss, self._correct = own[0].float(), own[1].float()
        self._seen, self._steps = int(own[2]), int(sums[0, 3])
        self._seen_earlier = float(sums[:, 2].sum())

    def _warn_about_waiting(self, fraction: float) -> None:
        """Say once that training waits for data, and what helps; the first row, which fills caches, doesn't count."""
        self._rows += 1
        if self._warned or self._rows < 2 or fraction <= _LONG_WAIT:
            return
        self._warned = True
        self.progress.say(
            f"waiting for data takes {100 * fraction:.0f} % of the time: more --loader-threads use cores that are "
            f"idle, a larger --cache-mb keeps decoded pictures in memory, a set prepared with a smaller --short-side "
            f"decodes faster, and a local disk reads faster"
        )
