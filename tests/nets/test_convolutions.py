"""Faster convolutions: the same function and the same gradients as PyTorch's, except for rounding."""

import copy

import pytest
import torch
from helpers.networks import randomize_norms, tied, videos
from torch import Tensor, nn

from stmn.nets.build import build_network
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.fast import winograd
from stmn.nets.fast.convolutions import Conv3x3, FastConv2d, StemConv, TemporalConv, use_fast_convolutions
from stmn.runtime.device import choose_device
from stmn.training.learner import Learner, softmax_loss

CPU = choose_device("cpu")


def make_fast(conv: nn.Conv2d) -> nn.Conv2d:
    """A copy that is computed faster, if it gains from it."""
    conv = copy.deepcopy(conv)
    use_fast_convolutions(conv)
    return conv


def frozen(conv: nn.Conv2d, relu: bool = False) -> Conv3x3:
    """A copy for testing."""
    conv = make_fast(conv).requires_grad_(False)
    assert isinstance(conv, Conv3x3)
    conv.freeze(relu)
    return conv


def trained(conv: nn.Conv2d, x: Tensor) -> list[Tensor]:
    """The output, and the gradients of the parameters and of the input, of a loss that sees each place apart."""
    conv, x = copy.deepcopy(conv), x.clone()
    stem = conv.kernel_size == (7, 7)
    x.requires_grad_(not stem)
    y = conv(x)
    torch.manual_seed(1)
    (y * torch.randn(y.shape)).sum().backward()
    biases = [] if conv.bias is None else [conv.bias.grad]
    return [y.detach(), conv.weight.grad, *biases] + ([] if stem else [x.grad])


def check_gradients(conv: nn.Conv2d, kind: type[FastConv2d], x: Tensor, tolerance: float) -> None:
    """Compare with float64: output and gradients differ by at most a fraction of their largest entry."""
    expected = trained(copy.deepcopy(conv).double(), x.double())
    fast = make_fast(conv)
    assert type(fast) is kind
    for found, wanted in zip(trained(fast, x), expected, strict=True):
        assert float((found - wanted).abs().max()) < tolerance * float(wanted.abs().max())


@pytest.mark.parametrize("size", [(4, 4), (16, 24), (7, 30), (13, 12), (3, 2)])
@pytest.mark.parametrize(("channels", "out"), [(8, 16), (64, 8)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_3x3_convolution_and_its_gradients(size, channels, out, stride, layout):
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False).to(memory_format=layout)
    x = torch.randn(40, channels, *size).contiguous(memory_format=layout)
    check_gradients(conv, Conv3x3, x, 3e-5)


@pytest.mark.parametrize("size", [(32, 32), (33, 46), (64, 31)])
@pytest.mark.parametrize("channels", [8, 20])
def test_gradient_of_a_stem(size, channels):
    """7x7 of stride 2 on the channels of a motion stream, with even and odd sides."""
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, 16, 7, stride=2, padding=3, bias=False)
    check_gradients(conv, StemConv, torch.randn(6, channels, *size), 3e-5)


