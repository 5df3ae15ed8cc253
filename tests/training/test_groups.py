"""Groups: a large micro-batch, normalised in groups of videos, trains as separate micro-batches of that size do."""

import json
import shlex

import pytest
import torch
from helpers.commands import call, errors_of
from helpers.trainings import CPU, network, steps, videos, weights
from torch import Tensor, nn

from stmn.nets.checkpoint import read_description
from stmn.runtime.progress import Silent
from stmn.training.groups import GroupedNorm, Groups, normalise_groups
from stmn.training.loop import train
from stmn.training.normalisation import Normalisation
from stmn.training.plan import Plan


def trained(
    prepared, folder, plan: Plan, fused: bool = False, dropout: float = 0.0, injector: str = "none"
) -> tuple[dict[str, Tensor], list]:
    """The state after training, and the rows of the log."""
    torch.manual_seed(0)
    net = network(dropout, fused, injector)
    clips = videos(prepared, chunks=2, modalities=("rgb", "flow") if fused else ("flow",))
    state = train(net, clips, None, plan, CPU, folder, Silent())
    return weights(net), state.history


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal up to rounding, a fraction of each tensor's largest entry that gates make larger; counters are equal."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = float(value.abs().max()) if value.is_floating_point() else 0.0
        torch.testing.assert_close(
            found[name], value, rtol=0, atol=1e-6 + 2e-3 * scale, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("case", [
    {"fused": False, "bn_passes": 0},
    pytest.param({"fused": True, "injector": "residual_and_skip"}, marks=pytest.mark.slow),
    {"fused": True, "dropout": 0.5, "mixup": 0.2, "stride": (1, 2), "bn_passes": 0},
])  # fmt: skip
def test_large_micro_batch_in_groups_trains_as_separate_ones(prepared, tmp_path, case):
    """Weights, running or recomputed statistics, counters, losses; dropout, mixup and strides are drawn alike.

    A batch of 7 in groups of 2: three whole ones and a smaller one, in micro-batches of two groups, or in one.
    """
    fused, dropout, injector = case.pop("fused"), case.pop("dropout", 0.0), case.pop("injector", "none")
    options = {"batch": 7, "rate": 0.02, "log_every": 1} | case
    expected, rows = trained(prepared, tmp_path / "2", steps(2, micro_batch=2, **options), fused, dropout, injector)
    for micro_batch in (4, 7):
        plan = steps(2, micro_batch=micro_batch, bn_group=2, **options)
        found, found_rows = trained(prepared, tmp_path / f"{micro_batch}", plan, fused, dropout, injector)
        assert_close(found, expected)
        for row, other in zip(found_rows, rows, strict=True):
            assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)
            assert row["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-3)
    whole, _ = trained(prepared, tmp_path / "whole", steps(2, micro_batch=7, **options), fused, dropout, injector)
    name = "streams.motion.backbone.layer1.0.bn1.running_var"
    difference = (whole[name] - expected[name]).abs().max()
    assert difference > 0.02 * expected[name].abs().max()  # groups matter: ten times what rounding may do


def test_one_formula_for_compilers_is_the_layer_group_by_group():
    """Output, gradients and running statistics; of whole groups, of a smaller last one, and of a single one."""
    for rows, count in ((4, 12), (4, 14), (4, 3)):
        torch.manual_seed(count)
        layer = nn.BatchNorm2d(5, momentum=0.3).double()
        nn.init.normal_(layer.weight)
        other = nn.BatchNorm2d(5, momentum=0.3).double()
        other.load_state_dict(layer.state_dict())
        x = torch.randn(count, 5, 3, 2, dtype=torch.float64) * 3 + 1
        ours, plain = x.clone().requires_grad_(), x.clone().requires_grad_()
        found = normalise_groups(layer, ours, min(rows, count))
        expected = torch.cat([other(part) for part in plain.split(rows)])
        torch.testing.assert_close(found, expected)
        seen = torch.randn_like(expected)
        (found * seen).sum().backward()
        (expected * seen).sum().backward()
        torch.testing.assert_close(ours.grad, plain.grad)
        torch.testing.assert_close(layer.weight.grad, other.weight.grad)
        torch.testing.assert_close(layer.running_mean, other.running_mean)
        torch.testing.assert_close(layer.running_var, other.running_var)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [{"batch": 8}, {"batch": 7, "micro_batch": 4}], ids=["equal", "uneven"])
def test_compiled_network_has_groups_too(prepared, tmp_path, sizes):
    options = {"bn_group": 2, "rate": 1e-3, "bn_passes": 0, **sizes}
    expected, _ = trained(prepared, tmp_path / "eager", steps(2, **options), dropout=0.5)
    found, _ = trained(prepared, tmp_path / "compiled", steps(2, compile="aot_eager", **options), dropout=0.5)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)


def test_layer_whose_rows_are_no_videos_is_named():
    net = nn.Sequential(nn.BatchNorm1d(3))
    Normalisation(net).group(2).videos = 4
    assert isinstance(net[0], GroupedNorm) and isinstance(net[0], nn.BatchNorm1d)
    net(torch.randn(8, 3))  # two rows for each video
    with pytest.raises(Exception, match=r"GroupedBatchNorm1d sees 6 rows for 4 videos.*leave out bn_group"):
        net(torch.randn(6, 3))
    assert Groups(2).rows(torch.randn(6, 3), net[0]) == 6  # outside of training


COMMAND = shlex.split(
    "train-stream --modality flow --arch resnet18 --width 0.125 --weights none --size 32 --batch 8 --steps 2 "
    "--lr 0.02 --schedule cosine --validation 0"
)


def test_how_many_groups_are_in_memory_makes_no_other_run(scratch):
    """A run of micro-batches of 2 is that of groups of 2, whatever the micro-batch; its model names the group."""
    assert call(*COMMAND, "--micro-batch", 2, "-w", scratch.root).exit_code == 0
    (run,) = scratch.runs()
    grouped = call(*COMMAND, "--micro-batch", 8, "--bn-group", 2, "-w", scratch.root)
    assert grouped.exit_code == 0 and "up to date" in grouped.stderr
    assert call(*COMMAND, "--micro-batch", 8, "-w", scratch.root).exit_code == 0
    assert len(list(scratch.runs())) == 2  # one group of 8 is another training

    before = json.loads((run.path / "metrics.jsonl").read_text().splitlines()[-1])
    forced = call(*COMMAND, "--micro-batch", 4, "--bn-group", 2, "--force", "-w", scratch.root)
    assert forced.exit_code == 0 and len(list(scratch.runs())) == 2
    after = json.loads((run.path / "metrics.jsonl").read_text().splitlines()[-1])
    assert after["loss"] == pytest.approx(before["loss"], rel=1e-4)
    assert read_description(run.path / "model.safetensors").batch_statistics["micro_batch"] == 2


def test_micro_batch_of_broken_groups_is_refused(scratch):
    refused = call(*COMMAND, "--micro-batch", 6, "--bn-group", 4, "-w", scratch.root)
    assert refused.exit_code == 2
    assert errors_of(refused) == [
        "train-stream: micro_batch = 6 is no multiple of bn_group = 4: a micro-batch holds whole groups, such as 8"
    ]
