"""Convolutions in fewer multiplications while training: the same function and the same gradients, but for rounding."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stmn.nets.build import build_network
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.fast import winograd
from stmn.nets.fast.convolutions import Convolution, FasterConvolutions, Filter, Stem, faster
from stmn.runtime.device import choose_device
from stmn.training.learner import Learner, soft_max_loss

CPU = choose_device("cpu")


def trained(conv: nn.Conv2d, x: Tensor, fast: bool) -> list[Tensor]:
    """The result, and the gradients by the pictures and by the kernels, of a loss that sees each place apart."""
    conv, x = copy.deepcopy(conv), x.clone()
    stem = conv.kernel_size == (7, 7)
    x.requires_grad_(not stem)
    with FasterConvolutions() if fast else torch.enable_grad():
        y = conv(x)
    torch.manual_seed(1)
    (y * torch.randn(y.shape)).sum().backward()
    biases = [] if conv.bias is None else [conv.bias.grad]
    return [y.detach(), conv.weight.grad, *biases] + ([] if stem else [x.grad])


@pytest.mark.parametrize("size", [(4, 4), (16, 24), (7, 30), (13, 12), (3, 2)])
@pytest.mark.parametrize(("channels", "out"), [(8, 16), (64, 8)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_3x3_convolution_and_its_gradients(size, channels, out, stride, layout):
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False).to(memory_format=layout)
    x = torch.randn(40, channels, *size).contiguous(memory_format=layout)
    expected = trained(conv.double(), x.double(), fast=False)
    for found, wanted in zip(trained(conv.float(), x, fast=True), expected, strict=True):
        assert float((found - wanted).abs().max()) < 3e-5 * float(wanted.abs().max())


@pytest.mark.parametrize("size", [(32, 32), (33, 46), (64, 31)])
@pytest.mark.parametrize("planes", [8, 20])
def test_a_stem_s_gradient(size, planes):
    """7x7 of stride 2 on a motion stream's planes, of even and odd sides."""
    torch.manual_seed(0)
    conv = nn.Conv2d(planes, 16, 7, stride=2, padding=3, bias=False)
    x = torch.randn(6, planes, *size)
    expected = trained(conv.double(), x.double(), fast=False)
    for found, wanted in zip(trained(conv.float(), x, fast=True), expected, strict=True):
        assert float((found - wanted).abs().max()) < 3e-5 * float(wanted.abs().max())


@pytest.mark.parametrize("length", [3, 5])
@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_a_temporal_filter_s_gradients(length, chunks):
    """Along time, also of fewer chunks than the filter is long."""
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 10, (length, 1), padding=(length // 2, 0))
    x = torch.randn(3, 6, chunks, 12)
    expected = trained(conv.double(), x.double(), fast=False)
    for found, wanted in zip(trained(conv.float(), x, fast=True), expected, strict=True):
        assert float((found - wanted).abs().max()) < 3e-6 * float(wanted.abs().max())


def test_which_convolutions_are_replaced():
    """Those that gain; a network sees no difference otherwise."""
    x, kernels = torch.randn(4, 16, 32, 32), torch.randn(16, 16, 3, 3, requires_grad=True)
    for stride in (1, 2):
        assert isinstance(faster(x, kernels, None, stride, 1).grad_fn, Convolution._backward_cls)
    assert isinstance(faster(x, torch.randn(16, 16, 7, 7, requires_grad=True), None, 2, 3).grad_fn, Stem._backward_cls)
    taps = torch.randn(16, 16, 3, 1, requires_grad=True)
    assert isinstance(faster(x, taps, torch.zeros(16), 1, (1, 0)).grad_fn, Filter._backward_cls)
    others = {
        "a filter that shortens": (x, taps),
        "1x1": (x, torch.randn(16, 16, 1, 1), None, 1, (0, 0)),
        "stride": (x, kernels, None, 3, 1),
        "no padding": (x, kernels),
        "dilation": (x, kernels, None, 1, 1, 2),
        "groups": (x, torch.randn(16, 4, 3, 3), None, 1, 1, 1, 4),
        "a bias": (x, kernels, torch.zeros(16), 1, 1),
        "other sizes": (x, torch.randn(16, 16, 5, 5), None, 1, 1),
        "channels not in eights": (torch.randn(4, 12, 32, 32), torch.randn(16, 12, 3, 3), None, 1, 1),
        "doubles": (x.double(), kernels.double(), None, 1, 1),
        "half": (x.bfloat16(), kernels.bfloat16(), None, 1, 1),
        "an RGB stem": (torch.randn(4, 3, 32, 32), torch.randn(16, 3, 7, 7), None, 2, 3),
        "a stem whose input has a gradient": (x.clone().requires_grad_(), torch.randn(16, 16, 7, 7), None, 2, 3),
    }
    for what, arguments in others.items():
        assert faster(*arguments) is None, what
    with FasterConvolutions():
        found = F.conv2d(*others["stride"])
    assert torch.equal(found, F.conv2d(*others["stride"]))


def step(fast: bool) -> dict[str, Tensor]:
    """The gradients that one micro-batch gives a fused pair: as in training, or by the network and the losses alone."""
    config = NetworkConfig(
        classes=["a", "b", "c"], size=64, stack_length=4,
        streams=[StreamConfig(modality=m, arch="resnet18", width=0.25, dropout=0) for m in ("rgb", "flow")],
        gate=GateConfig(), temporal=TemporalConfig(injector="residual", pool="max"),
    )  # fmt: skip
    network = CPU.place(build_network(config)).train()
    torch.manual_seed(0)
    videos, label = [torch.randn(2, 4, planes, 64, 64) for planes in (3, 8)], torch.tensor([0, 2])
    loss = Learner(network, CPU)(videos, label)[0] if fast else soft_max_loss(network.logits(*videos), label)
    loss.backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def test_a_training_step_has_the_same_gradient():
    expected, found = step(fast=False), step(fast=True)
    apart = torch.nn.utils.get_total_norm([found[name] - expected[name] for name in expected])
    assert 0 < apart < 1e-3 * torch.nn.utils.get_total_norm(expected.values())


def test_the_same_step_again_has_the_same_bits():
    """Memory for tiles is used again; nothing of it is left."""
    first, second = step(fast=True), step(fast=True)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_without_a_compiler_training_keeps_pytorchs_convolutions(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", str(tmp_path / "no-compiler"))
    winograd.load.cache_clear()
    try:
        without, plain = step(fast=True), step(fast=False)
        assert all(torch.equal(without[name], plain[name]) for name in plain)
    finally:
        winograd.load.cache_clear()