@pytest.mark.parametrize("length", [3, 5])
@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_gradients_of_a_temporal_filter(length, chunks):
    """Along time, also with fewer chunks than the filter spans."""
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 10, (length, 1), padding=(length // 2, 0))
    check_gradients(conv, TemporalConv, torch.randn(3, 6, chunks, 12), 3e-6)


OTHERS = {
    "a filter that shortens": nn.Conv2d(16, 16, (3, 1)),
    "a filter of one chunk": nn.Conv2d(16, 16, (1, 1)),
    "1x1": nn.Conv2d(16, 16, 1),
    "stride": nn.Conv2d(16, 16, 3, 3, 1),
    "no padding": nn.Conv2d(16, 16, 3),
    "padding that is not zero": nn.Conv2d(16, 16, 3, 1, 1, padding_mode="reflect"),
    "dilation": nn.Conv2d(16, 16, 3, 1, 1, dilation=2),
    "groups": nn.Conv2d(16, 16, 3, 1, 1, groups=4),
    "other sizes": nn.Conv2d(16, 16, 5, 1, 1),
    "channels not in eights": nn.Conv2d(12, 16, 3, 1, 1),
    "float64": nn.Conv2d(16, 16, 3, 1, 1).double(),
    "bfloat16": nn.Conv2d(16, 16, 3, 1, 1).bfloat16(),
    "an RGB stem": nn.Conv2d(3, 16, 7, 2, 3, bias=False),
    "a stem with a bias": nn.Conv2d(16, 16, 7, 2, 3),
    "transposed": nn.ConvTranspose2d(16, 16, 3, 1, 1),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_convolutions_stay_as_they_are(name):
    assert type(make_fast(OTHERS[name])) is type(OTHERS[name])


def test_subclasses_stay_as_they_are():
    """A plugin's convolution may compute anything."""

    class Plugin(nn.Conv2d):
        pass

    assert type(make_fast(Plugin(16, 16, 3, 1, 1))) is Plugin


def test_without_a_gradient_results_are_pytorchs_to_the_bit():
    for conv in (nn.Conv2d(16, 16, 3, 1, 1, bias=False), nn.Conv2d(16, 16, (3, 1), padding=(1, 0)),
                 nn.Conv2d(16, 16, 7, 2, 3, bias=False)):  # fmt: skip
        fast, x = make_fast(conv), torch.randn(4, 16, 32, 32)
        with torch.no_grad():
            assert isinstance(fast, FastConv2d) and torch.equal(fast(x), conv(x))


@pytest.mark.parametrize("conv", [
    nn.Conv2d(16, 16, 3, 1, 1),  # its bias would get no gradient
    nn.Conv2d(16, 16, 7, 2, 3, bias=False),  # nor would its input
])  # fmt: skip
def test_gradients_that_are_not_faster_are_pytorchs(conv):
    x = torch.randn(4, 16, 32, 32)
    gradients = []
    for module in (conv, make_fast(conv)):
        given = x.clone().requires_grad_()
        module(given).square().sum().backward()
        gradients.append([given.grad, *(parameter.grad for parameter in module.parameters())])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_names_parameters_and_state_stay():
    network = tied("resnet26", "resnet26", temporal=TemporalConfig(injector="residual_and_skip"))
    before = dict(network.named_parameters()), network.state_dict()
    use_fast_convolutions(network)
    assert sum(isinstance(module, FastConv2d) for module in network.modules()) == 2 * (8 + 8)
    assert all(parameter is before[0][name] for name, parameter in network.named_parameters())
    assert network.state_dict().keys() == before[1].keys()
    network.load_state_dict(before[1])


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore::torch.jit.TracerWarning")
def test_compiled_exported_and_traced_networks_use_pytorchs():
    network = randomize_norms(tied(width=0.25))
    given = tuple(videos(network, 2, 64, 64))
    expected = network(*given)
    use_fast_convolutions(network)
    torch.compiler.reset()
    compiled = torch.compile(network, backend="eager", fullgraph=True)(*given)
    exported = torch.export.export(network, given).module()(*given)
    traced = torch.jit.trace(network, given)(*given)
    for outputs in (compiled, exported, traced):
        assert all(torch.equal(*pair) for pair in zip(outputs, expected, strict=True))


# Frozen for testing


@pytest.mark.parametrize("size", [(4, 4), (5, 9), (16, 24), (7, 30), (2, 3), (1, 1)])
@pytest.mark.parametrize(("channels", "out"), [(8, 16), (64, 8)])
@pytest.mark.parametrize("stride", [1, 2])
def test_frozen_convolution_is_the_convolution(size, channels, out, stride):
    """On maps of any size: tiles overlap the edge, and small maps are convolved directly."""
    assert winograd.problem() is None
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, out, 3, stride=stride, padding=1)
    x = torch.randn(40, channels, *size)
    expected = copy.deepcopy(conv).double()(x.double())
    for relu in (False, True):
        found = frozen(conv, relu)(x)
        torch.testing.assert_close(found.double(), expected.relu() if relu else expected, rtol=1e-4, atol=1e-4)


def test_buffers_work_in_and_out_of_inference_mode():
    """Buffers are kept between calls, and tensors made in inference mode are marked."""
    conv = frozen(nn.Conv2d(16, 16, 3, padding=1))
    x = torch.randn(64, 16, 48, 48)
    with torch.inference_mode():
        inside = conv(x)
    assert torch.equal(conv(x), inside)


def test_frozen_convolution_keeps_nan():
    """A ReLU that turned NaN into 0 would hide a broken network."""
    x = torch.zeros(8, 8, 16, 16)
    x[3] = torch.nan
    found = frozen(nn.Conv2d(8, 8, 3, padding=1), relu=True)(x)
    assert found[3].isnan().all() and found[[0, 1, 2, 4, 5, 6, 7]].isfinite().all()


# In training


def step(fast: bool) -> dict[str, Tensor]:
    """The gradients that one micro-batch gives a fused pair: as in training, or by the network and the losses alone."""
    config = NetworkConfig(
        classes=["a", "b", "c"], size=64, stack_length=4,
        streams=[StreamConfig(modality=m, arch="resnet18", width=0.25, dropout=0) for m in ("rgb", "flow")],
        gate=GateConfig(), temporal=TemporalConfig(injector="residual", pool="max"),
    )  # fmt: skip
    network = CPU.place(build_network(config)).train()
    torch.manual_seed(0)
    given, label = [torch.randn(2, 4, channels, 64, 64) for channels in (3, 8)], torch.tensor([0, 2])
    loss = Learner(network, CPU)(given, label)[0] if fast else softmax_loss(network.logits(*given), label)
    loss.backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def test_training_step_has_the_same_gradient():
    expected, found = step(fast=False), step(fast=True)
    apart = torch.nn.utils.get_total_norm([found[name] - expected[name] for name in expected])
    assert 0 < apart < 1e-3 * torch.nn.utils.get_total_norm(expected.values())


def test_repeated_step_has_the_same_bits():
    """Buffers are used again, and nothing of what they held is left."""
    first, second = step(fast=True), step(fast=True)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_without_compiler_training_keeps_pytorchs(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", str(tmp_path / "no-compiler"))
    winograd.load_kernel.cache_clear()
    try:
        without, plain = step(fast=True), step(fast=False)
        assert all(torch.equal(without[name], plain[name]) for name in plain)
    finally:
        winograd.load_kernel.cache_clear()
