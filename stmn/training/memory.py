"""Advice for a training that runs out of memory."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from stmn.nets.network import Network
from stmn.runtime.device import Device
from stmn.runtime.memory import Shortage
from stmn.sampling.clips import Clips
from stmn.training.checks import has_batch_statistics
from stmn.training.plan import Plan
from stmn.training.state import STATE_FILE


def advise_on_memory(
    network: Network, clips: Clips, plan: Plan, device: Device, out: Path
) -> Callable[[Shortage], str]:
    """Return a function that, for a shortage, says which micro-batch to try and what becomes of the saved state.

    Args:
        network: the network in training.
        clips: its samples.
        plan: how it is trained.
        device: where it is trained.
        out: the folder of the run.
    """

    def advise(shortage: Shortage) -> str:
        fewer = max(1, plan.micro_batch // plan.group // 2) * plan.group  # whole groups: the same training
        half = replace(plan, micro_batch=plan.micro_batch // 2, bn_group=None)
        if fewer < plan.micro_batch:
            tries = [f"--micro-batch {fewer} --bn-group {plan.group}"]
        elif half.micro_batch and has_batch_statistics(network, clips, half):
            tries = [f"--micro-batch {half.micro_batch}"]
        else:
            tries = ["fewer --chunks"] if clips.sampling.chunks > 1 else []
            tries += ["--precision bfloat16"] if device.precision == torch.float32 else []
            tries += ["a smaller network or smaller frames"]
        if not shortage.on_gpu:
            tries.append("a smaller --cache-mb")
        advice = f"micro-batches of {plan.micro_batch} are too large: try {' or '.join(tries)}; "
        if fewer < plan.micro_batch:
            return advice + "its groups stay as they are, so it is the same training, which goes on where it was saved"
        advice += "batch statistics are over a micro-batch, so another one makes another training, from step 0"
        if (out / STATE_FILE).exists():
            advice += f"; the state in {out} is kept: the same command continues from it where there is more memory"
        return advice

    return advise
