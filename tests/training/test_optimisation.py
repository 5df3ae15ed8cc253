"""The options of optimisation, each held against a plain re-statement of what it says; none is on by default."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers.trainings import CPU, network, videos, weights
from torch import Tensor

from stmn.options.train_stream import TrainStreamOptions
from stmn.runtime.progress import Silent
from stmn.sampling.clips import Clips
from stmn.sampling.loader import load_batches
from stmn.sampling.order import MicroBatches
from stmn.sampling.validation import hold_out
from stmn.training.kept import best_validation
from stmn.training.learner import softmax_loss, weight_classes
from stmn.training.loop import train
from stmn.training.optimizer import is_new, parameter_groups
from stmn.training.plan import Multipliers, Plan
from stmn.training.schedule import Schedule
from stmn.workspace import Workspace

RATE, DECAY, STEPS = 0.02, 0.01, 4


def plan(steps: int = STEPS, **more: object) -> Plan:
    """Steps of 8 videos in micro-batches of 4, at one rate."""
    values = {"weight_decay": DECAY, "bn_passes": 0, "schedule": Schedule("steps", RATE, steps), "seed": 0} | more
    return Plan(steps, 8, 4, **values)


def learned(prepared: Workspace, folder, plan: Plan, validation: Clips | None = None, clips: Clips | None = None):
    """The state of a network after training."""
    net = network()
    train(net, clips or videos(prepared), validation, plan, CPU, folder, Silent())
    return weights(net)


def plainly(
    prepared: Workspace,
    update: Callable[[str, Tensor, Tensor, int], None],
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    clip: float = float("inf"),
) -> dict[str, Tensor]:
    """The parameters after the same steps, written out: `update` gets name, parameter, gradient and step from 1."""
    net, clips = network().train(), videos(prepared)
    batches = iter(load_batches(clips, MicroBatches(len(clips), 8, 4, 0, 0, STEPS), 1))
    for step in range(1, STEPS + 1):
        net.zero_grad()
        for _ in range(2):
            batch = next(batches)
            (logits,) = net(batch["flow"])
            (loss(logits, batch["label"]) / 2).backward()
        norm = float(torch.stack([p.grad.square().sum() for p in net.parameters()]).sum().sqrt())
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                update(name, parameter, parameter.grad * min(1.0, clip / norm), step)
    return dict(net.named_parameters())


class PlainSgd:
    """v = 0.9 v + g + decay w; w = w - rate v. Only weights of convolutions and classifiers decay."""

    def __init__(self) -> None:
        self.velocity: dict[str, Tensor] = {}

    def __call__(self, name: str, w: Tensor, g: Tensor, step: int) -> None:
        g = g + (DECAY * w if w.ndim > 1 else 0)
        self.velocity[name] = 0.9 * self.velocity.get(name, 0) + g
        w -= RATE * self.velocity[name]


class PlainAdamW:
    """Adam with bias correction, and decay beside the gradient (Loshchilov and Hutter 2019, algorithm 2)."""

    def __init__(self, rate: float, decay: float) -> None:
        self.rate, self.decay = rate, decay
        self.m: dict[str, Tensor] = {}
        self.v: dict[str, Tensor] = {}

    def __call__(self, name: str, w: Tensor, g: Tensor, step: int) -> None:
        self.m[name] = 0.8 * self.m.get(name, 0) + 0.2 * g
        self.v[name] = 0.999 * self.v.get(name, 0) + 0.001 * g**2
        if w.ndim > 1:
            w *= 1 - self.rate * self.decay
        m, v = self.m[name] / (1 - 0.8**step), self.v[name] / (1 - 0.999**step)
        w -= self.rate * m / (v.sqrt() + 1e-8)


def agree(found: dict[str, Tensor], expected: dict[str, Tensor], **tolerance: float) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value.detach(), **({"rtol": 1e-3, "atol": 2e-5} | tolerance))


def test_sgd_is_the_default(prepared, tmp_path):
    agree(learned(prepared, tmp_path, plan()), plainly(prepared, PlainSgd()))


def test_adamw(prepared, tmp_path):
    """With a small rate: Adam's first steps are signs of gradients, and rounding would lead elsewhere."""
    rate, decay, start = 1e-5, 10.0, weights(network())
    chosen = plan(optimizer="adamw", momentum=0.8, weight_decay=decay, schedule=Schedule("steps", rate, STEPS))
    found, expected = learned(prepared, tmp_path, chosen), plainly(prepared, PlainAdamW(rate, decay))
    for name in ("streams.motion.fc.weight", "streams.motion.fc.bias"):
        moved, by_hand = ((values[name].detach() - start[name]) / rate for values in (found, expected))
        torch.testing.assert_close(moved, by_hand, rtol=0.01, atol=0.02)
        assert moved.abs().max() > 1


