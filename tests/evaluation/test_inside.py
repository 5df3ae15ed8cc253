"""A look inside a tied network: shares of the objects, gradients at the gates, temporal filters."""

import json

import numpy as np
import pytest
import torch
from helpers.commands import call, errors_of
from helpers.networks import randomize_norms, tied, videos
from torch import nn

from stmn.evaluation.inside.clips import Clip
from stmn.evaluation.inside.estimate import estimate
from stmn.evaluation.inside.filters import describe_filters
from stmn.evaluation.inside.focus import measure_focus, share_on
from stmn.evaluation.inside.gradients import measure_gradients
from stmn.nets.config import GateConfig, TemporalConfig
from stmn.runtime.device import choose_device

CPU = choose_device("cpu")


def clips_for(network, masks: dict | None = None) -> list[Clip]:
    """Four videos of three chunks, 64 pixels wide and high."""
    inputs = videos(network, 3, 64, 64, batch=4)
    return [Clip(f"v{i}", i % 3, f"v{i}", [x[i] for x in inputs], [0, 1, 2], masks or {}) for i in range(4)]


class Deaf(nn.Module):
    """A gate that multiplies, and lets no gradient reach the sender."""

    def forward(self, receiving, sending):
        return receiving * sending.detach()


def test_gradient_is_the_sum_of_its_parts():
    network = randomize_norms(tied())
    clips = clips_for(network)
    multiply, add = measure_gradients(network, clips, CPU)
    assert (multiply.fusion, multiply.own_fusion, add.fusion, add.own_fusion) == ("multiply", True, "add", False)
    for one, other in zip(multiply.units, add.units, strict=True):
        assert other.factor.mean == pytest.approx(1, abs=1e-6), "addition hands the gradient on as it is, eq. (4)"
        assert abs(one.factor.mean - 1) > 1e-3, "multiplication scales it by the other stream, eq. (7)"
        assert one.own.mean == pytest.approx(other.own.mean, rel=1e-5), "motion itself is the same in both"
    assert [unit.unit for unit in add.units] == [f"conv{n} unit 2" for n in (2, 3, 4, 5)]
    assert [unit.through_later.mean > 0 for unit in multiply.units] == [True, True, True, False]
    for key in network.gates:
        network.gates[key] = Deaf()
    deaf = measure_gradients(network, clips, CPU)[0]
    for unit, before in zip(deaf.units, multiply.units, strict=True):
        assert unit.through_gate.mean == unit.through_later.mean == 0
        assert unit.whole.mean == pytest.approx(before.own.mean, rel=1e-5)


@pytest.mark.parametrize("direction", ["appearance_to_motion", "both"])
@pytest.mark.parametrize("prediction", ["per_stream", "concatenated"])
def test_every_direction_and_prediction_has_its_gradients(direction, prediction):
    network = randomize_norms(tied(gate=GateConfig(direction=direction), prediction=prediction))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = measure_gradients(network, clips_for(network), CPU)[0].units
    assert len(found) == (8 if direction == "both" else 4)
    assert all(unit.sender != unit.receiver and unit.whole.mean > 0 for unit in found)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in network.parameters())


def test_share_is_what_falls_on_the_object():
    mask = torch.zeros(3, 64, 64)
    mask[:, :32, :16] = 1
    clip = Clip("v", 0, "v", [], [0, 1, 2], {"target": mask})
    cover = clip.cover((4, 4))
    signal = torch.ones(3, 4, 4)
    assert share_on(signal, cover)["target"] == pytest.approx(1 / 8)
    signal[:, :2, 0] = 15  # two of the sixteen positions
    assert share_on(signal, cover)["target"] == pytest.approx(30 / 44)
    assert np.isnan(share_on(torch.zeros(3, 4, 4), cover)["target"])
    halves = clip.cover((2, 2))["target"]
    assert halves[0].tolist() == [[0.5, 0], [0, 0]], "a position that is half covered counts half"


