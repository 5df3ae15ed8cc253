"""Temporal filters and pooling (section 3.3); injected filters leave every output as it was, to the bit."""

import numpy as np
import pytest
import torch
from helpers.networks import TABLE_3, check_equations, randomize_filters, randomize_norms, tied, videos
from helpers.plain import UNITS
from torch import nn
from torch.nn.functional import relu

from stmn import registry
from stmn.errors import UsageError
from stmn.nets.backbones import create_backbone
from stmn.nets.build import build_network
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.network import Network
from stmn.nets.temporal import TemporalFilter, pool_time

INJECTORS = ["last_unit", "residual", "residual_every_unit", "skip", "residual_and_skip", "residual_conv2_conv5"]
#: eq. (9): the filter f along time
TAPS = {"centre": [0, 1, 0], "average": [1 / 3, 1 / 3, 1 / 3]}


def temporal(arch: str = "resnet18", **options: object) -> Network:
    return tied(arch, arch, temporal=TemporalConfig(**options))


def filters(network: nn.Module) -> dict[str, TemporalFilter]:
    return {name: module for name, module in network.named_modules() if isinstance(module, TemporalFilter)}


@pytest.mark.parametrize("row", TABLE_3, ids=" ".join)
def test_each_row_of_table_3_is_the_papers_equation(row):
    injector, init, pool = row
    network = randomize_norms(temporal(injector=injector, init=init, pool=pool)).double()
    for layer in filters(network).values():
        channels = layer.conv.in_channels
        for k, tap in enumerate(TAPS[init]):  # eq. (9): the identity between channels, times f
            expected = tap * torch.eye(channels).double()
            torch.testing.assert_close(layer.conv.weight[:, :, k, 0], expected, rtol=1e-7, atol=0)
        assert not layer.conv.bias.any()
    check_equations(network, videos(network, 3))
    network.zero_grad()
    check_equations(randomize_filters(network), videos(network, 4))


#: not in Table 3: other injectors and lengths, two injectors, windows, joint predictions, gates at every unit
OTHERS = [
    {"temporal": {"injector": "skip", "pool": "max"}},
    {"temporal": {"injector": "skip", "init": "average", "length": 5, "pool": "none"}},
    {"temporal": {"injector": "residual", "motion_injector": "skip", "pool": "average"}},
    {"temporal": {"injector": "residual_every_unit", "pool": "max"}, "gate": {"units": "every_unit"}},
    {"temporal": {"injector": "skip", "pool": "max"}, "gate": {"units": "every_unit", "direction": "both"}},
    {"temporal": {"injector": "residual_and_skip", "length": 5, "pool": "max"}},
    {"temporal": {"injector": "residual", "length": 1, "init": "average", "pool": "average"}},
    {"temporal": {"injector": "residual_conv2_conv5", "length": 7, "pool": "average", "window": 3}},
    {"temporal": {"injector": "residual", "motion_injector": "residual_conv2_conv5", "pool": "max", "window": 2}},
    {"temporal": {"injector": "none", "motion_injector": "residual_and_skip", "pool": "max"}},
    {"temporal": {"injector": "residual", "pool": "max"}, "prediction": "averaged"},
    {"temporal": {"injector": "residual", "pool": "none"}, "prediction": "concatenated"},
    {"temporal": {"injector": "last_unit", "pool": "max", "window": 3}, "prediction": "concatenated"},
]


@pytest.mark.parametrize("options", OTHERS, ids=str)
@pytest.mark.parametrize("arch", ["resnet18", "resnet26"])
def test_other_filters_poolings_and_predictions_are_too(options, arch):
    config = options | {
        "temporal": TemporalConfig(**options["temporal"]),
        "gate": GateConfig(**options.get("gate", {})),
    }
    network = randomize_filters(randomize_norms(tied(arch, arch, **config)).double())
    check_equations(network, videos(network, 4))


def test_papers_final_network_is_the_equation_at_full_depth():
    """ResNet-50 gated by ResNet-152, filters in all second units, max over time; narrow, with 3 x 4 places of 2 x 2."""
    network = tied("resnet50", "resnet152", size=64, temporal=TemporalConfig(injector="residual", pool="max"))
    check_equations(randomize_filters(randomize_norms(network).double()), videos(network.double(), 2, 96, 128))