def test_clipping_limits_the_norm_of_the_whole_gradient(prepared, tmp_path):
    clipped = learned(prepared, tmp_path / "clipped", plan(clip=0.1))
    agree(clipped, plainly(prepared, PlainSgd(), clip=0.1))
    free = learned(prepared, tmp_path / "free", plan())
    far = learned(prepared, tmp_path / "far", plan(clip=1e6))
    assert all(torch.equal(far[name], value) for name, value in free.items())
    assert not torch.allclose(clipped["streams.motion.fc.weight"], free["streams.motion.fc.weight"], rtol=1e-3)


def test_label_smoothing_spreads_a_share_of_the_label(prepared, tmp_path):
    def loss(logits: Tensor, label: Tensor) -> Tensor:
        target = 0.8 * F.one_hot(label, 4) + 0.2 / 4
        return -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()

    found = learned(prepared, tmp_path, plan(label_smoothing=0.2))
    agree(found, plainly(prepared, PlainSgd(), loss))


def test_class_weights_make_each_class_count_alike():
    labels = [0] * 6 + [1] * 2 + [3]
    found = weight_classes(labels, 5)
    assert found.tolist() == pytest.approx([9 / 18, 9 / 6, 0, 9 / 3, 0])
    for number in (0, 1, 3):
        assert labels.count(number) * float(found[number]) == pytest.approx(3)  # and the mean over videos is 1
    logits, label = torch.randn(4, 1, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 1, 3])
    each = F.cross_entropy(logits[:, 0], label, reduction="none")
    assert float(softmax_loss((logits,), label, weights=found)) == pytest.approx(float((each * found[label]).mean()))
    # so that micro-batches add up to their batch
    parts = [softmax_loss((logits[i : i + 2],), label[i : i + 2], weights=found) for i in (0, 2)]
    assert float(sum(parts) / 2) == pytest.approx(float((each * found[label]).mean()))


def test_mixup_is_the_loss_of_mixed_videos_and_labels(prepared, tmp_path):
    """One step, written out with the shares that a generator of the same seed draws."""
    found = learned(prepared, tmp_path, plan(1, mixup=0.4, label_smoothing=0.1))
    net, clips = network().train(), videos(prepared)
    for number, batch in enumerate(load_batches(clips, MicroBatches(len(clips), 8, 4, 0, 0, 1), 1)):
        torch.manual_seed(plan(1).dropout_seed(0, number))
        share = float(torch.distributions.Beta(0.4, 0.4).sample())
        before = torch.arange(4) - 1  # the video before each
        (logits,) = net(share * batch["flow"] + (1 - share) * batch["flow"][before])
        losses = [F.cross_entropy(logits, batch["label"][rows], label_smoothing=0.1) for rows in (slice(None), before)]
        ((share * losses[0] + (1 - share) * losses[1]) / 2).backward()
    update = PlainSgd()
    with torch.no_grad():
        for name, w in net.named_parameters():
            update(name, w, w.grad, 1)
            torch.testing.assert_close(found[name], w, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 2.0, 1.0])])
def test_loss_of_shared_labels_is_shared(weights):
    generator = torch.Generator().manual_seed(2)
    logits, other = torch.randn(3, 2, 3, generator=generator), torch.tensor([2, 2, 0])
    label, share = torch.tensor([0, 2, 1]), 0.3
    both = share * F.one_hot(label, 3) + (1 - share) * F.one_hot(other, 3)
    if weights is None:
        expected = share * softmax_loss((logits,), label) + (1 - share) * softmax_loss((logits,), other)
        assert float(softmax_loss((logits,), both)) == pytest.approx(float(expected))
        return
    by_hand = -(both[:, None] * logits.log_softmax(-1)).sum(-1) * (both @ weights)[:, None]
    assert float(softmax_loss((logits,), both, weights=weights)) == pytest.approx(float(by_hand.mean()))


def test_class_weights_are_those_of_the_training_list(prepared, tmp_path):
    clips = videos(prepared)
    rare = [v for v in clips.videos if v.class_name != "up"] + [v for v in clips.videos if v.class_name == "up"][:2]
    uneven = Clips(clips.store, rare, clips.sampling)
    plain = learned(prepared, tmp_path / "plain", plan(), clips=uneven)
    weighted = learned(prepared, tmp_path / "weighted", plan(class_weights=True), clips=uneven)
    bias = "streams.motion.fc.bias"
    up = sorted({v.class_name for v in clips.videos}).index("up")
    assert weighted[bias][up] > plain[bias][up] + 1e-3  # the rare class is predicted more
    even = [learned(prepared, tmp_path / f"{on}", plan(class_weights=on)) for on in (True, False)]
    agree(*even)  # with equal classes it changes nothing


