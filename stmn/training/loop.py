"""The training loop: one function, read in one sitting."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch

from stmn.errors import Interrupted
from stmn.nets.network import Network
from stmn.runtime.device import Device
from stmn.runtime.progress import Progress
from stmn.runtime.ranks import ALONE, Ranks, report_lost_rank
from stmn.runtime.torchrun import check_micro_batches
from stmn.sampling.clips import Clips
from stmn.sampling.loader import load_batches
from stmn.sampling.order import MicroBatches
from stmn.training.checks import (
    catch_signals,
    check_samples,
    check_step,
    check_validation,
    check_weights,
    non_finite_error,
)  # fmt: skip
from stmn.training.kept import KeptWeights
from stmn.training.learner import Learner, select_inputs, weigh_classes
from stmn.training.log import Log
from stmn.training.mixing import make_mixing
from stmn.training.normalisation import Normalisation
from stmn.training.optimizer import clip_gradient, gradient_norm, make_optimizer, set_rate
from stmn.training.plan import Plan
from stmn.training.recompute import announce_recomputation, recompute_statistics
from stmn.training.state import SavedState, TrainingState
from stmn.training.statistics import RunningStatistics
from stmn.training.validation import validate


@report_lost_rank()
def train(
    network: Network, clips: Clips, validation: Clips | None, plan: Plan, device: Device, out: Path,
    progress: Progress, ranks: Ranks = ALONE, hand_out: Callable[[Network, int], None] | None = None,
) -> TrainingState:  # fmt: skip
    """Train `network` in place, from the state saved in the folder `out` if there is one; return the final state.

    The processes of `ranks` share the micro-batches of each step and end with the same network. `hand_out` gets the
    network, and the number of the step, each `plan.keep_every` steps.

    Raises:
        UsageError, DataError: before the first step, when the samples don't fit the network or the plan.
        Interrupted: after SIGINT or SIGTERM, once the state is saved.
        StmnError: when the loss or the gradient is not finite, or another process is lost.
    """
    # set up
    check_samples(network, clips, plan)
    check_validation(validation, plan, progress)
    check_micro_batches(plan.batch, plan.micro_batch, ranks.size)
    own = ranks.share(plan.micro_batches)  # this process's micro-batches of each step
    ranks.join(device)
    device.place(network)
    normalisation = Normalisation(network, plan.bn, plan.freeze)
    optimizer, scaler, kept = make_optimizer(network, plan), device.scaler(), KeptWeights(network, plan)
    weights = weigh_classes(clips.labels, len(network.config.classes)) if plan.class_weights else None

    # resume
    saved = SavedState(out, network, optimizer, scaler, kept, plan, ranks)
    state = saved.load(progress)
    mix = make_mixing(plan.mixup, len(network.config.classes))
    learner = ranks.wrap(
        Learner(network, device, plan.compile, plan.label_smoothing, weights, plan.loss_weights), device
    )
    statistics = RunningStatistics(normalisation, plan.bn_momentum, plan.micro_batches)
    log = Log(out, plan, len(clips), state, progress, ranks)

    # data: crops, strides and order are functions of the seed, the epoch and the step
    order = MicroBatches(
        len(clips), plan.batch, plan.micro_batch, plan.seed, state.step, plan.steps, own, plan.stride,
        clips.balanced_labels,
    )  # fmt: skip
    batches = iter(load_batches(clips, order, device.loader_threads, device=device))

    with catch_signals(progress, ranks) as stop, log, ExitStack() as bar:
        task = bar.enter_context(progress.task("training", plan.steps, "steps", state.step))
        while state.step < plan.steps and not plan.schedule.saturated(state.errors):
            # start a step
            normalisation.start_training()
            statistics.snapshot()
            log.start_step()
            rate = plan.schedule.rate_at(state.step, state.errors)
            set_rate(optimizer, rate)
            optimizer.zero_grad(set_to_none=True)

            # forward and backward: gradients add up over micro-batches; over processes torch averages them
            losses = {}
            for number in own:
                batch = device.move_batch(log.next_batch(batches))
                torch.manual_seed(plan.dropout_seed(state.step, number))
                batch = mix(batch)
                label = batch["label"]
                with ranks.no_sync(learner, when=number != own[-1]):
                    loss, correct = learner(select_inputs(network, batch), label)
                    losses[number] = loss * (len(label) / plan.batch)
                    scaler.scale(losses[number] * ranks.size).backward()
                log.add(losses[number], correct, len(label))
            statistics.finish_step(state.step, ranks)
            scaler.unscale_(optimizer)
            norm = gradient_norm(optimizer)

            # check: the processes agree whether this step is finite, and whether to save and to stop
            check = check_step(ranks, plan, losses, norm, scaler, stop.is_set(), saved.is_due())
            if check.broken:
                raise non_finite_error(check, clips, plan, state.step, out)

            # save the state before this step: what follows it is finite, so it is a good one
            if check.due or check.stop:
                state.sums = log.sums()
                saved.save(state, statistics.before)
            if check.stop:
                ranks.barrier()  # no process leaves before the state is saved
                raise Interrupted(f"interrupted at step {state.step} of {plan.steps}; rerun the command to continue")

            # update
            if plan.clip:
                clip_gradient(optimizer, plan.clip, norm)
            scaler.step(optimizer)
            scaler.update()
            state.step += 1
            kept.update(state.step)
            if hand_out and plan.keep_every and state.step % plan.keep_every == 0:
                check_weights(network, state.step)
                hand_out(kept.current, state.step)

            # log
            if log.row_is_due():
                if validation and plan.validates_at(state.step):
                    state.errors.append(1 - validate(kept.current, validation, plan, device, ranks))
                    kept.validated(state.errors)
                log.write(rate, float(norm), task)
            task.advance()

        # end: statistics of the final weights; what is saved before is where an interrupted pass starts over
        bar.close()  # the pass has a bar of its own
        check_weights(network, state.step)
        kept.finish()
        if plan.bn_passes and normalisation.trained:
            state.sums = []
            saved.save(state, {})
            announce_recomputation(plan, len(clips), state, progress)
            recompute_statistics(normalisation, clips, plan, state.step, device, progress, ranks, stop)
    return state
