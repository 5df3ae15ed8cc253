"""The training loop: one function, read in one sitting."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from stmn.device import Device
from stmn.errors import Interrupted, StmnError, UsageError
from stmn.nets.network import Network
from stmn.progress import Progress
from stmn.sampling.clips import Clips, MicroBatches, sample_order
from stmn.sampling.loader import loader
from stmn.training.schedule import Schedule
from stmn.training.state import FILE, TrainingState, load_state, save_state

#: modality that each stream reads
INPUTS = {"appearance": "rgb", "motion": "flow"}


@dataclass(frozen=True)
class Plan:
    """How to train. `batch` videos a step, `micro_batch` of them at a time in memory (batch statistics are theirs)."""

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


def train(
    network: Network, clips: Clips, validation: Clips | None, plan: Plan, device: Device, out: Path, progress: Progress
) -> TrainingState:
    """Train `network` in place, from where a run in `out` stopped; returns the final state.

    Rows of `out/metrics.jsonl` are written as they come. Raises `Interrupted` after SIGINT or SIGTERM, once the state
    is saved, `StmnError` when the loss is not finite, and `UsageError` when a micro-batch is too small.
    """
    check_micro_batch(network, clips, plan)
    device.place(network)
    optimizer = SGD(parameter_groups(network, plan.weight_decay), lr=plan.schedule.rate, momentum=plan.momentum)
    state = load_state(out, network, optimizer)
    write_history(out, state)
    if state.step:
        progress.say(f"continuing at step {state.step} of {plan.steps}")
    batches = MicroBatches(len(clips), plan.batch, plan.micro_batch, plan.seed, state.step, plan.steps)
    micro_batches = iter(loader(clips, batches, device.loader_threads))
    saved = logged = time.monotonic()
    window = Window()
    with stop_signals(progress) as stopped, progress.task("training", plan.steps, "steps", done=state.step) as task:
        while state.step < plan.steps and not plan.schedule.saturated(state.errors):
            network.train()
            rate = plan.schedule.rate_at(state.step, state.errors)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            for first in range(0, plan.batch, plan.micro_batch):
                waited = time.monotonic()
                batch = {name: device.move(value) for name, value in next(micro_batches).items()}
                window.waited += time.monotonic() - waited
                torch.manual_seed(hash((plan.seed, state.step, first)))  # dropout: a function of the step
                with device.autocast():
                    scores = network(*inputs(network, batch))
                    loss = stream_losses(scores, batch["label"]) * (len(batch["label"]) / plan.batch)
                loss.backward()  # gradients add up over micro-batches
                window.add(loss, scores, batch["label"])
            check_finite(window, clips, plan, state, out)
            optimizer.step()
            state.step += 1
            window.steps += 1

            if state.step % plan.log_every == 0 or state.step == plan.steps:
                row = window.row(state.step, state.step * plan.batch / len(clips), rate, time.monotonic() - logged)
                if validation and plan.validate_every and state.step % plan.validate_every < plan.log_every:
                    row["validation_error"] = 1 - validate(network, validation, plan, device)
                    state.errors.append(row["validation_error"])
                window, logged = Window(), time.monotonic()
                state.history.append(row)
                append_row(out, row)
                shown = {"loss": row["loss"], "accuracy": row["accuracy"], "data_wait": row["data_wait"]}
                task.advance(0, **shown)
            task.advance()
            if stopped.is_set():
                save_state(out, network, optimizer, state)
                raise Interrupted(f"interrupted at step {state.step} of {plan.steps}; the same command continues there")
            if time.monotonic() - saved > 60 * plan.checkpoint_minutes:
                save_state(out, network, optimizer, state)
                saved = time.monotonic()
    return state


class Window:
    """Sums since the last row of the log."""

    def __init__(self) -> None:
        self.loss = torch.zeros(())
        self.right = torch.zeros(())
        self.videos = self.steps = 0
        self.waited = 0.0

    def add(self, loss: Tensor, scores: tuple[Tensor, ...], label: Tensor) -> None:
        """Add a micro-batch; nothing here waits for the device."""
        self.loss = self.loss.to(loss.device) + loss.detach()
        mean = torch.stack([s.detach().float() for s in scores]).mean(dim=0)
        self.right = self.right.to(loss.device) + (mean.argmax(dim=1) == label).sum()
        self.videos += len(label)

    def row(self, step: int, epoch: float, rate: float, seconds: float) -> dict[str, float]:
        """A row of the log; `data_wait` is the share of the time spent waiting for batches."""
        return {
            "step": step,
            "epoch": round(epoch, 3),
            "loss": round(float(self.loss) / self.steps, 5),
            "accuracy": round(float(self.right) / self.videos, 4),
            "rate": rate,
            "videos_per_second": round(self.videos / max(seconds, 1e-9), 2),
            "data_wait": round(self.waited / max(seconds, 1e-9), 3),
        }


def inputs(network: Network, batch: dict[str, Tensor]) -> list[Tensor]:
    """The tensors a network takes, in order."""
    return [batch[INPUTS[name]] for name in network.names]


def stream_losses(scores: tuple[Tensor, ...], label: Tensor) -> Tensor:
    """The sum of one soft-max loss per stream (section 5.1: two loss layers)."""
    return torch.stack([F.cross_entropy(s, label) for s in scores]).sum()


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weights decay; biases and the parameters of batch normalisation don't."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


@torch.no_grad()
def validate(network: Network, clips: Clips, plan: Plan, device: Device) -> float:
    """Accuracy on the plain centre samples (a quick look, not the test protocol)."""
    network.eval()
    order = [(-1, number) for number in range(len(clips))]
    micro_batches = [order[i : i + plan.micro_batch] for i in range(0, len(order), plan.micro_batch)]
    right = 0
    for batch in loader(clips, micro_batches, 0):
        batch = {name: device.move(value) for name, value in batch.items()}
        with device.autocast():
            mean = torch.stack(network(*inputs(network, batch))).mean(dim=0)
        right += int((mean.argmax(dim=1) == batch["label"]).sum())
    network.train()
    return right / len(clips)


def check_micro_batch(network: Network, clips: Clips, plan: Plan) -> None:
    """Raise `UsageError` when the smallest micro-batch leaves batch normalisation a single value of each channel."""
    smallest = plan.batch % plan.micro_batch or plan.micro_batch
    if smallest * clips.sampling.chunks * network.config.window**2 == 1:
        raise UsageError(
            f"batch = {plan.batch} with micro_batch = {plan.micro_batch} makes a micro-batch of one chunk, "
            f"whose last feature map is one pixel: no batch statistics; take other sizes"
        )


def check_finite(window: Window, clips: Clips, plan: Plan, state: TrainingState, out: Path) -> None:
    """Raise `StmnError` with the step, its videos and the last good state when the loss is NaN or Inf."""
    if torch.isfinite(window.loss):
        return
    order = sample_order(len(clips), plan.seed, state.step * plan.batch, plan.batch)
    videos = ", ".join(sorted({clips.videos[number].id for _, number in order})[:8])
    last = out / FILE
    kept = f"the last good state is {last}" if last.exists() else "no state was saved before"
    raise StmnError(f"the loss is not finite at step {state.step}; the batch holds {videos}; {kept}; try a lower lr")


def write_history(out: Path, state: TrainingState) -> None:
    """Start the log anew with the rows of the steps that count (a killed run may have logged more)."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in state.history))


def append_row(out: Path, row: dict[str, float]) -> None:
    """Add a row to the log."""
    with open(out / "metrics.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")


@contextmanager
def stop_signals(progress: Progress) -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that a step ends before training does; a second one ends it at once."""
    event = threading.Event()

    def stop(number: int, frame: object) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        progress.say("stopping after this step; once more stops at once and loses what came after the last saved state")

    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    old = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
