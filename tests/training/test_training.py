"""The training loop: it learns, gradients add up, and a run is a function of its seed."""

import json

import pytest
import torch
from helpers.trainings import CPU, equal, network, steps, videos, weights
from torch import Tensor

from stmn.errors import UsageError
from stmn.runtime.progress import Silent
from stmn.sampling.clips import Clips
from stmn.sampling.validation import hold_out
from stmn.training.learner import softmax_loss
from stmn.training.loop import train
from stmn.training.normalisation import Normalisation
from stmn.training.optimizer import parameter_groups
from stmn.training.plan import Plan
from stmn.training.schedule import Schedule
from stmn.training.statistics import RunningStatistics
from stmn.training.validation import validate


def test_training_learns_its_videos(prepared, tmp_path):
    clips, net, plan = videos(prepared), network(), steps(60)
    state = train(net, clips, None, plan, CPU, tmp_path, Silent())
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == state.history
    assert [row["step"] for row in rows] == [10, 20, 30, 40, 50, 60]
    assert rows[-1]["epoch"] == 20  # 60 steps of 8 of 24 videos
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert rows[-1]["accuracy"] > 0.6
    assert validate(net, clips, plan, CPU) > 0.6  # chance is 0.25


def test_loss_is_the_sum_of_one_soft_max_loss_per_output():
    one, other = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(0))  # 2 videos, 3 places, 4 classes
    label = torch.tensor([0, 2])
    by_hand = 0.0
    for scores in (one, other):
        for video in range(2):
            for place in scores[video]:
                by_hand += float(place.exp().sum().log() - place[label[video]]) / 6
    assert float(softmax_loss((one, other), label)) == pytest.approx(by_hand)
    assert float(softmax_loss((one,), label)) < by_hand


def test_only_weights_decay():
    net = network(fused=True)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    decayed, plain = ({names[id(p)] for p in group["params"]} for group in parameter_groups(net, 5e-4))
    assert decayed | plain == set(names.values()) and not decayed & plain
    assert all(name.endswith("weight") for name in decayed)
    assert "streams.motion.backbone.layer1.0.conv1.weight" in decayed
    assert {"streams.motion.backbone.layer1.0.bn1.weight", "streams.motion.fc.bias"} <= plain
    assert [group["weight_decay"] for group in parameter_groups(net, 5e-4)] == [5e-4, 0.0]


def test_micro_batches_add_up_to_the_whole_batchs_gradient(prepared, tmp_path):
    """Exactly so without batch statistics; with them, each micro-batch is normalised by its own (section 4.1)."""
    after = {}
    for micro_batch in (8, 3, 2):  # 3 leaves a micro-batch of 2
        net = network()
        plan = steps(3, micro_batch=micro_batch, bn="frozen")
        train(net, videos(prepared), None, plan, CPU, tmp_path / f"{micro_batch}", Silent())
        after[micro_batch] = weights(net)
    before = weights(network())
    assert not torch.allclose(after[8]["streams.motion.fc.weight"], before["streams.motion.fc.weight"], atol=1e-4)
    for micro_batch in (3, 2):
        for name, value in after[8].items():
            torch.testing.assert_close(after[micro_batch][name], value, rtol=1e-4, atol=1e-6)

    whole, parts = network(), network()
    for net, micro_batch in ((whole, 8), (parts, 2)):
        train(
            net, videos(prepared), None, steps(1, micro_batch=micro_batch), CPU, tmp_path / f"bn{micro_batch}", Silent()
        )
    name = "streams.motion.backbone.bn1.running_var"
    assert not torch.allclose(weights(whole)[name], weights(parts)[name], rtol=1e-3)


def test_run_is_a_function_of_its_seed_even_with_dropout(prepared, tmp_path):
    def trained(number: int, dropout: float, seed: int) -> dict[str, Tensor]:
        net = network(dropout)
        torch.manual_seed(number)  # the state of the generator does not matter
        train(net, videos(prepared, seed=seed), None, steps(3, seed=seed), CPU, tmp_path / f"{number}", Silent())
        return weights(net)

    first = trained(1, dropout=0.5, seed=1)
    assert equal(trained(2, dropout=0.5, seed=1), first)
    assert not equal(trained(3, dropout=0.5, seed=2), first)
    assert not equal(trained(4, dropout=0.0, seed=1), first)