@pytest.mark.parametrize("prediction", ["per_stream", "averaged", "concatenated"])
def test_gradient_through_filters_is_the_finite_difference(prediction):
    options = TemporalConfig(injector="residual_and_skip", pool="max", window=2)
    network = randomize_filters(randomize_norms(tied(temporal=options, prediction=prediction)).double())
    given = [frames.requires_grad_() for frames in videos(network, 3, batch=1)]
    assert torch.autograd.gradcheck(network, given, eps=1e-7, fast_mode=True)


@pytest.mark.parametrize("arch", ["resnet18", "resnet26"])
@pytest.mark.parametrize("length", [1, 3, 5, 9])
@pytest.mark.parametrize("injector", INJECTORS)
@torch.inference_mode()
def test_centre_filters_leave_every_output_bit_equal(injector, length, arch):
    plain = randomize_norms(temporal(arch, pool="none"))  # logits of every chunk
    injected = temporal(arch, injector=injector, init="centre", length=length, pool="none").eval()
    missing, unexpected = injected.load_state_dict(plain.state_dict(), strict=False)
    assert missing and all("temporal" in name for name in missing) and not unexpected
    given = videos(plain, 3, 64, 64)
    for before, after in zip(plain.logits(*given), injected.logits(*given), strict=True):
        assert torch.equal(before, after)

    for module in filters(injected).values():  # other weights do change the outputs
        module.conv.weight += 0.1
    for before, after in zip(plain(*given), injected(*given), strict=True):
        assert not torch.allclose(before, after)


@pytest.mark.parametrize("injector", INJECTORS)
@torch.inference_mode()
def test_average_filters_change_the_outputs(injector):
    plain = randomize_norms(temporal())
    injected = temporal(injector=injector, init="average").eval()
    injected.load_state_dict(plain.state_dict(), strict=False)
    given = videos(plain, 3)
    for before, after in zip(plain(*given), injected(*given), strict=True):
        assert not torch.allclose(before, after)


