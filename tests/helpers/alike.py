"""Pairs of trainings that differ only by rounding, and how far apart a GPU may bring them.

The tests on a GPU run them; `test_bounds_for_a_gpu.py` shows on the CPU that the bounds are fair, and that mistakes are
beyond them. Batch normalisation over few values amplifies rounding without limit: over two equal ones, it divides
rounding by rounding. So groups have 4 videos of 2 chunks, and the last one of a batch 2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from helpers.trainings import CPU, network, steps, videos, weights
from stmn.nets.network import Network
from stmn.runtime.device import Device
from stmn.runtime.precision import training_numbers
from stmn.runtime.progress import Silent
from stmn.runtime.ranks import ALONE, Ranks
from stmn.training.loop import train
from stmn.training.plan import Plan
from stmn.workspace import Workspace

#: changes a network before it is trained
Change = Callable[[Network], None]


@dataclass
class Trained:
    """A training: the state after it and after its first step, on the CPU, and the rows of its log."""

    weights: dict[str, Tensor]
    first: dict[str, Tensor]
    rows: list[dict]

    def column(self, name: str) -> list[float]:
        return [row[name] for row in self.rows]


def unchanged(network: Network) -> None:
    """Train the network as it is."""


def trained(
    prepared: Workspace, folder: Path, device: Device, plan: Plan, fused: bool = True, ranks: Ranks = ALONE,
    deterministic: bool = False, change: Change = unchanged, **how: object,
) -> Trained:  # fmt: skip
    """Train a narrow pair, or the motion stream alone, on two chunks of each video."""
    torch.manual_seed(0)
    net, states = network(fused=fused, **how), []
    change(net)

    class States(Silent):
        def advance(self, count: int = 1, **fields: object) -> None:
            if not states:
                states.append(weights(net))

    clips = videos(prepared, chunks=2, modalities=("rgb", "flow") if fused else ("flow",))
    with training_numbers(device, deterministic):
        rows = train(net, clips, None, plan, device, folder, States(), ranks=ranks).history
    after, first = ({name: value.cpu() for name, value in state.items()} for state in (weights(net), states[0]))
    return Trained(after, first, rows)


def assert_alike(found: dict[str, Tensor], expected: dict[str, Tensor], share: float) -> None:
    """Equal up to a share of the largest entry of each tensor."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = float(value.abs().max()) if value.is_floating_point() else 0.0
        torch.testing.assert_close(
            found[name], value, rtol=0, atol=1e-5 + share * scale, msg=lambda m, name=name: f"{name}: {m}"
        )


def assert_near(name: str, found: Trained, expected: Trained, share: float, rows: int | None = None) -> None:
    """A column of two logs is equal up to a share, in the first rows or in all."""
    torch.testing.assert_close(
        *(torch.tensor(run.column(name)[:rows]) for run in (found, expected)), rtol=share, atol=0,
        msg=lambda m: f"{name}: {found.column(name)} instead of {expected.column(name)}: {m}",
    )  # fmt: skip


def check_groups(
    prepared: Workspace, folder: Path, device: Device, compiled: dict[str, str], change: Change = unchanged
) -> None:
    """Groups in one micro-batch learn as separate micro-batches do, with dropout, which is drawn for each group.

    In bfloat16 small updates are mostly rounding. So what is compared there is the losses, and the gradient norm and the
    statistics of the first step.
    """
    options = {"batch": 14, "rate": 0.01, "bn_passes": 0, "log_every": 1}
    apart = trained(prepared, folder / "apart", device, steps(2, micro_batch=4, **options), dropout=0.5)
    plan = steps(2, micro_batch=14, bn_group=4, **options, **compiled)
    together = trained(prepared, folder / "together", device, plan, dropout=0.5, change=change)
    exact = device.precision == torch.float32
    assert_near("loss", together, apart, 1e-4 if exact else 1e-3)
    if exact:
        assert_near("gradient_norm", together, apart, 5e-3)
        assert_alike(together.weights, apart.weights, 0.005)
    else:
        assert_near("gradient_norm", together, apart, 0.03, rows=1)
        assert_alike(statistics_of(together.first), statistics_of(apart.first), 0.1)


def statistics_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The running statistics in a network's state."""
    return {name: value for name, value in state.items() if "running_" in name}


def check_compiled(
    prepared: Workspace, folder: Path, device: Device, compiled: dict[str, str | None], change: Change = unchanged
) -> None:
    """A compiled network learns what it learns without, from the gradients of two micro-batches, added up."""
    options = {"micro_batch": 4, "rate": 0.001, "log_every": 1, "bn_passes": 0}
    eager = trained(prepared, folder / "eager", device, steps(6, **options), dropout=0.5)
    found = trained(prepared, folder / "compiled", device, steps(6, **options, **compiled), dropout=0.5, change=change)
    assert_near("loss", found, eager, 5e-4)
    assert_alike(found.weights, eager.weights, 0.005)


def check_ranks(
    prepared: Workspace,
    folder: Path,
    device: Device,
    compiled: dict[str, str],
    ranks: Ranks,
    change: Change = unchanged,
) -> None:
    """One process of several learns what a process alone does; the first training is without `ranks`."""
    plan = steps(3, micro_batch=4, rate=0.001, bn_passes=0, **compiled)
    alone = trained(prepared, folder / "alone", device, plan, deterministic=True)
    found = trained(prepared, folder / "ranks", device, plan, ranks=ranks, deterministic=True, change=change)
    assert_alike(found.weights, alone.weights, 0.005 if compiled else 0.001)


def check_device(
    prepared: Workspace, folder: Path, device: Device, fused: bool, injector: str, change: Change = unchanged
) -> None:
    """A device learns the CPU's weights in float32; gates multiply what rounding has done to both streams."""
    plan = steps(3, micro_batch=4, rate=0.001, clip=5.0, ema=0.9, label_smoothing=0.1, class_weights=True)
    expected = trained(prepared, folder / "cpu", CPU, plan, fused, injector=injector)
    found = trained(prepared, folder / "device", device, plan, fused, injector=injector, change=change)
    assert_near("loss", found, expected, 1e-3)
    assert_alike(found.weights, expected.weights, 0.01)


def check_precision(prepared: Workspace, folder: Path, device: Device, change: Change = unchanged) -> None:
    """The first steps of any precision are those of float32 on the CPU; later ones diverge, but learn too."""
    plan = steps(12, log_every=4)
    expected = trained(prepared, folder / "cpu", CPU, plan, fused=False)
    found = trained(prepared, folder / "device", device, plan, fused=False, change=change)
    assert_near("loss", found, expected, 0.02, rows=1)
    first, *_, last = found.column("loss")
    assert last < first, found.column("loss")
