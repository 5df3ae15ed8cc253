"""The bounds of the tests on a GPU: another device's rounding is within them, a mistake is not."""

from collections.abc import Callable

import pytest
import torch
from helpers.alike import Change, check_compiled, check_device, check_groups, check_precision, check_ranks
from helpers.rounding import round_otherwise
from torch import Tensor

from stmn.nets.network import Network
from stmn.runtime.device import choose_device
from stmn.runtime.ranks import ALONE
from stmn.training.groups import Groups
from stmn.workspace import Workspace

CPU, BFLOAT16 = choose_device("cpu", "float32"), choose_device("cpu", "bfloat16")
Check = Callable[[Workspace, object, Change], None]


def rounding(seed: int, precision: torch.dtype = torch.float32) -> Change:
    return lambda network: round_otherwise(network, precision, seed)


@pytest.fixture
def groups_ignored(monkeypatch) -> None:
    """A micro-batch is normalised as one group."""
    monkeypatch.setattr(Groups, "rows", lambda self, x, layer: len(x))


def only_last_gradient(network: Network) -> None:
    """The gradient of one micro-batch replaces the one before, as if a graph had used its memory again."""

    def clear(module: Network, inputs: tuple[Tensor, ...]) -> None:
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()

    network.streams["motion"].backbone.conv1.register_forward_pre_hook(clear)


@pytest.mark.parametrize("device", [CPU, pytest.param(BFLOAT16, marks=pytest.mark.slow)], ids=["float32", "bfloat16"])
def test_groups(prepared, tmp_path, device):
    check_groups(prepared, tmp_path, device, {}, rounding(1, device.precision))


@pytest.mark.slow
@pytest.mark.usefixtures("groups_ignored")
@pytest.mark.parametrize("device", [CPU, BFLOAT16], ids=["float32", "bfloat16"])
def test_groups_that_are_ignored_are_found(prepared, tmp_path, device):
    with pytest.raises(AssertionError, match=r"loss: |streams"):
        check_groups(prepared, tmp_path, device, {})


@pytest.mark.slow
@pytest.mark.parametrize("check", [
    lambda *a: check_compiled(*a[:2], CPU, {}, a[2]),
    lambda *a: check_ranks(*a[:2], CPU, {}, ALONE, a[2]),
    lambda *a: check_device(*a[:2], CPU, True, "residual_and_skip", a[2]),
], ids=["compiled", "ranks", "device"])  # fmt: skip
def test_trainings_of_several_micro_batches(prepared, tmp_path, check: Check):
    check(prepared, tmp_path / "rounded", rounding(2))
    with pytest.raises(AssertionError, match=r"loss: |streams"):
        check(prepared, tmp_path / "mistaken", only_last_gradient)


@pytest.mark.slow
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
def test_precisions(prepared, tmp_path, precision):
    check_precision(prepared, tmp_path / "rounded", CPU, rounding(3, precision))


@pytest.mark.slow
def test_network_that_does_not_learn_is_found(prepared, tmp_path):
    """Its inputs are all the same."""

    def blind(network: Network) -> None:
        network.streams["motion"].backbone.conv1.register_forward_pre_hook(lambda layer, inputs: inputs[0] * 0)

    with pytest.raises(AssertionError, match=r"loss: |streams"):
        check_precision(prepared, tmp_path, CPU, blind)
