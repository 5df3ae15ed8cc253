"""The controls that find out what gates do: trainings in which one thing is taken away."""

from dataclasses import replace

import pytest
import torch
from helpers.commands import call, errors_of, over
from helpers.networks import randomize_norms, tied, videos
from helpers.trainings import CPU, network, weights
from helpers.trainings import videos as samples
from safetensors.torch import load_file

from stmn.evaluation.scores import load_scores
from stmn.nets.build import build_network
from stmn.nets.checkpoint import load_checkpoint, read_description
from stmn.nets.config import GateConfig
from stmn.options import options_of
from stmn.runtime.progress import Silent
from stmn.sampling.augment import normalise_flow, normalise_rgb
from stmn.sampling.clips import Clips
from stmn.sampling.noise import Noise, measure_noise
from stmn.store.format.read import Store
from stmn.training.learner import softmax_loss
from stmn.training.loop import train
from stmn.training.normalisation import Normalisation
from stmn.training.plan import Multipliers, Plan
from stmn.training.schedule import Schedule
from stmn.workspace import Run, Workspace

TINY = [
    "--chunks", 2, "--batch", 8, "--micro-batch", 8, "--steps", 2, "--stride-min", 1, "--stride-max", 2, "--lr", 0.05,
    "--schedule", "cosine", "--validation", 0,
]  # fmt: skip


def fuse(workspace: Workspace, *flags: object) -> Run:
    result = call(*over(["fuse", *TINY], *flags), "-w", workspace.root)
    assert result.exit_code == 0, result.stderr
    return max(workspace.runs(), key=lambda run: run.path.stat().st_mtime_ns)


@pytest.mark.parametrize(("flags", "line"), [
    ("--fusion none --site direct", "site = direct describes gates, and fusion = none has none: leave site out"),
    ("--fusion stmn:none --direction both", "direction = both describes gates, and fusion = none has none: leave "
     "direction out"),
    ("--freeze motion --lr-motion 0.1", "lr_motion and freeze = motion contradict each other: a frozen stream learns "
     "nothing"),
    ("--freeze motion --dropout 0.5", "dropout and freeze = motion contradict each other: a frozen stream has no "
     "dropout"),
    ("--lr-appearance 0", "lr_appearance = 0: to leave the appearance stream as it is, use freeze = appearance"),
    ("--freeze temporal --injector none", "freeze = temporal: injector = none has no temporal filters: leave it out"),
    ("--freeze gates --fusion none", "freeze = gates: fusion = none has no gates: leave it out"),
    ("--loss-weights 0,0", "loss_weights = [0.0, 0.0]: must be 0 or more, and not all 0"),
    ("--loss-weights 1,2 --prediction averaged", "loss_weights are for two losses, and prediction = averaged has one"),
])  # fmt: skip
def test_what_contradicts_a_control_is_refused(own, flags, line):
    before = set(own.runs_dir.iterdir())
    refused = call("fuse", *TINY, *flags.split(), "-w", own.root)
    assert refused.exit_code == 2 and errors_of(refused) == [f"fuse: {line}"]
    assert set(own.runs_dir.iterdir()) == before


def test_untied_pair_is_trained_tested_and_shown(own, tmp_path):
    run = fuse(own, "--fusion", "none")
    assert run.name.startswith("fused-none-")
    assert read_description(run.output("model")).network.gate.fusion == "none"
    assert not [name for name in load_file(run.output("model")) if name.startswith("gates.")]
    assert call("evaluate", run.path, "--chunks", 2, "-w", own.root).exit_code == 0
    shown = call("nets", "show", run.path, "--svg", tmp_path / "untied.svg")
    assert shown.exit_code == 0 and "gate" not in shown.stdout + (tmp_path / "untied.svg").read_text()
    video = next((own.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))
    overlay = tmp_path / "overlay.mp4"
    seen = call("predict", run.output("model"), video, "--overlay", overlay)
    assert seen.exit_code == 0 and overlay.exists(), seen.stderr


def test_blended_gates_learn_at_the_rate_of_new_layers(own):
    """How far a scale has moved after one step is its gradient times the rate."""
    moved = {}
    for rate in (1, 5):
        run = fuse(own, "--fusion", "blended_multiply", "--steps", 1, "--lr-new", rate)
        weights = load_file(run.output("model"))
        moved[rate] = weights["gates.appearance_conv3_unit2.scale"]
        assert call("evaluate", run.path, "--chunks", 2, "-w", own.root).exit_code == 0
    assert moved[1].abs().max() > 0
    assert torch.allclose(moved[5], 5 * moved[1], rtol=1e-4)


