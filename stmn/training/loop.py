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
from stmn.training.checks import catch_signals, check_samples, check_step, check_validation, check_weights
from stmn.training.kept import KeptWeights
from stmn.training.learner import Learner, select_inputs, weight_classes
from stmn.training.log import Log
from stmn.training.mixing import make_mixing
from stmn.training.normalisation import Normalisation
from stmn.training.optimizer import clear_gradient, clip_gradient, gradient_norm, make_optimizer, set_rate
from stmn.training.plan import Plan
from stmn.training.recompute import announce_recomputation, recompute_statistics
from stmn.training.state import SavedState, TrainingState
from stmn.training.statistics import RunningStatistics
from stmn.training.step_results import StepResult, StepResults
from stmn.training.validation import validate


@report_lost_rank()
def train(
    network: Network, clips: Clips, validation: Clips | None, plan: Plan, device: Device, out: Path,
    progress: Progress, ranks: Ranks = ALONE, save_network: Callable[[Network, int], None] | None = None,
) -> TrainingState:  # fmt: skip
    """Train `network` in place, from the saved state in the folder `out` if there is one; return the final state.

    The processes of `ranks` share the micro-batches of each step and end with the same network. `save_network`
    is called with the network and the number of the step every `plan.keep_every` steps.

    Raises:
        UsageError, DataError: before the first step, if the samples don't fit the network or the plan.
        Interrupted: after SIGINT or SIGTERM, once the state is saved.
        StmnError: the loss or the gradient is not finite, or another process is lost.
    """
    # set up
    check_samples(network, clips, plan)
    check_validation(validation, plan, progress)
    check_micro_batches(plan.batch, plan.micro_batch, ranks.size)
    own = ranks.share(plan.micro_batches)  # this process's micro-batches of each step
    ranks.join(device)
    device.place(network)
    normalisation = Normalisation(network, plan.bn, plan.freeze)
    groups = normalisation.group(plan.group)
    optimizer, scaler, kept = make_optimizer(network, plan), device.scaler(), KeptWeights(network, plan)
    weights = weight_classes(clips.labels, len(network.config.classes)) if plan.class_weights else None

    # resume
    saved = SavedState(out, network, optimizer, scaler, kept, plan, ranks)
    state = saved.load(progress)
    mix = make_mixing(plan.mixup, len(network.config.classes))
    learner = ranks.wrap(
        Learner(network, device, plan.compile, plan.label_smoothing, weights, plan.loss_weights, plan.compile_mode),
        device,
    )
    shares = [plan.count_groups(share) for share in ranks.shares(plan.micro_batches)]
    statistics = RunningStatistics(normalisation, plan.bn_momentum, shares)
    results = StepResults(plan, ranks, device, optimizer, scaler)
    log = Log(out, plan, len(clips), state, progress, ranks, device)

    # data: crops, strides and order are functions of the seed, the epoch and the step
    order = MicroBatches(
        len(clips), plan.batch, plan.micro_batch, plan.seed, state.step, plan.steps, own, plan.stride,
        clips.balanced_labels, plan.group,
    )  # fmt: skip
    batches = iter(load_batches(clips, order, device.loader_threads, device=device))

    def take(found: list[StepResult]) -> list[StepResult]:
        """Log steps; raise at the first that is not finite."""
        for one in found:
            check_step(one, clips, plan, out)
            log.add(one)
        return found

    with catch_signals(progress, ranks) as stop, log, ExitStack() as bar:
        task = bar.enter_context(progress.task("training", plan.steps, "steps", state.step))
        if plan.compile:  # otherwise compiled code, and the memory of CUDA graphs, stay in the process
            bar.callback(torch.compiler.reset)
        while state.step < plan.steps and not plan.schedule.saturated(state.errors):
            # start a step
            normalisation.start_training()
            statistics.snapshot()
            rate = plan.schedule.rate_at(state.step, state.errors)
            set_rate(optimizer, rate)
            clear_gradient(optimizer, keep_memory=plan.uses_graphs)

            # forward and backward: gradients are summed over micro-batches; torch averages them over processes
            losses, correct = {}, []
            for number in own:
                batch = device.move_batch(log.next_batch(batches))
                batch = groups.start(batch, mix, plan.group_seeds(state.step, number), device.device)
                label = batch["label"]
                if plan.uses_graphs:
                    torch.compiler.cudagraph_mark_step_begin()  # earlier outputs of the graphs may be overwritten
                with ranks.no_sync(learner, when=number != own[-1]):
                    loss, found_correct = learner(select_inputs(network, batch), label)
                    losses[number] = loss * (len(label) / plan.batch)
                    scaler.scale(losses[number] * ranks.size).backward()
                losses[number] = losses[number].detach()
                correct.append(found_correct)
            statistics.finish_step(state.step, ranks)
            scaler.unscale_(optimizer)
            norm = gradient_norm(optimizer)

            # check: the processes agree on whether a step is finite, and whether to save and to stop
            results.add(state.step, losses, correct, norm, stop.is_set(), saved.is_due())
            found = take(results.known())
            save, leave = any(one.due or one.stop for one in found), any(one.stop for one in found)

            # save the state as it was before this step, once this step is known to be finite: then the state is good
            if save:
                take(results.wait())
                state.sums = log.sums(before=state.step)
                saved.save(state, statistics.before)
            if leave:
                ranks.barrier()  # no process leaves before the state is saved
                raise Interrupted(f"interrupted at step {state.step} of {plan.steps}; rerun the command to continue")

            # update
            if plan.clip:
                clip_gradient(optimizer, plan.clip, norm)
            scaler.step(optimizer)
            scaler.update()
            state.step += 1
            kept.update(state.step)
            if save_network and plan.keep_every and state.step % plan.keep_every == 0:
                take(results.wait())
                check_weights(network, state.step)
                save_network(kept.current, state.step)

            # log
            if log.row_is_due():
                take(results.wait())
                if validation and plan.validates_at(state.step):
                    state.errors.append(1 - validate(kept.current, validation, plan, device, ranks))
                    kept.validated(state.errors)
                log.write(rate, task)
            task.advance()

        # end: batch statistics of the final weights; an interrupted pass starts again from the state saved before it
        bar.close()  # the pass has its own progress bar, and is not compiled
        check_weights(network, state.step)
        kept.finish()
        if plan.bn_passes and normalisation.trained:
            state.sums = []
            saved.save(state, {})
            announce_recomputation(plan, len(clips), state, progress)
            recompute_statistics(normalisation, clips, plan, state.step, device, progress, ranks, stop)
    return state
