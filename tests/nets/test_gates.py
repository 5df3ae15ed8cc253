"""The cross-stream connections of Table 2, each against the paper's equations written down a second time."""

from types import SimpleNamespace

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

from stmn.errors import UsageError
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig
from stmn.nets.network import TwoStream, build_network

#: the rows of Table 2: site, fusion, direction
TABLE_2 = [
    ("direct", "add", "motion_to_appearance"),  # Fig. 2(a)
    ("direct", "multiply", "motion_to_appearance"),  # Fig. 2(b)
    ("residual", "add", "motion_to_appearance"),  # Fig. 2(c)
    ("residual", "multiply", "motion_to_appearance"),  # Fig. 2(d), Fig. 3
    ("residual", "add", "appearance_to_motion"),
    ("residual", "multiply", "appearance_to_motion"),
    ("residual", "multiply", "both"),  # Fig. 2(e)
]
WIDTH = 0.125
LABELS = torch.tensor([2, 0])


def tied(appearance: str, motion: str, width: float = WIDTH, **gate: str) -> TwoStream:
    streams = [
        StreamConfig(modality="rgb", arch=appearance, width=width),
        StreamConfig(modality="flow", arch=motion, width=width),
    ]
    config = NetworkConfig(
        classes=["a", "b", "c"], size=32, stack_length=2, streams=streams, gate=GateConfig(**gate)
    )  # fmt: skip
    return build_network(config)


def shaken(network: nn.Module) -> nn.Module:
    """Every parameter and statistic random: a fresh unit ends in gain 0, behind which no gate could be seen."""
    generator = torch.Generator().manual_seed(7)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            for tensor in (module.bias, module.running_mean):
                tensor.data.copy_(torch.randn(tensor.shape, generator=generator) / 2)
    return network.double().eval()


def pictures(size: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(2, 1, planes, size, size, generator=generator).double() for planes in (3, 4))


def timms(network: TwoStream, name: str, arch: str, planes: int) -> nn.Module:
    """timm's own network with the weights of one of our streams."""
    channels = tuple(max(8, round(WIDTH * c)) for c in (64, 128, 256, 512))
    net = timm.create_model(arch, in_chans=planes, num_classes=3, channels=channels).double().eval()
    state = network.stream(name).state_dict()
    net.load_state_dict({key.removeprefix("backbone."): value for key, value in state.items()})
    return net


def branch(block: nn.Module, x: Tensor) -> Tensor:
    """F of a timm block."""
    x = relu(block.bn1(block.conv1(x)))
    if hasattr(block, "conv3"):
        return block.bn3(block.conv3(relu(block.bn2(block.conv2(x)))))
    return block.bn2(block.conv2(x))


def skip(block: nn.Module, x: Tensor) -> Tensor:
    return x if block.downsample is None else block.downsample(x)