def test_multipliers_scale_the_step_of_their_parameters(prepared, tmp_path):
    start = weights(network())
    wide = Schedule("steps", 1000 * RATE, 1)  # a step so wide that the rounding of weights near 1 doesn't show
    one = learned(prepared, tmp_path / "one", plan(1, schedule=wide))
    many = learned(prepared, tmp_path / "many", plan(1, schedule=wide, multipliers=Multipliers(new=10, bias=2, gain=3)))
    expected = {
        "streams.motion.fc.weight": 10, "streams.motion.fc.bias": 20, "streams.motion.backbone.conv1.weight": 1,
        "streams.motion.backbone.bn1.weight": 3, "streams.motion.backbone.bn1.bias": 1,
    }  # fmt: skip
    for name, factor in expected.items():
        torch.testing.assert_close(many[name] - start[name], factor * (one[name] - start[name]), rtol=1e-3, atol=1e-7)


def test_new_layers_are_those_without_starting_weights():
    stream = {name for name, _ in network().named_parameters() if is_new(network(), name)}
    assert stream == {"streams.motion.fc.weight", "streams.motion.fc.bias"}
    fused = network(fused=True)
    assert not any(is_new(fused, name) for name in ("streams.motion.fc.weight", "streams.appearance.fc.bias"))
    assert is_new(fused, "streams.motion.backbone.layer1.1.temporal.conv.weight") and is_new(fused, "fc.weight")


def test_by_default_all_parameters_have_one_rate():
    groups = parameter_groups(network(fused=True), 5e-4)
    assert [(group["lr_scale"], group["weight_decay"]) for group in groups] == [(1.0, 5e-4), (1.0, 0.0)]


def test_ema_keeps_a_running_average_of_the_weights(prepared, tmp_path):
    found = learned(prepared, tmp_path / "ema", plan(ema=0.5))
    average: dict[str, Tensor] = {}
    for step in range(1, STEPS + 1):
        now = learned(prepared, tmp_path / f"{step}", plan(step))
        decay = min(0.5, 1 - step ** (-2 / 3))
        average = {k: decay * average[k] + (1 - decay) * v for k, v in now.items()} if average else now
    average = {name: value for name, value in average.items() if "batches" not in name}
    agree(found, average, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found["streams.motion.fc.weight"], now["streams.motion.fc.weight"], rtol=1e-3)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_keep_best_ends_with_the_weights_of_the_best_validation(prepared, tmp_path, ema):
    clips = videos(prepared)
    lists = hold_out(clips.videos, 0.3, seed=0)
    kept, held = (Clips(clips.store, part, clips.sampling) for part in (lists.kept, lists.held_out))
    more = {"validate_every": 2, "log_every": 2, "ema": ema}
    net = network()
    state = train(net, kept, held, plan(10, keep_best=True, **more), CPU, tmp_path / "best", Silent())
    best = best_validation(state.history)
    assert best["validation_error"] == min(state.errors) and len(state.errors) == 5
    shorter = learned(prepared, tmp_path / "shorter", plan(best["step"], **more), held, kept)
    assert all(torch.equal(value, shorter[name]) for name, value in weights(net).items())


def test_warm_up_raises_the_rate_of_every_schedule():
    for name in ("plateau", "steps", "authors", "cosine"):
        warm = Schedule(name, 0.1, 100, milestones=(50, 80), warmup=10)
        assert [warm.rate_at(step, []) for step in range(10)] == pytest.approx([0.01 * (n + 1) for n in range(10)])
        assert warm.rate_at(10, []) == pytest.approx(0.1)
        assert Schedule(name, 0.1, 100, warmup=0).rate_at(0, []) == pytest.approx(0.1)
    cold, warm = (Schedule("steps", 0.1, 100, milestones=(50,), warmup=n) for n in (0, 10))
    assert [warm.rate_at(step, []) for step in range(10, 100)] == [cold.rate_at(step, []) for step in range(10, 100)]
    assert Schedule("steps", 0.1, 100).rate_at(0, []) == Schedule("plateau", 0.1, 100).rate_at(0, []) == 0.1


def test_none_is_on_by_default():
    chosen = TrainStreamOptions()
    found = {name: getattr(chosen, name) for name in (
        "optimizer", "warmup", "warmup_epochs", "milestones", "clip", "label_smoothing", "class_weights", "ema",
        "lr_new", "lr_bias", "lr_gain", "keep",
    )}  # fmt: skip
    assert found == {
        "optimizer": "sgd", "warmup": None, "warmup_epochs": None, "milestones": None, "clip": None,
        "label_smoothing": 0, "class_weights": False, "ema": None, "lr_new": 1, "lr_bias": 1, "lr_gain": 1,
        "keep": "last",
    }  # fmt: skip
