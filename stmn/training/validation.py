"""A quick validation during training; the test protocol is in `stmn.evaluation`."""

import torch

from stmn.nets.network import Network
from stmn.runtime.device import Device
from stmn.runtime.ranks import ALONE, Ranks
from stmn.sampling.clips import Clips
from stmn.sampling.loader import load_batches
from stmn.training.learner import select_inputs
from stmn.training.plan import Plan


@torch.no_grad()
def validate(network: Network, clips: Clips, plan: Plan, device: Device, ranks: Ranks = ALONE) -> float:
    """Return the accuracy (0 to 1) on one centre sample per video; the processes of `ranks` share the videos."""
    network.eval()
    order = [(-1, number) for number in range(len(clips))][ranks.rank :: ranks.size]
    micro_batches = [order[i : i + plan.micro_batch] for i in range(0, len(order), plan.micro_batch)]
    correct = torch.zeros((), device=device.device)
    for batch in load_batches(clips, micro_batches, device.loader_threads, device=device):
        batch = device.move_batch(batch)
        with device.autocast():
            mean = torch.stack(network(*select_inputs(network, batch))).mean(dim=0)
        correct += (mean.argmax(dim=1) == batch["label"]).sum()
    network.train()
    return float(ranks.all_reduce(correct)) / len(clips)
