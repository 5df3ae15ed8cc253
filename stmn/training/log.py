"""The log of a training run: rows of `metrics.jsonl`, numbers beside the progress bar, rows for a logger plugin."""

import json
import time
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from stmn.runtime.device import Device
from stmn.runtime.progress import Progress, Task
from stmn.runtime.ranks import Ranks
from stmn.training.loggers import OpenLogger
from stmn.training.plan import Plan
from stmn.training.state import TrainingState
from stmn.training.step_results import StepResult
from stmn.training.waiting import DataWait

_METRICS_FILE = "metrics.jsonl"
#: a notice is printed if more than this fraction of the time is spent waiting for data
_LONG_WAIT = 0.1


class Log:
    """Sums since the last row, and the outputs that get each row. Only the first process writes.

    A context manager; leaving it closes the plan's logger.
    """

    def __init__(
        self, out: Path, plan: Plan, videos: int, state: TrainingState, progress: Progress, ranks: Ranks,
        device: Device,
    ) -> None:  # fmt: skip
        self.out, self.plan, self.videos, self.state = out, plan, videos, state
        self.progress, self.ranks = progress, ranks
        self._wait = DataWait(device)
        self._rows = 0
        self._warned = False
        self._validations = len(state.errors)
        self._logger = OpenLogger(plan.logger, out, state.step) if plan.logger and ranks.first else None
        if ranks.first:  # keep only the rows up to the saved state: a killed run may have logged more
            out.mkdir(parents=True, exist_ok=True)
            (out / _METRICS_FILE).write_text("".join(json.dumps(row) + "\n" for row in state.history), encoding="utf-8")
        self._clear()
        self._resume()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._logger is not None:
            self._logger.close()

    def sums(self, before: int) -> list[list[float]]:
        """Return what the steps before step `before` have added to the next row: loss, correct, videos, steps."""
        found = [one for one in self._found if one.step < before]
        loss, correct, seen, steps = self._earlier
        return [[
            loss + sum(sum(one.losses) for one in found), correct + sum(one.correct for one in found),
            seen + len(found) * self.plan.batch, steps + len(found),
        ]]  # fmt: skip

    def next_batch(self, batches: Iterator[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the next batch; the time that the device waits for it is counted."""
        return self._wait.next(batches)

    def add(self, found: StepResult) -> None:
        """Add a step to the next row."""
        self._found.append(found)

    def row_is_due(self) -> bool:
        """True if a row ends with the last step."""
        return self.state.step % self.plan.log_every == 0 or self.state.step == self.plan.steps

    def write(self, rate: float, task: Task) -> None:
        """End a row: add it to the history, the file, the progress bar and the logger.

        Args:
            rate: the learning rate.
            task: the progress bar.
        """
        waited, seconds = self._wait.take(), max(time.monotonic() - self._started, 1e-9)
        [[loss, correct, seen, steps]] = self.sums(before=self.state.step)
        norm = self._found[-1].norm
        row: dict[str, Any] = {
            "step": self.state.step,
            "epoch": round(self.state.step * self.plan.batch / self.videos, 3),
            "loss": round(loss / steps, 5),
            "accuracy": round(correct / seen, 4),
            "rate": rate,
            "gradient_norm": float(f"{norm:.5g}") if isfinite(norm) else None,  # float16 overflows now and then
            "videos_per_second": round((seen - self._earlier[2]) / seconds, 2),
            "data_wait": round(waited / seconds, 3),
        }
        if len(self.state.errors) > self._validations:
            row["validation_error"] = self.state.errors[-1]
            self._validations = len(self.state.errors)
        self.state.history.append(row)
        if self.ranks.first:
            with open(self.out / _METRICS_FILE, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        if self._logger is not None:
            self._logger.write(row)
        shown = {name: row[name] for name in ("loss", "accuracy", "validation_error") if name in row}
        task.advance(0, **shown, lr=rate, data_wait=f"{100 * row['data_wait']:.0f}%")
        self._warn_about_waiting(row["data_wait"])
        self._clear()

    def _clear(self) -> None:
        """Start a row."""
        self._found: list[StepResult] = []
        self._earlier: tuple[float, ...] = (0.0, 0, 0, 0)
        self._started = time.monotonic()

    def _resume(self) -> None:
        """Continue the row that an interrupted run had begun. Older states have a list of sums for each process."""
        if self.state.sums:
            loss, correct, seen, steps = zip(*self.state.sums, strict=True)
            self._earlier = sum(loss), sum(correct), sum(seen), steps[0]

    def _warn_about_waiting(self, fraction: float) -> None:
        """Print once that training waits for data, and what helps; the first row, which fills caches, doesn't count."""
        self._rows += 1
        if self._warned or self._rows < 2 or fraction <= _LONG_WAIT:
            return
        self._warned = True
        self.progress.say(
            f"waiting for data takes {100 * fraction:.0f} % of the time: more --loader-threads use cores that are "
            f"idle, a larger --cache-mb keeps decoded pictures in memory, a set prepared with a smaller --short-side "
            f"decodes faster, and a local disk reads faster"
        )