def plainly(appearance: nn.Module, motion: nn.Module, rgb: Tensor, flow: Tensor, gate: GateConfig) -> list[Tensor]:
    """Eqs. (1), (2) and (5) on timm's blocks. `pre` is x_l, and f(x_l) = `post` is what the next unit is given."""

    def fuse(receiving: Tensor, sending: Tensor) -> Tensor:
        return receiving + sending if gate.fusion == "add" else receiving * sending

    def unit(block: nn.Module, own: SimpleNamespace, other: SimpleNamespace, gated: bool) -> SimpleNamespace:
        if not gated:
            pre = skip(block, own.post) + branch(block, own.post)  # eq. (1)
        elif gate.site == "residual":
            receiving = own.pre if gate.operand == "pre_relu" else own.post
            pre = own.post + branch(block, fuse(receiving, other.post))  # eqs. (2), (5)
        else:
            fused = fuse(own.post, other.post)
            pre = fused + branch(block, fused)
        return SimpleNamespace(pre=pre, post=relu(pre))

    def stem(net: nn.Module, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(post=net.maxpool(relu(net.bn1(net.conv1(x[:, 0])))))

    a, m = stem(appearance, rgb), stem(motion, flow)
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        blocks_a, blocks_m = getattr(appearance, stage), getattr(motion, stage)
        for index in range(max(len(blocks_a), len(blocks_m))):
            both = index < min(len(blocks_a), len(blocks_m))
            gated = both and (index == 1 or (index > 0 and gate.units == "every_unit"))
            old_a, old_m = a, m
            if index < len(blocks_a):
                a = unit(blocks_a[index], old_a, old_m, gated and gate.direction != "appearance_to_motion")
            if index < len(blocks_m):
                m = unit(blocks_m[index], old_m, old_a, gated and gate.direction != "motion_to_appearance")
    # the mean over windows of the training map (1 x 1 for 32 pixels) is the mean over places
    return [net.fc(x.post.mean(dim=(2, 3))) for net, x in ((appearance, a), (motion, m))]


def compare(pair: tuple[str, str], gate: GateConfig) -> None:
    """Same scores, and the same gradient in every parameter of both streams."""
    network = shaken(tied(*pair, **gate.model_dump()))
    theirs = [
        timms(network, name, arch, planes)
        for name, arch, planes in zip(network.names, pair, (3, 4), strict=True)
    ]  # fmt: skip
    ours, plain = network(*pictures()), plainly(*theirs, *pictures(), gate)
    for got, expected in zip(ours, plain, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    for scores in (ours, plain):
        sum(cross_entropy(score, LABELS) for score in scores).backward()
    for name, net in zip(network.names, theirs, strict=True):
        expected = {key: parameter.grad for key, parameter in net.named_parameters()}
        for key, parameter in network.stream(name).named_parameters():
            torch.testing.assert_close(parameter.grad, expected[key.removeprefix("backbone.")], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("pair", [("resnet18", "resnet34"), ("resnet26", "resnet26")], ids="-".join)
@pytest.mark.parametrize("connection", TABLE_2, ids=" ".join)
def test_each_connection_of_table_2_is_the_papers_equation(connection, pair):
    site, fusion, direction = connection
    compare(pair, GateConfig(site=site, fusion=fusion, direction=direction))


@pytest.mark.parametrize("gate", [{"operand": "post_relu"}, {"units": "every_unit"}], ids=str)
def test_the_other_operand_and_gates_in_every_unit(gate):
    compare(("resnet34", "resnet34"), GateConfig(**gate))


def test_the_defaults_are_the_papers_best_a_gate_in_the_second_unit_of_each_stage():
    assert GateConfig() == GateConfig(
        site="residual", fusion="multiply", direction="motion_to_appearance", units="second_unit", operand="pre_relu"
    )
    network = tied("resnet18", "resnet34")
    assert sorted(network.gates) == [f"appearance_conv{stage}_unit2" for stage in (2, 3, 4, 5)]
    assert not list(network.gates.parameters())  # no scale, no normalisation: the product alone


def test_motion_does_not_depend_on_appearance_but_learns_from_its_loss():
    network = shaken(tied("resnet18", "resnet18"))
    rgb, flow = pictures()
    appearance, motion = network(rgb, flow)
    other_appearance, other_motion = network(-rgb, flow)
    assert torch.equal(motion, other_motion)
    assert not torch.allclose(appearance, other_appearance)
    cross_entropy(appearance, LABELS).backward()
    conv1 = network.stream("motion").backbone.conv1.weight.grad
    assert conv1.abs().max() > 0  # eq. (7)
    assert network.stream("motion").fc.weight.grad is None  # each stream has its own classifier


def gated_unit() -> tuple[TwoStream, nn.Module]:
    """A network and the second unit of its conv3_x, which is gated."""
    network = shaken(tied("resnet18", "resnet18"))
    return network, network.stream("appearance").backbone.stages[1][1]


def operands() -> tuple[Tensor, Tensor]:
    """x_a and x_m, sums before the ReLU of either sign: (2, 16, 4, 4)."""
    generator = torch.Generator().manual_seed(4)
    return tuple(torch.randn(2, 16, 4, 4, generator=generator).double().requires_grad_() for _ in range(2))


def test_the_gradient_of_a_gated_unit_factors_as_in_equations_6_and_7():
    network, unit = gated_unit()
    x_a, x_m = operands()
    out = network.unit("appearance", 1, 1, unit, relu(x_a), x_a, relu(x_m), chunks=1)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(5)).double()  # dL/dx_hat
    got_a, got_m = torch.autograd.grad(out, (x_a, x_m), upstream)

    with torch.no_grad():
        gate = x_a * relu(x_m)
        _, pull_back = torch.func.vjp(lambda z: branch(unit, z), gate)
        (through_residual,) = pull_back(upstream)  # dL/dx_hat dF/dgate
        step_a, step_m = (x_a > 0).double(), (x_m > 0).double()  # f' of the ReLU
        expected_a = upstream * step_a + through_residual * relu(x_m)  # eq. (6): scaled by the motion signal
        expected_m = through_residual * x_a * step_m  # eq. (7), second term: scaled by the appearance signal
    torch.testing.assert_close(got_a, expected_a, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got_m, expected_m, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_a_gated_unit_is_that_of_finite_differences():
    network, unit = gated_unit()

    def gated(x_a: Tensor, x_m: Tensor) -> Tensor:
        return network.unit("appearance", 1, 1, unit, relu(x_a), x_a, relu(x_m), chunks=1)

    assert torch.autograd.gradcheck(gated, operands(), fast_mode=True)


def test_streams_of_unequal_channels_are_refused_in_one_line():
    with pytest.raises(UsageError, match=r"resnet18 and resnet50 can't be tied: .*\[64, 128, 256, 512\]") as error:
        tied("resnet18", "resnet50", width=1.0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("units", ["second_unit", "every_unit"])
def test_streams_whose_stages_have_a_single_unit_are_refused(units):
    with pytest.raises(UsageError, match=r"resnet10t.*a stage of one unit"):
        tied("resnet10t", "resnet18", width=1.0, units=units)


def test_two_tied_streams_need_a_gate_and_one_of_each_kind():
    rgb = StreamConfig(modality="rgb", arch="resnet18", width=WIDTH)
    for streams, gate in (([rgb, rgb], GateConfig()), ([rgb, rgb.model_copy(update={"modality": "flow"})], None)):
        with pytest.raises(UsageError, match="an appearance and a motion stream"):
            build_network(NetworkConfig(classes=["a"], size=32, stack_length=2, streams=streams, gate=gate))


def test_the_papers_final_pair_resnet50_and_resnet152_builds():
    with torch.device("meta"):  # shapes alone: 85 million weights need no memory here
        network = tied("resnet50", "resnet152", width=1.0)
    rgb, flow = torch.zeros(1, 5, 3, 224, 224, device="meta"), torch.zeros(1, 5, 4, 224, 224, device="meta")
    assert [scores.shape for scores in network(rgb, flow)] == [(1, 3), (1, 3)]
    assert [len(units) for units in network.stream("motion").backbone.stages] == [3, 8, 36, 3]
    assert len(network.gates) == 4
