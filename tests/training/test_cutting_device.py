"""Training on a device that cuts pictures itself: the same draws, and the same network except for rounding."""

import torch
from conftest import train_tiny
from helpers.commands import call
from helpers.devices import cut_on_the_device

from stmn.nets.checkpoint import load_checkpoint
from stmn.workspace import Workspace

FUSE = (
    "fuse --batch 8 --micro-batch 4 --steps 2 --lr 0.005 --schedule cosine --chunks 2 --stride-min 1 --stride-max 2 "
    "--validation 0.25 --balance --colour-jitter 0.2,0.2,0.2,0 --force"
)


def fuse(space: Workspace, *more: object) -> dict[str, torch.Tensor]:
    """The network of a training: two streams, with validation, recomputed statistics, and classes balanced.

    Its steps are small, as large ones enlarge what rounding differs in.
    """
    done = call(*FUSE.split(), *more, "-w", space.root)
    assert done.exit_code == 0, done.stderr
    [run] = [run for run in space.runs() if run.record["verb"] == "fuse"]  # the same run each time
    return load_checkpoint(run.output("model"))[0].state_dict()


def test_training_is_that_of_the_cpu(scratch, monkeypatch):
    for modality in ("rgb", "flow"):
        train_tiny(scratch, modality, steps=1, validation=0.25)
    plain = fuse(scratch)
    cut_on_the_device(monkeypatch)
    found = fuse(scratch, "--loader-threads", 3)
    assert any(not torch.equal(value, plain[name]) for name, value in found.items())  # sums had another order
    for name, value in found.items():
        torch.testing.assert_close(
            value, plain[name], rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