# what is frozen -------------------------------------------------------------------------------------------------------

STREAM = {"appearance": "streams.appearance.", "motion": "streams.motion."}


def unchanged(own: Workspace, run: Run) -> dict[str, bool]:
    """Tensor -> whether it is that of the streams that were tied, to the bit; new ones compare with their start."""
    start = {}
    for name in STREAM:
        start |= load_file(own.find_input(name, "model").path)
    after = load_file(run.output("model"))
    new = load_checkpoint(run.output("model"))[0].config
    start = build_network(new).state_dict() | start
    return {name: torch.equal(value, start[name]) for name, value in after.items()}


@pytest.mark.parametrize(
    ("name", "direction", "more"), [("motion", "motion_to_appearance", []), ("appearance", "both", ["--ema", 0.9])]
)
def test_a_frozen_stream_stays_as_it_is_to_the_bit(own, name, direction, more):
    """Weights, filters, batch statistics and their counts; all of the other stream learns."""
    run = fuse(own, "--freeze", name, "--direction", direction, "--temporal-init", "average", *more)
    same = unchanged(own, run)
    assert {key for key in same if key.startswith(STREAM[name]) and not same[key]} == set()
    other = [
        key for key in same if not key.startswith(STREAM[name]) and key.rpartition(".")[2] != "num_batches_tracked"
    ]
    assert len(other) > 60 and not any(same[key] for key in other)
    layers = read_description(run.output("model")).batch_statistics
    assert (layers["trained_layers"], layers["frozen_layers"]) == (21, 21)


def test_a_frozen_stream_without_gates_keeps_its_logits(own):
    run = fuse(own, "--freeze", "motion", "--temporal-pool", "average")
    fused, _ = load_checkpoint(run.output("model"))
    alone, _ = load_checkpoint(own.find_input("motion", "model").path)
    generator = torch.Generator().manual_seed(0)
    rgb, flow = (torch.randn(2, 3, channels, 32, 32, generator=generator) for channels in (3, 20))
    with torch.no_grad():
        assert torch.equal(fused.eval()(rgb, flow)[1], alone.eval()(flow)[0])


def test_no_gradient_is_recorded_in_a_frozen_stream():
    """Gates still bring its signal into the other stream, which learns from it."""
    network = randomize_norms(tied(gate=GateConfig(fusion="blended_multiply")))
    recorded = {}
    for parts in ([], ["motion"]):
        Normalisation(network, "train", parts).start_training()
        appearance, motion = network(*videos(network, 2))
        recorded["motion" in parts] = motion.requires_grad
        (appearance.sum() + motion.sum()).backward()
    assert recorded == {False: True, True: False}
    assert network.gates["appearance_conv3_unit2"].scale.grad.abs().max() > 0
    assert not network.stream("motion").training and network.stream("appearance").training


@pytest.mark.parametrize(("parts", "prefixes"), [
    ("gates", {"gates."}), ("temporal", {".temporal."}), ("appearance,motion", {*STREAM.values()}),
])  # fmt: skip
def test_what_is_frozen_and_nothing_else_stays(own, parts, prefixes):
    run = fuse(own, "--freeze", parts, "--fusion", "blended_multiply", "--temporal-init", "average")
    for key, same in unchanged(own, run).items():
        frozen = any(prefix in key for prefix in prefixes)
        assert same == frozen or key.endswith("num_batches_tracked"), key


@pytest.mark.parametrize(("flags", "line"), [
    ("--freeze gates", "freeze = gates: the gates of fusion = multiply have no weights, so there is nothing to freeze; "
     "fusion = none trains without gates"),
    ("--freeze appearance,motion", "freeze = appearance, motion: leaves nothing to train; freeze less"),
    ("--freeze appearance,motion,gates --fusion blended_multiply", "freeze = appearance, gates, motion: leaves nothing "
     "to train; freeze less"),
])  # fmt: skip
def test_freezing_nothing_or_everything_is_refused(own, flags, line):
    before = set(own.runs_dir.iterdir())
    refused = call("fuse", *TINY, *flags.split(), "-w", own.root)
    assert refused.exit_code == 2 and errors_of(refused) == [line]
    assert set(own.runs_dir.iterdir()) == before


# rates and losses -----------------------------------------------------------------------------------------------------


