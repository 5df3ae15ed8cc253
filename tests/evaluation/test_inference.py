"""Fast inference: folded networks, Winograd convolutions, passes split in time, and logits that are NaN."""

import copy

import pytest
import torch
from helpers.commands import call, errors_of
from helpers.networks import TABLE_2, shaken, tied, videos
from helpers.networks import trained as as_trained
from torch import Tensor, nn

from stmn.errors import DataError
from stmn.evaluation.inference import VideoInput, compute_logits, score_videos
from stmn.evaluation.passes import compute_last_maps, split_in_time, temporal_reach
from stmn.evaluation.protocol import Protocol
from stmn.nets.build import build_network
from stmn.nets.checkpoint import load_checkpoint, save_checkpoint
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.fast import winograd
from stmn.nets.fast.folding import folded, with_winograd
from stmn.nets.fast.winograd import WinogradConv2d
from stmn.nets.network import Network
from stmn.runtime.device import choose_device
from stmn.runtime.progress import Silent
from stmn.store.format.read import Store

CPU = choose_device("cpu")
SIZE = (64, 96)


def network(appearance: str = "resnet18", motion: str = "resnet18", **config: object) -> Network:
    """Two tied streams of a quarter of the width, without identities and with small gate products."""
    net = as_trained(shaken(tied(appearance, motion, width=0.25, **config)))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.mul_(0.3)
            module.bias.data.mul_(0.3)
    return net


def alone(arch: str, **stream: object) -> Network:
    config = NetworkConfig(
        classes=["a", "b", "c"], size=32, stack_length=2,
        streams=[StreamConfig(modality="flow", arch=arch, width=0.25, **stream)],
        temporal=TemporalConfig(injector="residual"),
    )  # fmt: skip
    return as_trained(shaken(build_network(config)))


def assert_same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float = 1e-4) -> None:
    """Equal up to a fraction of the largest logit, for each output."""
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert theirs.isfinite().all() and theirs.std() > 0
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * float(theirs.abs().max()))


GATES = [
    *(GateConfig(site=site, fusion=fusion, direction=direction) for site, fusion, direction in TABLE_2),
    GateConfig(operand="post_relu"), GateConfig(units="every_unit"), GateConfig(units="every_unit", direction="both"),
]  # fmt: skip
VARIANTS = {
    **{str(number): lambda gate=gate: network(gate=gate) for number, gate in enumerate(GATES)},
    **{
        injector: lambda injector=injector: network(temporal=TemporalConfig(injector=injector, pool="max"))
        for injector in ("last_unit", "residual", "residual_and_skip")
    },
    "every unit of both, filters everywhere": lambda: network(
        gate=GateConfig(units="every_unit", direction="both"), temporal=TemporalConfig(injector="residual_and_skip")
    ),
    "bottlenecks": lambda: network("resnet26", "resnet26"),
    "of other depths": lambda: network("resnet18", "resnet34"),
    "one classifier": lambda: network(prediction="concatenated"),
    "deep stem": lambda: alone("resnet26d"),
    "anti-aliased": lambda: alone("resnetaa50"),
    "squeeze and excitation": lambda: alone("seresnet18"),
    "caffe": lambda: alone("resnet50", layout="caffe"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_inference_network_gives_same_logits(name):
    """Up to 1e-4 of the largest logit, for any variant. The original network does not change."""
    net = VARIANTS[name]()
    before = copy.deepcopy(net.state_dict())
    given = videos(net, 4, *SIZE)
    with torch.inference_mode():
        expected = net(*given)
        ready = folded(net)
        assert_same(ready(*given), expected)
        assert_same(with_winograd(ready)(*given), expected)
        assert_same(net(*given), expected, 0)
    assert not any(type(module) is nn.BatchNorm2d for module in ready.modules())
    assert any(isinstance(module, WinogradConv2d) for module in ready.modules()) == (winograd.problem() is None)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    sum(scores.sum() for scores in net.train()(*given)).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_buffers_work_in_and_out_of_inference_mode():
    """Buffers are kept between calls, and tensors made in inference mode are marked."""
    conv = WinogradConv2d(nn.Conv2d(16, 16, 3, padding=1).requires_grad_(False))
    x = torch.randn(64, 16, 48, 48)
    with torch.inference_mode():
        inside = conv(x)
    assert torch.equal(conv(x), inside)


@pytest.mark.parametrize("size", [(4, 4), (5, 9), (16, 24), (7, 30), (2, 3), (1, 1)])
@pytest.mark.parametrize(("channels", "out"), [(8, 16), (64, 8)])
def test_winograd_equals_direct_convolution(size, channels, out):
    """On maps of any size: tiles overlap the edge, and small maps are convolved directly."""
    assert winograd.problem() is None
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, out, 3, padding=1).requires_grad_(False)
    x = torch.randn(40, channels, *size)
    expected = copy.deepcopy(conv).double()(x.double())
    for relu in (False, True):
        found = WinogradConv2d(conv, relu)(x)
        torch.testing.assert_close(found.double(), expected.relu() if relu else expected, rtol=1e-4, atol=1e-4)


def test_winograd_keeps_nan():
    """A ReLU that turned NaN into 0 would hide a broken network."""
    x = torch.zeros(8, 8, 16, 16)
    x[3] = torch.nan
    found = WinogradConv2d(nn.Conv2d(8, 8, 3, padding=1).requires_grad_(False), relu=True)(x)
    assert found[3].isnan().all() and found[[0, 1, 2, 4, 5, 6, 7]].isfinite().all()


def test_network_is_only_folded_without_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", str(tmp_path / "no-compiler"))
    winograd.load.cache_clear()
    try:
        assert "no C compiler" in winograd.problem()
        net = network()
        ready = with_winograd(folded(net))
        assert not any(isinstance(module, WinogradConv2d) for module in ready.modules())
        given = videos(net, 2, *SIZE)
        with torch.inference_mode():
            assert_same(ready(*given), net(*given))
    finally:
        winograd.load.cache_clear()


# Split in time


def pictures(chunks: int, height: int = 40, width: int = 56) -> VideoInput:
    """Levels of a video: a frame and two fields per chunk."""
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (chunks, 3, height, width), generator=generator, dtype=torch.uint8)
    fields = torch.randint(0, 256, (2 * chunks, 2, height, width), generator=generator, dtype=torch.uint8)
    return VideoInput(frames, fields, torch.arange(2 * chunks).unflatten(0, (chunks, 2)))


