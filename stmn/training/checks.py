"""What stops training: unsuitable samples, a loss that is not finite, a signal. Each prints one line."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path

import torch

from stmn.errors import StmnError, UsageError, count_of
from stmn.nets.network import Network
from stmn.runtime.progress import Progress
from stmn.runtime.ranks import Ranks
from stmn.sampling.clips import Clips
from stmn.sampling.order import sample_order
from stmn.training.plan import Plan
from stmn.training.state import STATE_FILE
from stmn.training.step_results import StepResult


def check_samples(network: Network, clips: Clips, plan: Plan) -> None:
    """Make sure that a network can be trained on these samples.

    Raises:
        UsageError: the smallest group gives batch normalisation a single value per channel.
        DataError: a video has no pictures of a modality, as in a set prepared without flow.
    """
    if not has_batch_statistics(network, clips, plan):
        name, what = ("bn_group", "group") if plan.bn_group else ("micro_batch", "micro-batch")
        raise UsageError(
            f"batch = {plan.batch} with {name} = {plan.group} makes a {what} of one chunk, whose last feature map is "
            f"one pixel, so it has no batch statistics; use other sizes"
        )
    clips.check_pictures()


def has_batch_statistics(network: Network, clips: Clips, plan: Plan) -> bool:
    """True if the smallest group gives batch normalisation several values per channel, or none are needed."""
    smallest = plan.batch % plan.group or plan.group
    return plan.bn != "train" or smallest * clips.sampling.chunks * network.config.window**2 > 1


def check_validation(validation: Clips | None, plan: Plan, progress: Progress) -> None:
    """Make sure that there is validation if the plan needs it; say so if there is too little to lower the rate.

    Raises:
        UsageError: the learning rate or the choice of weights depends on validation, and there is none.
    """
    decides = "schedule = plateau" if plan.schedule.name == "plateau" else "keep = best" if plan.keep_best else ""
    count = plan.validations if validation else 0
    if not decides or count > (plan.schedule.patience if plan.schedule.name == "plateau" else 0):
        return
    if not count:
        why = "validate_every is 0" if validation else "no videos are held out for it"
        raise UsageError(f"{decides} needs validation, and {why}")
    progress.say(
        f"plateau: {count_of(plan.steps, 'step has', 'steps have')} {count_of(count, 'validation')}, "
        f"too few to lower lr with a patience of "
        f"{plan.schedule.patience}: it stays at {plan.schedule.rate:g}"
    )


def check_step(found: StepResult, clips: Clips, plan: Plan, out: Path) -> None:
    """Make sure that a step is finite.

    Raises:
        StmnError: it is not; the message names the step, its videos, and the last good state.
    """
    if not found.broken:
        return
    order = sample_order(len(clips), plan.seed, found.step * plan.batch, plan.batch, clips.balanced_labels)
    if any(found.bad_losses):  # name the videos of the first bad micro-batch only
        first = found.bad_losses.index(True) * plan.micro_batch
        order = order[first : first + plan.micro_batch]
    ids = sorted({clips.videos[number].id for _, number in order})
    videos = ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
    last = out / STATE_FILE
    kept = f"the last good state is {last}" if last.exists() else "no state was saved before"
    what = "loss is" if any(found.bad_losses) else "gradient is"
    raise StmnError(f"the {what} not finite at step {found.step}; the batch holds {videos}; {kept}; try a lower lr")


def check_weights(network: Network, step: int) -> None:
    """Make sure that an update left finite weights. Raises `StmnError`."""
    parameters = dict(network.named_parameters())
    if torch.isfinite(torch.nn.utils.get_total_norm(parameters.values(), inf)):  # the device is asked once
        return
    for name, parameter in parameters.items():
        if not torch.isfinite(parameter).all():
            raise StmnError(f"{name} has NaN or infinite values after step {step}; try a lower lr")


@contextmanager
def catch_signals(progress: Progress, ranks: Ranks) -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set, so that training ends after a step; a second signal ends it at once.

    Under torchrun, Ctrl-C arrives twice: from the terminal and from torchrun. So a second signal is ignored there.
    """
    event = threading.Event()

    def stop(number: int, frame: object) -> None:
        if ranks.size > 1:
            event.set()
            return
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        progress.say(
            "stopping after this step; press Ctrl-C again to stop now, which loses what came after the last checkpoint"
        )

    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    old = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    except BaseException:
        if ranks.size > 1:  # torchrun ends the others with SIGTERM: they ignore it, print why and write their records
            old.clear()
        raise
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