@pytest.mark.parametrize(("seed", "step", "micro_batch", "drawn"), [
    (0, 0, 0, 15793235383387715774), (0, 0, 1, 11199072553735206349), (1, 0, 0, 7434755675892716031),
    (0, 1, 0, 5836529245451711556), (7, 123456, 31, 17047509502025732863),
])  # fmt: skip
def test_dropouts_seed_is_the_same_everywhere(seed, step, micro_batch, drawn):
    """The values are part of what a seed means: another Python, NumPy or machine must draw the same."""
    assert steps(1, batch=128, micro_batch=4, seed=seed).dropout_seed(step, micro_batch) == drawn


def test_dropout_draws_by_its_seed(prepared, tmp_path):
    """What is drawn in a micro-batch depends on nothing that came before it."""
    plan, net, drawn = steps(2, micro_batch=4, seed=3, bn_passes=0), network(dropout=0.5), []
    dropout = net.stream("motion").dropout
    dropout.register_forward_hook(lambda _, inputs, output: drawn.append((inputs[0].detach(), output.detach())))
    train(net, videos(prepared), None, plan, CPU, tmp_path, Silent())
    dropout.train()
    for number, (features, output) in enumerate(list(drawn)):
        torch.manual_seed(plan.dropout_seed(number // 2, number % 2))
        assert torch.equal(dropout(features), output)


def test_both_streams_of_a_fused_network_train(prepared, tmp_path):
    net = network(fused=True)
    before = weights(net)
    clips = videos(prepared, chunks=2, modalities=("rgb", "flow"))
    state = train(net, clips, None, steps(2, weight_decay=0.0), CPU, tmp_path, Silent())
    assert state.step == 2
    for stream in ("appearance", "motion"):
        for layer in ("backbone.conv1.weight", "backbone.layer4.1.bn2.weight", "fc.weight"):
            assert not torch.equal(net.state_dict()[f"streams.{stream}.{layer}"], before[f"streams.{stream}.{layer}"])


def test_plateau_training_ends_when_the_rate_is_used_up(prepared, tmp_path):
    clips = videos(prepared)
    lists = hold_out(clips.videos, 0.3, seed=0)
    kept, held = lists.kept, lists.held_out
    schedule = Schedule("plateau", rate=1e-12, steps=300, patience=1)  # nothing is learned, so the error never improves
    # otherwise the running statistics change the error
    plan = Plan(300, 4, 4, schedule=schedule, seed=0, validate_every=5, log_every=5, bn="frozen")
    parts = (Clips(clips.store, part, clips.sampling) for part in (kept, held))
    net = network()
    state = train(net, *parts, plan, CPU, tmp_path, Silent())
    assert len(set(state.errors)) == 1
    assert state.step == 20  # a first error, and three without improvement
    assert [row["rate"] for row in state.history] == pytest.approx([1e-12, 1e-12, 1e-13, 1e-14])


def test_micro_batch_of_a_single_value_is_refused(prepared, tmp_path):
    with pytest.raises(UsageError, match=r"batch = 5 with micro_batch = 4 .* one chunk") as error:
        train(network(), videos(prepared), None, steps(2, batch=5, micro_batch=4), CPU, tmp_path, Silent())
    assert "\n" not in str(error.value)
    train(network(), videos(prepared, chunks=2), None, steps(1, batch=1, micro_batch=1), CPU, tmp_path, Silent())


def test_running_statistics_look_through_the_network_once():
    net, looks = network(fused=True), []
    net.register_state_dict_pre_hook(lambda *_: looks.append(1))
    found = RunningStatistics(Normalisation(net), momentum=0.05, counts=[1])
    assert set(found.before) == {name for name, _ in net.named_buffers()} and len(found.before) > 100
    assert len(looks) == 1
