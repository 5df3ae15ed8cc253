"""What a training tells: rows of `metrics.jsonl`, the bar's numbers, TensorBoard, and when it waits for data."""

import json
import time
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stmn.errors import MissingExtra
from stmn.runtime.progress import Progress, Task
from stmn.runtime.ranks import Ranks
from stmn.training.plan import Plan
from stmn.training.state import TrainingState

FILE = "metrics.jsonl"
#: the share of the time spent waiting for batches that is worth a line
MUCH_WAITING = 0.1


class Log:
    """Sums since the last row, and where rows go; the first process alone writes."""

    def __init__(
        self, out: Path, plan: Plan, videos: int, state: TrainingState, progress: Progress, ranks: Ranks
    ) -> None:
        self.out, self.plan, self.videos, self.state = out, plan, videos, state
        self.progress, self.ranks = progress, ranks
        self.rows = 0
        self.warned = False
        self.board = board(out / "tensorboard", state.step) if plan.tensorboard and ranks.first else None
        if ranks.first:  # anew, with the rows of the steps that count: a killed run may have logged more
            out.mkdir(parents=True, exist_ok=True)
            (out / FILE).write_text("".join(json.dumps(row) + "\n" for row in state.history))
        self.clear()

    def clear(self) -> None:
        """Start the sums anew."""
        self.loss: Tensor = torch.zeros(())
        self.right: Tensor = torch.zeros(())
        self.seen = self.steps = 0
        self.waited = 0.0
        self.began = time.monotonic()

    def waiting(self, batches: Iterator[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The next batch; the time until it is there counts as waiting."""
        began = time.monotonic()
        batch = next(batches)
        self.waited += time.monotonic() - began
        return batch

    def add(self, loss: Tensor, right: Tensor, videos: int) -> None:
        """Add a micro-batch and its share of the step's loss; nothing here waits for the device."""
        self.loss = self.loss.to(loss.device) + loss.detach()
        self.right = self.right.to(loss.device) + right
        self.seen += videos

    def due(self) -> bool:
        """True when the step that has just ended ends a row."""
        self.steps += 1
        return self.state.step % self.plan.log_every == 0 or self.state.step == self.plan.steps

    def write(self, rate: float, norm: float, task: Task, **more: float) -> None:
        """End a row: into the history, the file, the bar and TensorBoard."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        sums = torch.stack([self.loss, self.right.to(self.loss), self.loss.new_tensor(float(self.seen))])
        loss, right, seen = self.ranks.all_reduce(sums).tolist()
        row: dict[str, Any] = {
            "step": self.state.step,
            "epoch": round(self.state.step * self.plan.batch / self.videos, 3),
            "loss": round(loss / self.steps, 5),
            "accuracy": round(right / seen, 4),
            "rate": rate,
            "gradient_norm": float(f"{norm:.5g}") if isfinite(norm) else None,  # float16 overflows now and then
            "videos_per_second": round(seen / seconds, 2),
            "data_wait": round(self.waited / seconds, 3),
            **more,
        }
        self.state.history.append(row)
        if self.ranks.first:
            with open(self.out / FILE, "a") as file:
                file.write(json.dumps(row) + "\n")
        if self.board is not None:
            for name, value in row.items():
                if name != "step" and value is not None:
                    self.board.add_scalar(name, value, self.state.step)
            self.board.flush()
        shown = {name: row[name] for name in ("loss", "accuracy", "validation_error") if name in row}
        wait = f"{100 * row['data_wait']:.0f}%"
        task.advance(0, **shown, lr=rate, data_wait=wait)
        self.tell_waiting(row["data_wait"])
        self.clear()

    def tell_waiting(self, share: float) -> None:
        """Name much waiting for data, once, with what helps; the first row, which fills caches, says nothing yet."""
        self.rows += 1
        if self.warned or self.rows < 2 or share <= MUCH_WAITING:
            return
        self.warned = True
        self.progress.say(
            f"waiting for data takes {100 * share:.0f} % of the time: a larger --cache-mb keeps decoded pictures in "
            f"memory, a set prepared with a smaller --short-side decodes faster, and a local disk reads faster"
        )


def board(folder: Path, step: int) -> Any:
    """A TensorBoard writer that forgets what an interrupted run wrote after `step`. Raises `MissingExtra`."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra("--tensorboard", "tensorboard", "tensorboard") from error
    return SummaryWriter(str(folder), purge_step=step)