def test_rates_of_the_streams_scale_their_steps(prepared, tmp_path):
    """Their starting weights; new layers have the rate of new layers."""
    clips = samples(prepared, chunks=2, modalities=("rgb", "flow"))
    found = {}
    for factors in (Multipliers(), Multipliers(appearance=2, motion=0.5)):
        net, wide = network(fused=True), Schedule("steps", 50.0, 1)
        start = weights(net)
        plan = Plan(1, 8, 8, wide, 0, multipliers=factors, bn_passes=0)
        train(net, clips, None, plan, CPU, tmp_path / f"{factors.motion}", Silent())
        found[factors.motion] = {name: value - start[name] for name, value in weights(net).items()}
    for name, factor in {"appearance": 2, "motion": 0.5}.items():
        for layer in ("backbone.conv1.weight", "fc.weight", "backbone.bn1.bias"):
            key = f"streams.{name}.{layer}"
            torch.testing.assert_close(found[0.5][key], factor * found[1][key], rtol=1e-3, atol=1e-6)


def test_loss_weights_multiply_the_loss_of_each_stream():
    generator = torch.Generator().manual_seed(0)
    outputs = tuple(torch.randn(3, 2, 4, generator=generator) for _ in range(2))
    label = torch.tensor([0, 3, 1])
    one, other = (float(softmax_loss((output,), label)) for output in outputs)
    weighted = float(softmax_loss(outputs, label, loss_weights=(0.25, 3)))
    assert weighted == pytest.approx(0.25 * one + 3 * other)


def test_a_stream_whose_loss_weighs_nothing_learns_from_the_other_alone(own):
    """Without gates nothing reaches it."""
    run = fuse(own, "--fusion", "none", "--loss-weights", "0,1", "--weight-decay", 0, "--injector", "none")
    same = unchanged(own, run)
    learned = {key.split(".")[1] for key in same if key.endswith("weight") and not same[key]}
    assert learned == {"motion"}


# identity of runs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["fuse", "train-stream", "evaluate"])
def test_options_that_came_later_leave_earlier_runs_up_to_date(verb):
    """At their defaults they are no part of a run's identity; with other values they are."""
    model = options_of(verb)
    later = [option for option in model.described().values() if option.added_later]
    assert not {option.name for option in later} & model().identity().keys()
    for option in later:
        assert not option.execution and option.default == model.model_fields[option.name].default
        if option.shape == "table":  # options of plugins, of which the built-in ones have none
            continue
        if option.name == "bn_group":  # a run of groups is that of micro-batches of their size
            assert model(bn_group=2).identity() == model(micro_batch=2).identity() != model().identity()
            continue
        other = {
            "switch": True, "number": 0.5, "integer": 2, "list": ["motion"], "choice": option.choices[:1]
        }[option.shape]  # fmt: skip
        value = [0.5, 1.0] if option.name == "loss_weights" else other[0] if option.shape == "choice" else other
        assert model(**{option.name: value}).identity()[option.name] == value


def test_an_earlier_run_is_up_to_date_after_options_were_added(own):
    """Its record and its identity have nothing of them."""
    run = fuse(own)
    options = run.record["options"]
    later = [option.name for option in options_of("fuse").described().values() if option.added_later]
    assert "freeze" in later and later == [name for name in options if name in later]
    for name in later:
        del options[name]
    run.save(options=options)
    again = call("fuse", *TINY, "-w", own.root)
    assert "fuse: up to date" in again.stderr
    asked = call("fuse", *TINY, "--lr-motion", 0.5, "-w", own.root)
    assert asked.exit_code == 0 and "this is a new run" not in asked.stderr


# a blank stream -------------------------------------------------------------------------------------------------------


def blank_clips(prepared: Workspace, stream: str) -> tuple[Clips, Noise]:
    clips = samples(prepared, chunks=2, modalities=("rgb", "flow"))
    noise = measure_noise(clips.store, clips.videos, stream)
    return Clips(clips.store, clips.videos, replace(clips.sampling, noise=noise)), noise