POOLINGS = [
    {"pool": "max"}, {"pool": "average"}, {"pool": "none"}, {"pool": "max", "window": 5}, {"pool": "average", "window": 3},
    {"pool": "max", "window": 40},
]  # fmt: skip


@pytest.mark.parametrize("injector", ["none", "last_unit", "residual", "residual_and_skip"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_video_split_in_time_gets_same_logits(injector, pooling):
    """In passes of one chunk with its margins, and in larger ones."""
    temporal = TemporalConfig(injector=injector, **pooling)
    net = as_trained(shaken(tied(temporal=temporal, gate=GateConfig(direction="both"))))
    video = pictures(11)
    protocol = Protocol(short_side=40, crop=32, flips=False)
    whole = compute_logits(net, [video, video], protocol, CPU, max_pixels=2**30)
    for largest in (1, 2 * 40 * 56 * 8):
        assert_same(compute_logits(net, [video, video], protocol, CPU, largest), whole, 1e-5)


@pytest.mark.parametrize(("temporal", "chunks"), [
    ({"injector": "none"}, 0), ({"injector": "last_unit"}, 1), ({"injector": "residual"}, 4),
    ({"injector": "residual_and_skip"}, 8), ({"injector": "residual", "length": 5}, 8),
    ({"injector": "none", "motion_injector": "residual"}, 4),
])  # fmt: skip
def test_temporal_reach_is_exact(temporal, chunks):
    """A change of one chunk shows `chunks` away and no further."""
    net = network(temporal=TemporalConfig(**temporal)).double()
    assert temporal_reach(net) == chunks
    rgb, flow = videos(net, 20, 32, 32, batch=1)
    other = [rgb.clone(), flow.clone()]
    for tensor in other:
        tensor[:, 10] += 1
    with torch.inference_mode():
        maps, changed = net.feature_maps(rgb, flow), net.feature_maps(*other)
    seen = {t for a, b in zip(maps, changed, strict=True) for t in range(20) if not torch.equal(a[t], b[t])}
    assert seen == set(range(10 - chunks, 10 + chunks + 1))


class AnyTime(nn.Module):
    """A plugin's filter that sees all chunks."""

    def forward(self, x: Tensor, chunks: int) -> Tensor:
        return x + x.unflatten(0, (-1, chunks)).mean(dim=1, keepdim=True).expand(-1, chunks, -1, -1, -1).flatten(0, 1)


def test_filter_of_unknown_reach_is_never_split():
    net = network()
    net.stream("motion").backbone.parts["conv3"][0].temporal = AnyTime()
    assert temporal_reach(net) is None
    video, protocol = pictures(9), Protocol(short_side=40, crop=32)
    whole, tiny = (compute_logits(net, [video], protocol, CPU, largest) for largest in (2**30, 1))
    assert_same(tiny, whole, 0)


def test_passes_stay_within_their_limit():
    assert [(p.first, p.last, p.kept) for p in split_in_time(10, 4, 0)] == [
        (0, 4, slice(0, 4)), (4, 8, slice(0, 4)), (8, 10, slice(0, 2))
    ]  # fmt: skip
    assert [(p.first, p.last, p.kept) for p in split_in_time(6, 4, 1)] == [
        (0, 3, slice(0, 2)), (1, 5, slice(1, 3)), (3, 6, slice(1, 3))
    ]  # fmt: skip
    net, sizes = network(), []

    def inputs(first: int, last: int) -> list[Tensor]:
        sizes.append(last - first)
        return [tensor[:, first:last] for tensor in videos(net, 50)]

    with torch.inference_mode():
        maps = compute_last_maps(net, inputs, 50, 8)
    assert max(sizes) == 8 and sum(sizes) == 50
    assert [len(m) for m in maps] == [100, 100]


# NaN


def test_nan_logits_end_in_one_line(own):
    path = own.find_input("motion", "model").path
    net, description = load_checkpoint(path)
    net.stream("motion").fc.bias.data[1] = torch.nan
    save_checkpoint(path, net, description)
    result = call("evaluate", "--model", "motion", "-w", own.root, "--force")
    assert result.exit_code != 0
    assert len(errors_of(result)) == 1
    assert (
        "motion scores are NaN or infinite" in errors_of(result)[0] and "test an earlier model" in errors_of(result)[0]
    )


def test_no_videos_end_in_one_line(own):
    store = Store(own.data_dir("synthetic"))
    with pytest.raises(DataError, match="no videos to score"):
        score_videos(network(), store, [], Protocol(short_side=32, crop=32), CPU, Silent())
