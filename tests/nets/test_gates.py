"""The connections of Table 2, compared with a second implementation of the paper's equations (helpers/plain.py)."""

from itertools import product

import pytest
import torch
from helpers.networks import TABLE_2, check_equations, randomize_filters, randomize_norms, tied, videos
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

from stmn.errors import UsageError
from stmn.nets.build import build_network
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.two_stream import TwoStream
from stmn.nets.units import Activation

LABELS = torch.tensor([2, 0])


def connected(site: str, fusion: str, direction: str, **gate: str) -> GateConfig:
    return GateConfig(site=site, fusion=fusion, direction=direction, **gate)


@pytest.mark.parametrize("pair", [("resnet18", "resnet34"), ("resnet26", "resnet26")], ids="-".join)
@pytest.mark.parametrize("connection", TABLE_2, ids=" ".join)
def test_each_row_of_table_2_is_the_papers_equation(connection, pair):
    network = randomize_filters(randomize_norms(tied(*pair, gate=connected(*connection))).double())
    check_equations(network, videos(network, 1))


#: all switches, not only the rows of Table 2
SWITCHES = product(
    ["direct", "residual"], ["add", "multiply"], ["motion_to_appearance", "appearance_to_motion", "both"],
    ["second_unit", "every_unit"], ["pre_relu", "post_relu"],
)  # fmt: skip


@pytest.mark.parametrize("switches", [s for s in SWITCHES if s[0] == "residual" or s[4] == "pre_relu"], ids=" ".join)
def test_every_combination_of_switches_is_the_equation(switches):
    site, fusion, direction, units, operand = switches
    network = randomize_norms(tied(gate=connected(site, fusion, direction, units=units, operand=operand))).double()
    check_equations(network, videos(network, 1))


def test_gate_at_a_first_unit_reads_the_part_before():
    """The sum of the last unit, or with filters in the skip path the filter's output."""
    for injector in ("residual", "residual_and_skip"):
        temporal = TemporalConfig(injector=injector)
        network = tied("resnet18", "resnet34", gate=GateConfig(units="every_unit"), temporal=temporal)
        network = randomize_filters(randomize_norms(network).double())
        check_equations(network, videos(network, 2))


@pytest.mark.parametrize("connection", TABLE_2, ids=" ".join)
def test_equations_hold_with_batch_statistics(connection):
    network = randomize_filters(randomize_norms(tied(gate=connected(*connection))).double()).train()
    check_equations(network, videos(network, 3))


def test_defaults_gate_the_second_unit_of_each_part():
    assert GateConfig() == GateConfig(
        site="residual", fusion="multiply", direction="motion_to_appearance", units="second_unit", operand="pre_relu"
    )
    network = tied("resnet18", "resnet34")
    assert sorted(network.gates) == [f"appearance_conv{part}_unit2" for part in (2, 3, 4, 5)]
    assert not list(network.gates.parameters())  # only the product: no scale, no normalisation


def test_units_that_exist_in_both_streams_are_gated():
    network = tied("resnet50", "resnet152", gate=GateConfig(units="every_unit", direction="both"))
    expected = [(part, unit) for part, units in zip((2, 3, 4, 5), (3, 4, 6, 3), strict=True) for unit in range(units)]
    for name in ("appearance", "motion"):
        gates = {f"{name}_conv{part}_unit{unit + 1}" for part, unit in expected}
        assert {gate for gate in network.gates if gate.startswith(name)} == gates


def test_motion_ignores_appearance_but_learns_from_its_loss():
    network = randomize_norms(tied())
    rgb, flow = videos(network, 1)
    appearance, motion = network(rgb, flow)
    other_appearance, other_motion = network(-rgb, flow)
    assert torch.equal(motion, other_motion)
    assert not torch.allclose(appearance, other_appearance)
    cross_entropy(appearance, LABELS).backward()
    conv1 = network.stream("motion").backbone.conv1.weight.grad
    assert conv1.abs().max() > 0  # eq. (7)
    assert network.stream("motion").fc.weight.grad is None  # each stream has its own classifier


def gated_unit(gate: GateConfig) -> tuple[TwoStream, nn.Module]:
    """A network, and the second unit of conv3 of the stream that receives, which is gated."""
    network = randomize_norms(tied(gate=gate)).double()
    unit = network.stream(network.receivers[0]).backbone.parts["conv3"][1]
    unit.keep_sum()
    return network, unit


def through_gate(network: TwoStream, x_a: Tensor, x_m: Tensor) -> Tensor:
    """The sum before the ReLU that the receiving stream has after that unit; `x_a` is the receiving stream's."""
    signals = [Activation(x_a, relu(x_a)), Activation(x_m, relu(x_m))]
    receives_first = network.receivers[0] == "appearance"
    after = network.step("conv3", 1, *(signals if receives_first else signals[::-1]), chunks=1)
    return after[0 if receives_first else 1].pre


def operands() -> tuple[Tensor, Tensor]:
    """x of the receiving and of the sending stream, (2, 16, 4, 4) each: sums before the ReLU, of either sign."""
    generator = torch.Generator().manual_seed(4)
    return tuple(torch.randn(2, 16, 4, 4, generator=generator).double().requires_grad_() for _ in range(2))