@pytest.mark.parametrize(("stream", "modality", "other"), [("appearance", "rgb", "flow"), ("motion", "flow", "rgb")])
def test_a_blank_stream_sees_noise_like_its_pictures(prepared, stream, modality, other):
    """Of their mean and deviation, another in each epoch and video; crops and the other stream are as they were."""
    plain, (blank, noise) = samples(prepared, chunks=2, modalities=("rgb", "flow")), blank_clips(prepared, stream)
    levels = torch.cat([getattr(plain.store, {"rgb": "frames", "flow": "fields"}[modality])(video.id, [10]).float()
                        for video in plain.videos])  # fmt: skip
    for channel in range(levels.shape[1]):
        assert noise.mean[channel] == pytest.approx(float(levels[:, channel].mean()), abs=3)
        assert noise.deviation[channel] == pytest.approx(float(levels[:, channel].std()), rel=0.2)
    for index in ((0, 0), (1, 0), (0, 1), (-1, 0)):
        assert torch.equal(blank[index][other], plain[index][other])
    seen = torch.stack([blank[index][modality] for index in ((0, 0), (1, 0), (0, 1), (-1, 0))])
    assert torch.equal(blank[0, 0][modality], seen[0])
    alike = torch.corrcoef((seen - seen.mean(dim=(-2, -1), keepdim=True)).flatten(1)) - torch.eye(4)
    assert alike.abs().max() < 0.1
    values = seen[0].unflatten(1, (-1, len(noise.mean))) if modality == "flow" else seen[0]
    norm = normalise_flow if modality == "flow" else normalise_rgb
    expected = norm(torch.tensor(noise.mean)[:, None, None]).flatten()
    found = values.movedim(-3, 0).flatten(1).mean(dim=1)
    assert (found - expected).abs().max() < 0.05


def test_a_trained_model_is_tested_with_a_blank_stream(own, monkeypatch):
    """None of its pictures is read, and the protocol says so."""
    model = own.find_input("fused", "model").path.parent

    def test(*flags: object) -> Run:
        result = call("evaluate", model, "--chunks", 2, *flags, "-w", own.root)
        assert result.exit_code == 0, result.stderr
        return max(own.runs(), key=lambda run: run.path.stat().st_mtime_ns)

    plain = test()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "frames", lambda *_: pytest.fail("a frame was read"))
        blank = test("--blank", "appearance")
    assert blank.name.startswith("test-blank-appearance-")
    found, expected = (load_scores(run.output("scores")) for run in (blank, plain))
    assert found.protocol["blank"] == "appearance" and "noise instead of appearance" in found.protocol["words"]
    assert torch.equal(found.streams["motion"], expected.streams["motion"]), "which no gate changes"
    assert not torch.allclose(found.streams["appearance"], expected.streams["appearance"])
    again = test("--blank", "appearance", "--force")
    assert torch.equal(load_scores(again.output("scores")).streams["appearance"], found.streams["appearance"])
    compared = call("compare", plain.path, blank.path, "-w", own.root)
    said = " ".join((compared.stdout + compared.stderr).split())
    assert said.endswith(", 2 chunks: noise in place of appearance")
    turned = call("compare", blank.path, plain.path, "-w", own.root)
    assert "no noise in place of appearance" in " ".join((turned.stdout + turned.stderr).split())
    report = call("report", "-w", own.root)
    assert report.exit_code == 0, report.stderr


def test_a_model_trained_with_a_blank_stream_is_tested_so(own):
    run = fuse(own, "--blank", "appearance")
    assert call("evaluate", run.path, "--chunks", 2, "-w", own.root).exit_code == 0
    tested = max(own.runs(), key=lambda run: run.path.stat().st_mtime_ns)
    assert load_scores(tested.output("scores")).protocol["blank"] == "appearance"
    refused = call("evaluate", run.path, "--chunks", 2, "--blank", "motion", "-w", own.root)
    assert errors_of(refused) == [
        f"{run.name}: was trained with noise instead of appearance, so blank = motion would leave it nothing to see: "
        f"leave it out"
    ]
    model = run.output("model")
    video = next((own.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))
    assert errors_of(call("predict", model, video)) == [
        f"{model}: is a control, trained with noise instead of appearance, so it can't classify videos; stmn evaluate "
        f"tests it"
    ]


@pytest.mark.parametrize(("flags", "line"), [
    ("motion --blank appearance", "{motion}: has no appearance stream to blank"),
    ("--late-fusion {scores} {scores} --blank appearance", "{scores}: are scores of what a model saw; to blank "
     "appearance, name its model"),
    ("--join {scores} {scores} --blank motion", "evaluate: join takes scores as they are: give blank to the "
     "evaluations that it joins"),
])  # fmt: skip
def test_a_stream_that_is_not_there_is_not_blank(trained, flags, line):
    names = {"motion": trained.newest("model", modality="flow").name, "scores": trained.newest("scores").name}
    refused = call("evaluate", *flags.format(**names).split(), "-w", trained.root)
    assert refused.exit_code != 0 and errors_of(refused) == [line.format(**names)]