def test_focus_finds_the_object_that_alone_moves():
    """Flow is noise inside the target and still elsewhere; the gates are sent the edges of the noise."""
    network = randomize_norms(tied())
    for module in network.streams["motion"].modules():  # nothing arises where there is no motion
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.zero_(), module.running_mean.zero_()
    target, distractor = torch.zeros(3, 64, 64), torch.zeros(3, 64, 64)
    target[:, :24, :24], distractor[:, 40:, 40:] = 1, 1
    clips = clips_for(network, {"target": target, "distractor": distractor})
    for clip in clips:
        clip.inputs[1][:] *= target[0]
    first = measure_focus(network, clips, CPU, start=network)[0]
    assert first.positions == (16, 16)
    assert first.area["target"].mean == pytest.approx((24 / 64) ** 2)
    assert first.sent.objects["target"].mean > 0.6 and first.sent.objects["distractor"].mean == 0
    assert first.read.picks and first.read.lead.low > 3
    assert first.ungated.objects["target"].mean < 0.25, "appearance by itself is everywhere"


def test_filters_are_compared_with_what_they_began_as():
    network = tied(temporal=TemporalConfig(injector="residual_and_skip", init="average"))
    assert all(item.moved < 1e-7 and item.off_diagonal == 0 for item in describe_filters(network))
    weight = network.streams["motion"].backbone.parts["conv3"][1].temporal.conv.weight
    channels = weight.shape[0]
    with torch.no_grad():
        weight.zero_()
        for c in range(channels):
            weight[c, c, 1] = 2.0
            weight[c, (c + 1) % channels, 0] = 1.0
    found = {(item.stream, item.place): item for item in describe_filters(network)}
    assert len(found) == 16
    item = found["motion", "conv3 unit 2"]
    assert item.taps == [0, 2, 0] and item.spread == [0, 0, 0]
    assert item.began == pytest.approx([1 / 3] * 3) and item.off_centre_began == pytest.approx(2 / 3)
    assert (item.off_centre, item.off_diagonal) == (pytest.approx(0.2), pytest.approx(0.2))
    assert item.moved == pytest.approx(np.sqrt(((5 / 3) ** 2 + 2 / 9 + 1) / (3 / 9)))
    assert found["motion", "conv3 skip path"].moved < 1e-7


def test_interval_is_students_over_groups():
    found = estimate([1.0, 2.0, 3.0, float("nan")], ["a", "b", "c", "d"])
    assert found.mean == 2 and found.high - 2 == pytest.approx(4.3027 / np.sqrt(3), rel=1e-4)
    assert np.isnan(estimate([1.0, 2.0], ["a", "a"]).low), "one group says nothing of others"


def test_command_measures_a_run_and_its_start(trained):
    made = call("nets", "inside", "fused", "-w", trained.root, "--videos", 6, "--json")
    assert made.exit_code == 0, made.stderr
    found = json.loads(made.stdout)
    assert len(found["videos"]) == 6 and all(name.startswith("test/") for name in found["videos"])
    assert [unit["positions"] for unit in found["focus"]] == [[8, 8], [4, 4], [2, 2], [1, 1]]
    for unit in found["focus"]:
        assert 0.02 < unit["area"]["target"]["mean"] < 0.06 and unit["ungated"]["objects"].keys() == unit["area"].keys()
    assert [item["fusion"] for item in found["gradients"]] == ["multiply", "add"]
    assert [item["fusion"] for item in found["gradients_before_training"]] == ["multiply", "add"]
    assert all(0 < item["moved"] < 1 for item in found["filters"])
    table = call("nets", "inside", "fused", "-w", trained.root, "--videos", 3)
    assert table.exit_code == 0 and "On the target (on the distractor)" in table.stdout


def test_what_has_no_gates_is_refused_in_one_line(trained):
    refused = call("nets", "inside", "motion", "-w", trained.root)
    assert refused.exit_code == 2
    assert "has one stream, and so no gates to look at" in errors_of(refused)[0]


def test_gates_with_weights_of_their_own_are_measured_too():
    network = randomize_norms(tied(gate=GateConfig(fusion="blended_multiply")))
    blended, add, multiply = measure_gradients(network, clips_for(network), CPU)
    assert (blended.fusion, add.fusion, multiply.fusion) == ("blended_multiply", "add", "multiply")
    assert all(unit.through_gate.mean == 0 for unit in blended.units), "it begins as the untied pair"
    assert all(unit.through_gate.mean > 0 for unit in add.units + multiply.units)