@pytest.mark.parametrize("length", [1, 3, 5])
def test_average_filter_is_a_moving_average(length):
    x = torch.randn(2 * 6, 4, 2, 3)  # two videos of six chunks
    got = TemporalFilter(4, length, "average")(x, 6).detach().unflatten(0, (2, 6)).numpy()
    series = x.unflatten(0, (2, 6)).numpy()
    expected = np.apply_along_axis(lambda values: np.convolve(values, np.full(length, 1 / length), "same"), 1, series)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_filter_mixes_channels_and_chunks_of_one_video():
    layer = TemporalFilter(4, 3)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 5, 4, 2, 2)  # B, T, C, H, W
    padded = torch.zeros(2, 7, 4, 2, 2)
    padded[:, 1:-1] = x
    taps = layer.conv.weight[..., 0]  # out, in, time
    expected = layer.conv.bias[:, None, None] + sum(
        torch.einsum("oc,btchw->btohw", taps[:, :, k], padded[:, k : k + 5]) for k in range(3)
    )  # eq. (8)
    torch.testing.assert_close(layer(x.flatten(0, 1), 5).unflatten(0, (2, 5)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [0, 2, -3])
def test_filter_without_a_centre_is_refused(length):
    with pytest.raises(UsageError, match=rf"must be a positive odd number, not {length}"):
        TemporalFilter(4, length)


def test_max_pooling_takes_the_maximum_over_time():
    x = torch.randn(3 * 4, 5, 2, 2)
    pooled = pool_time(x, 4, "max").squeeze(1)
    assert pooled.shape == (3, 5, 2, 2)
    for video in range(3):
        chunks = x[4 * video : 4 * video + 4]
        expected = torch.maximum(torch.maximum(chunks[0], chunks[1]), torch.maximum(chunks[2], chunks[3]))
        assert torch.equal(pooled[video], expected)  # eq. (10)
    torch.testing.assert_close(pool_time(x, 4, "average").squeeze(1), x.unflatten(0, (3, 4)).sum(dim=1) / 4)


@torch.inference_mode()
def test_max_pooling_ignores_order_and_repetition():
    rgb, flow = videos(temporal(), 3)
    order = torch.tensor([2, 0, 1, 1, 0])  # another order, and some twice
    for pool, indifferent in (("max", True), ("average", False)):
        network = randomize_norms(temporal(pool=pool))
        for before, after in zip(network(rgb, flow), network(rgb[:, order], flow[:, order]), strict=True):
            assert torch.allclose(before, after, rtol=1e-4, atol=1e-5) == indifferent


@torch.inference_mode()
def test_network_takes_any_number_of_chunks():
    network = randomize_norms(temporal(injector="residual_and_skip", init="average", pool="max"))
    for chunks in (1, 2, 5, 25):
        assert [logits.shape for logits in network(*videos(network, chunks))] == [(2, 3), (2, 3)]
    rgb, flow = videos(network, 5)
    for row in range(2):  # the chunks of two videos are never mixed
        for batch, alone in zip(network(rgb, flow), network(rgb[[row]], flow[[row]]), strict=True):
            torch.testing.assert_close(batch[[row]], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arch", ["resnet50", "resnet152"])
def test_injectors_place_filters_where_they_say(arch):
    second_units = {f"layer{number + 1}.1.temporal": 64 * 2**number for number in range(4)}
    skips = {f"skip_temporal.conv{number + 2}": 256 * 2**number for number in range(4)}
    every_unit = {
        f"layer{number + 1}.{unit}.temporal": 64 * 2**number
        for number, units in enumerate(UNITS[arch])
        for unit in range(units)
    }
    expected = {
        "none": {},
        "last_unit": {"layer4.1.temporal": 512},
        "residual": second_units,
        "residual_every_unit": every_unit,
        "skip": skips,
        "residual_and_skip": second_units | skips,
        "residual_conv2_conv5": {name: second_units[name] for name in ("layer1.1.temporal", "layer4.1.temporal")},
    }
    for injector, places in expected.items():
        with torch.device("meta"):  # shapes alone
            backbone = create_backbone(arch, in_channels=3)
            registry.load("injector", injector)(backbone, 3, "centre")
        channels = {name: module.conv.weight.shape[0] for name, module in filters(backbone).items()}
        assert channels == places


def test_motion_stream_may_have_another_injector():
    """As in the authors' code, whose names match in all parts of a ResNet-50 and in two of a ResNet-152."""
    options = TemporalConfig(injector="residual", motion_injector="residual_conv2_conv5")
    network = tied("resnet50", "resnet152", temporal=options)
    assert [len(filters(network.stream(name))) for name in network.names] == [4, 2]


@torch.inference_mode()
def test_filter_in_a_unit_follows_the_3x3_and_its_relu():
    backbone = randomize_norms(temporal("resnet26", injector="residual", init="average")).stream("appearance").backbone
    unit = backbone.parts["conv2"][1]
    x = torch.randn(2 * 3, backbone.channels["conv2"], 4, 4, generator=torch.Generator().manual_seed(1))
    middle = relu(unit.bn2(unit.conv2(relu(unit.bn1(unit.conv1(x))))))
    expected = unit.bn3(unit.conv3(unit.temporal(middle, 3)))  # Table 1, Figure 4(b)
    assert torch.equal(unit.residual(x, 3), expected)


@pytest.mark.parametrize("injector", ["skip", "residual_and_skip"])
@torch.inference_mode()
def test_filter_in_the_skip_path_is_between_two_parts(injector):
    network = randomize_norms(temporal(injector=injector, init="average"))
    backbone = network.stream("motion").backbone
    seen = []
    layer, following = backbone.skip_temporal["conv2"], backbone.parts["conv3"][0].downsample
    layer.register_forward_hook(lambda _, given, out: seen.extend((given[0], out)))
    following.register_forward_hook(lambda _, given, out: seen.append(given[0]))
    network(*videos(network, 3))
    entering, leaving, reaching = seen
    assert entering.min() == 0 and (entering > 0).any()
    assert torch.equal(leaving, reaching)  # Figure 4(a)


def test_part_of_one_unit_has_no_place_for_a_filter():
    stream = StreamConfig(modality="rgb", arch="resnet10t")
    for injector in (name for name in INJECTORS if name not in ("skip", "residual_every_unit")):
        config = NetworkConfig(
            classes=["a"], size=32, stack_length=2, streams=[stream], temporal=TemporalConfig(injector=injector)
        )
        with pytest.raises(UsageError, match="a part of one unit has no second unit"):
            build_network(config)
