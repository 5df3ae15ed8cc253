"""A network becomes one program that takes any number of videos and chunks, and frames of any size."""

from collections.abc import Sequence

import pytest
import torch
from helpers.exported import FINAL, KINDS, made
from torch import Tensor, nn
from torch.torch_version import TorchVersion

from stmn.errors import StmnError
from stmn.exporting.base import example_inputs
from stmn.exporting.parity import check_parity
from stmn.exporting.program import make_program
from stmn.nets.config import StreamConfig
from stmn.nets.fusions import Add
from stmn.nets.network import Network

#: the others take seconds each
QUICK = list(KINDS)[:3]


@pytest.mark.parametrize(
    "kind", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in KINDS]
)
def test_program_takes_any_input_shape(kind):
    net, description = made(**KINDS[kind])
    run = make_program(net, example_inputs(net, description, 2, 3, 32)).module()
    assert check_parity(net, description, lambda given: list(run(*given))) < 1e-5
    for batch, chunks, height, width in ((1, 25, 64, 64), (2, 1, 73, 101), (5, 4, 96, 70)):
        given = [torch.randn(batch, chunks, description.network.in_channels(s.modality), height, width)
                 for s in description.network.streams]  # fmt: skip
        with torch.inference_mode():
            expected = net(*given)
        for ours, theirs in zip(expected, run(*given), strict=True):
            assert (theirs - ours).abs().max() < 1e-4 * ours.abs().max()


def test_whole_frames_of_the_training_size_are_exported_too():
    """Without crops, training sees whole frames, so the smallest frame of the test is as large as a window."""
    alone = [StreamConfig(modality="rgb", arch="resnet18", width=0.125)]
    net, description = made(keeps=("mirror",), streams=alone)
    run = make_program(net, example_inputs(net, description, 2, 3, 32)).module()
    assert check_parity(net, description, lambda given: list(run(*given))) < 1e-5


class _Undecided(Add):
    """A fusion that looks at its numbers before it decides what to compute."""

    def forward(self, receiving: Tensor, sending: Tensor) -> Tensor:
        return receiving + sending if sending.mean() > 0 else receiving


def test_part_that_is_no_fixed_program_is_refused():
    net, description = made(**FINAL)
    for name in list(net.gates):
        net.gates[name] = _Undecided(8)
    with pytest.raises(StmnError, match=r"torch\.export can't express this network with free sizes: .+") as caught:
        make_program(net, example_inputs(net, description, 2, 3, 32))
    assert "\n" not in str(caught.value)


def test_older_torch_is_named(monkeypatch):
    net, description = made(**FINAL)
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.12.1"))
    with pytest.raises(
        StmnError, match=r"needs PyTorch 2\.13 or newer, and this is 2\.12\.1: pip install 'stmn\[export\]'"
    ):
        make_program(net, example_inputs(net, description, 2, 3, 32))


def broken_runners(net: Network):
    """Runners of broken files."""

    def honest(given: Sequence[Tensor]) -> list[Tensor]:
        return [scores.clone() for scores in net(*given)]

    def one_score_off(given):
        scores = honest(given)
        scores[1][-1, 0] += 2e-4 * scores[1].abs().max()
        return scores

    return {
        "one score off": one_score_off,
        "off for other lengths": lambda given: [s + (given[0].shape[1] == 5) for s in honest(given)],
        "off for wide frames": lambda given: [
            s * (1 + (given[0].shape[4] != given[0].shape[3])) for s in honest(given)
        ],
        "off for other batches": lambda given: [s * (1 + (given[0].shape[0] == 3)) for s in honest(given)],
        "NaN": lambda given: [s * torch.nan for s in honest(given)],
        "one NaN": lambda given: [s.index_fill(1, torch.tensor([0]), torch.nan) for s in honest(given)],
        "infinite": lambda given: [s + torch.inf for s in honest(given)],
        "no answer": lambda given: [][1],
        "streams swapped": lambda given: honest(given)[::-1],
        "a stream lost": lambda given: honest(given)[:1],
        "a class lost": lambda given: [s[:, :-1] for s in honest(given)],
        "a video lost": lambda given: [s[:1] for s in honest(given)],
    }


def test_file_that_differs_fails_the_parity_check():
    net, description = made(**FINAL)
    with torch.inference_mode():
        assert check_parity(net, description, lambda given: list(net(*given))) == 0
        for what, run in broken_runners(net).items():
            try:
                check_parity(net, description, run)
            except StmnError as error:
                assert "parity check failed" in str(error) and "\n" not in str(error)
            else:
                pytest.fail(f"passed the parity check: {what}")


def test_real_input_is_compared_as_well():
    net, description = made(streams=[StreamConfig(modality="rgb", arch="resnet18", width=0.125)])
    marked = example_inputs(net, description, 1, 2)
    marked[0][0, 0, 0, 0, 0] = 77.0

    def off_for_it(given):
        return [s * (1 + (given[0][0, 0, 0, 0, 0] == 77)) for s in net(*given)]

    check_parity(net, description, off_for_it)
    with pytest.raises(StmnError, match="outputs differ"):
        check_parity(net, description, off_for_it, real=[marked])


def test_nothing_is_left_of_the_network_that_was_exported():
    net, description = made(streams=[StreamConfig(modality="rgb", arch="resnet18", width=0.125)])
    before = {name: value.clone() for name, value in net.state_dict().items()}
    make_program(net, example_inputs(net, description, 2, 3, 32))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