def through_branch(unit: nn.Module, fused: Tensor, upstream: Tensor) -> Tensor:
    """dL/dx_hat dF/d(fused) by hand, back through BN, 3 x 3, ReLU, BN, 3 x 3 of a basic unit in test mode."""

    def slope(bn: nn.BatchNorm2d) -> Tensor:
        return (bn.weight / torch.sqrt(bn.running_var + bn.eps))[:, None, None]

    inner = unit.bn1(unit.conv1(fused))
    back = nn.functional.conv_transpose2d(upstream * slope(unit.bn2), unit.conv2.weight, padding=1)
    return nn.functional.conv_transpose2d(back * (inner > 0) * slope(unit.bn1), unit.conv1.weight, padding=1)


@pytest.mark.parametrize("operand", ["pre_relu", "post_relu"])
@pytest.mark.parametrize("direction", ["motion_to_appearance", "appearance_to_motion"])
@pytest.mark.parametrize("fusion", ["add", "multiply"])
def test_gated_units_gradient_is_equations_3_4_6_and_7(fusion, direction, operand):
    network, unit = gated_unit(connected("residual", fusion, direction, operand=operand))
    x_a, x_m = operands()  # of the stream that receives, and that sends
    out = through_gate(network, x_a, x_m)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(5)).double()  # dL/dx_hat
    got_a, got_m = torch.autograd.grad(out, (x_a, x_m), upstream)

    with torch.no_grad():
        step_a, step_m = (x_a > 0).double(), (x_m > 0).double()  # f' of the ReLU
        own, own_step = (x_a, 1.0) if operand == "pre_relu" else (relu(x_a), step_a)
        if fusion == "multiply":
            back = through_branch(unit, own * relu(x_m), upstream)
            expected_a = upstream * step_a + back * relu(x_m) * own_step  # eq. (6): scaled by the motion signal
            expected_m = back * own * step_m  # eq. (7), second term: scaled by the appearance signal
        else:
            back = through_branch(unit, own + relu(x_m), upstream)
            expected_a = upstream * step_a + back * own_step  # eq. (3)
            expected_m = back * step_m  # eq. (4), second term
    torch.testing.assert_close(got_a, expected_a, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got_m, expected_m, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("connection", TABLE_2, ids=" ".join)
def test_gated_units_gradient_is_the_finite_difference(connection):
    network, _ = gated_unit(connected(*connection))
    assert torch.autograd.gradcheck(lambda x_a, x_m: through_gate(network, x_a, x_m), operands(), fast_mode=True)


@pytest.mark.parametrize("connection", TABLE_2, ids=" ".join)
def test_networks_gradient_is_the_finite_difference(connection):
    network = randomize_norms(tied(gate=connected(*connection))).double()
    given = [frames.requires_grad_() for frames in videos(network, 1, batch=1)]
    assert torch.autograd.gradcheck(network, given, eps=1e-7, fast_mode=True)


def test_streams_of_unequal_channels_are_refused():
    with pytest.raises(UsageError, match=r"resnet18 and resnet50 can't be tied: .*\[64, 128, 256, 512\]") as error:
        tied("resnet18", "resnet50", width=1.0)
    assert "\n" not in str(error.value)


def test_parts_of_one_unit_need_every_unit_gated():
    with pytest.raises(UsageError, match=r"resnet10t.*a part of one unit"):
        tied("resnet10t", "resnet18", width=1.0)
    assert len(tied("resnet10t", "resnet18", width=1.0, gate=GateConfig(units="every_unit")).gates) == 4


def test_stems_of_unequal_channels_cannot_be_gated():
    assert len(tied("resnet50", "resnet50s").gates) == 4
    with pytest.raises(UsageError, match=r"at every unit: their stems give 64 and 128 channels; gate the second units"):
        tied("resnet50", "resnet50s", gate=GateConfig(units="every_unit"))


def test_two_streams_need_a_gate_and_one_of_each_kind():
    rgb = StreamConfig(modality="rgb", arch="resnet18", width=0.125)
    for streams, gate in (([rgb, rgb], GateConfig()), ([rgb, rgb.model_copy(update={"modality": "flow"})], None)):
        with pytest.raises(UsageError, match="an appearance stream, a motion stream and a gate"):
            build_network(NetworkConfig(classes=["a"], size=32, stack_length=2, streams=streams, gate=gate))


def test_papers_final_pair_is_built():
    with torch.device("meta"):  # only shapes: 85 million weights would take memory
        network = tied("resnet50", "resnet152", width=1.0)
    rgb, flow = torch.zeros(1, 5, 3, 224, 224, device="meta"), torch.zeros(1, 5, 4, 224, 224, device="meta")
    assert [logits.shape for logits in network(rgb, flow)] == [(1, 3), (1, 3)]
    assert [len(units) for units in network.stream("motion").backbone.parts.values()] == [3, 8, 36, 3]
    assert len(network.gates) == 4
