"""The training loop: one function, read in one sitting."""

import time
from pathlib import Path

import torch

from stmn.errors import DataError, Interrupted
from stmn.nets.network import Network
from stmn.runtime.device import Device
from stmn.runtime.progress import Progress
from stmn.runtime.ranks import ALONE, Ranks, report_lost_rank
from stmn.sampling.clips import Clips, MicroBatches
from stmn.sampling.loader import load_batches
from stmn.training.checks import agree, check_micro_batch, check_pictures, not_finite, stop_signals
from stmn.training.learner import Learner, gradient_norm, make_optimizer, select_inputs
from stmn.training.log import Log
from stmn.training.plan import Plan
from stmn.training.state import TrainingState, load_state, remove_state, remove_unfinished, save_state
from stmn.training.statistics import Statistics
from stmn.training.validation import validate


@report_lost_rank()
def train(
    network: Network, clips: Clips, validation: Clips | None, plan: Plan, device: Device, out: Path,
    progress: Progress, ranks: Ranks = ALONE,
) -> TrainingState:  # fmt: skip
    """Train `network` in place, from where a run in `out` stopped; returns the final state.

    Rows of `out/metrics.jsonl` are written as they come. `ranks` share the micro-batches of each step and all end with
    the same network. Raises `Interrupted` after SIGINT or SIGTERM, once the state is saved; `StmnError` when the loss
    or its gradient is not finite or a process is lost; `UsageError` and `DataError` before the first step.
    """
    check_micro_batch(network, clips, plan)
    check_pictures(clips)
    numbers = ranks.share(plan.micro_batches)
    ranks.join(device)
    device.place(network)
    optimizer, scaler = make_optimizer(network, plan), device.scaler()
    if ranks.first:
        remove_unfinished(out) if plan.resume else remove_state(out)
    ranks.barrier()
    state = load_state(out, network, optimizer)
    if ranks.broadcast(state.step) != state.step:
        raise DataError(f"{out}: the processes see different saved states: they need one workspace that all can read")
    if state.scaler:
        scaler.load_state_dict(state.scaler)
    if state.step:
        progress.say(f"continuing at step {state.step} of {plan.steps}")

    learner = ranks.wrap(Learner(network, device, plan.compile), device)
    statistics = Statistics(network)
    log = Log(out, plan, len(clips), state, progress, ranks)
    batches = MicroBatches(
        len(clips), plan.batch, plan.micro_batch, plan.seed, state.step, plan.steps, numbers, plan.stride
    )
    micro_batches = iter(load_batches(clips, batches, device.loader_threads))
    saved = time.monotonic()
    with stop_signals(progress, ranks) as stopped, progress.task("training", plan.steps, "steps", state.step) as task:
        while state.step < plan.steps and not plan.schedule.saturated(state.errors):
            network.train()
            statistics.keep()
            rate = plan.schedule.rate_at(state.step, state.errors)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            losses = {}
            for number in numbers:
                batch = {name: device.move(value) for name, value in log.waiting(micro_batches).items()}
                label = batch["label"]
                torch.manual_seed(hash((plan.seed, state.step, number * plan.micro_batch)))  # dropout: of the step
                with ranks.no_sync(learner, when=number != numbers[-1]):
                    loss, right = learner(select_inputs(network, batch), label)
                    losses[number] = loss * (len(label) / plan.batch)
                    # gradients add up over micro-batches; over processes they become means
                    scaler.scale(losses[number] * ranks.size).backward()
                log.add(losses[number], right, len(label))
            statistics.fold(ranks, plan.micro_batches)
            scaler.unscale_(optimizer)
            norm = gradient_norm(optimizer)

            # A state is saved once the step after it has come out finite: the last one saved is a good one.
            due = ranks.first and time.monotonic() - saved > 60 * plan.checkpoint_minutes
            found = agree(ranks, plan, losses, norm, scaler, stopped.is_set(), due)
            if found.broken:
                raise not_finite(found, clips, plan, state.step, out)
            if ranks.first and (found.due or found.stop):
                state.scaler = scaler.state_dict()
                save_state(out, network, optimizer, state, statistics.before)
                saved = time.monotonic()
            if found.stop:
                ranks.barrier()  # nobody leaves before it is saved
                raise Interrupted(f"interrupted at step {state.step} of {plan.steps}; the same command continues there")
            scaler.step(optimizer)
            scaler.update()
            state.step += 1

            if log.due():
                more = {}
                if validation and plan.validate_every and state.step % plan.validate_every < plan.log_every:
                    more["validation_error"] = 1 - validate(network, validation, plan, device, ranks)
                    state.errors.append(more["validation_error"])
                log.write(rate, float(norm), task, **more)
            task.advance()
    return state
