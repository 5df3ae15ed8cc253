"""What stops a training: before its first step, or in the middle, with one line."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.amp import GradScaler

from stmn.errors import DataError, StmnError, UsageError
from stmn.nets.network import Network
from stmn.runtime.progress import Progress
from stmn.runtime.ranks import Ranks
from stmn.sampling.clips import Clips, sample_order
from stmn.store.format.shard import FLOW, RGB, picture_key
from stmn.training.plan import Plan
from stmn.training.state import STATE_FILE

KINDS = {"rgb": (RGB, "frames"), "flow": (FLOW, "flow")}


def check_micro_batch(network: Network, clips: Clips, plan: Plan) -> None:
    """Raise `UsageError` when the smallest micro-batch leaves batch normalisation a single value of each channel."""
    smallest = plan.batch % plan.micro_batch or plan.micro_batch
    if smallest * clips.sampling.chunks * network.config.window**2 == 1:
        raise UsageError(
            f"batch = {plan.batch} with micro_batch = {plan.micro_batch} makes a micro-batch of one chunk, "
            f"whose last feature map is one pixel: no batch statistics; take other sizes"
        )


def check_pictures(clips: Clips) -> None:
    """Raise `DataError` when a video has no pictures of a modality: a set prepared without flow, say."""
    for modality in clips.sampling.modalities:
        kind, name = KINDS[modality]
        for video in clips.videos:
            key = picture_key(video.number, kind, 0)
            if not clips.store.query(video.shard, "SELECT 1 FROM pictures WHERE key = ?", [key]):
                raise DataError(
                    f"{clips.store.folder}: video '{video.id}' has no {name} stored, which this network is trained "
                    f"on; prepare the set anew with {name}"
                )


@dataclass(frozen=True)
class Agreed:
    """What all processes know of a step: whether each micro-batch's loss was NaN or Inf, whether the gradient was, and
    whether to stop or to save.
    """

    losses: list[bool]
    gradient: bool
    stop: bool
    due: bool

    @property
    def broken(self) -> bool:
        """True when weights must not follow this step's gradient."""
        return self.gradient or any(self.losses)


def agree(
    ranks: Ranks, plan: Plan, losses: dict[int, Tensor], norm: Tensor, scaler: GradScaler, stop: bool, due: bool
) -> Agreed:
    """Tell the others of this process's losses and wishes, and hear theirs.

    A gradient that overflows in float16 is the scaler's business, as long as a smaller scale is left to try.
    """
    votes = torch.zeros(plan.micro_batches + 3, device=norm.device)
    for number, loss in losses.items():
        votes[number] = ~torch.isfinite(loss)
    hopeless = not scaler.is_enabled() or scaler.get_scale() < 1
    votes[-3] = ~torch.isfinite(norm) & hopeless
    votes[-2], votes[-1] = float(stop), float(due)
    *broken, gradient, stopped, wanted = (vote > 0 for vote in ranks.all_reduce(votes).tolist())
    return Agreed(broken, gradient, stopped, wanted)


def not_finite(found: Agreed, clips: Clips, plan: Plan, step: int, out: Path) -> StmnError:
    """The error of a step whose loss or gradient is NaN or Inf: the step, its videos, and the last good state."""
    order = sample_order(len(clips), plan.seed, step * plan.batch, plan.batch)
    if any(found.losses):  # the micro-batch that it came from
        first = found.losses.index(True) * plan.micro_batch
        order = order[first : first + plan.micro_batch]
    ids = sorted({clips.videos[number].id for _, number in order})
    videos = ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
    last = out / STATE_FILE
    kept = f"the last good state is {last}" if last.exists() else "no state was saved before"
    what = "loss is" if any(found.losses) else "gradient is"
    return StmnError(f"the {what} not finite at step {step}; the batch holds {videos}; {kept}; try a lower lr")


@contextmanager
def stop_signals(progress: Progress, ranks: Ranks) -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that a step ends before training does; a second one ends it at once.

    Under torchrun a Ctrl-C comes twice, from the terminal and from torchrun, so there the second one is no other.
    """
    event = threading.Event()

    def stop(number: int, frame: object) -> None:
        if ranks.size > 1:
            event.set()
            return
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
    except BaseException:
        if ranks.size > 1:  # torchrun ends those that are left with SIGTERM: let them say why and keep their records
            old.clear()
        raise
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
