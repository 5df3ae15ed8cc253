"""The paper's procedure (section 4.1) is the default; where the authors' code differs, there is an option."""

import sqlite3

import pytest
from conftest import TINY_TRAINING, run_stage, train_tiny
from helpers.trainings import equal, videos
from safetensors.torch import load_file

from stmn.sampling.order import MicroBatches
from stmn.sampling.validation import hold_out
from stmn.stages import find_stage, fuse, train_stream
from stmn.stages.training import make_plan
from stmn.store.format.read import Store
from stmn.training.plan import Plan
from stmn.workspace import Workspace

#: videos of UCF101's first training list
UCF101 = 9537


def planned(verb: str, workspace: Workspace, **options: object) -> tuple[object, Plan]:
    """A stage's complete options, and its plan for UCF101."""
    stage = find_stage(verb)
    chosen = stage.complete(stage.options(**options), workspace, {"appearance": [], "motion": []})
    known = {"train-stream": train_stream.MILESTONES, "fuse": fuse.MILESTONES}[verb]
    return chosen, make_plan(chosen, UCF101, known.get(options.get("modality", chosen.schedule), ()))


@pytest.mark.parametrize(("verb", "options", "batch", "micro_batches", "dropout", "crops", "chunks", "rate"), [
    ("train-stream", {"modality": "rgb"}, 256, 8, 0.0, "jitter", 1, 1e-2),
    ("train-stream", {"modality": "flow"}, 128, 4, 0.8, "multi_scale", 1, 1e-2),
    ("fuse", {}, 128, 32, None, "jitter", 5, 1e-3),  # dropout: that of the streams
])  # fmt: skip
def test_papers_procedure_is_the_default(scratch, verb, options, batch, micro_batches, dropout, crops, chunks, rate):
    chosen, plan = planned(verb, scratch, **options)
    assert (plan.batch, plan.micro_batches) == (batch, micro_batches)
    assert (plan.momentum, plan.weight_decay) == (0.9, 5e-4)  # and none on biases and batch normalisation
    assert (chosen.dropout, chosen.augment, chosen.chunks, plan.schedule.rate) == (dropout, crops, chunks, rate)
    assert (chosen.stride_min, chosen.stride_max, plan.stride) == (5, 35, None)  # one per video
    assert chosen.validation > 0  # of the training groups


@pytest.mark.parametrize("modality", ["rgb", "flow"])
def test_stream_lowers_its_rate_twice_on_a_plateau(scratch, modality):
    _, plan = planned("train-stream", scratch, modality=modality)
    assert plan.schedule.name == "plateau" and plan.schedule.lowerings == 2
    stale = [0.5] * (1 + 2 * plan.schedule.patience)
    assert plan.schedule.rate_at(0, stale) == pytest.approx(1e-4)
    assert plan.validate_every == round(UCF101 / plan.batch)  # once per epoch


def rates_by_epoch(plan: Plan) -> list[float]:
    """The rate in the middle of each pass of UCF101's list."""
    steps = [round((epoch + 0.5) * UCF101 / plan.batch) for epoch in range(plan.steps * plan.batch // UCF101)]
    return [plan.schedule.rate_at(step, []) for step in steps]


def test_fused_rate_falls_after_20_and_10_more_epochs(scratch):
    _, plan = planned("fuse", scratch)
    assert rates_by_epoch(plan) == pytest.approx([1e-3] * 20 + [1e-4] * 10 + [1e-5] * 10)


def test_authors_schedules_are_options(scratch):
    _, plan = planned("fuse", scratch, schedule="authors")
    assert rates_by_epoch(plan) == pytest.approx([1e-3] * 10 + [1e-4] * 5 + [1e-5] * 5 + [1e-6] * 5)
    _, plan = planned("train-stream", scratch, modality="rgb", schedule="steps")
    assert rates_by_epoch(plan) == pytest.approx([1e-2] * 20 + [1e-3] * 20 + [1e-4] * 20)
    _, plan = planned("train-stream", scratch, modality="flow", schedule="steps")
    assert rates_by_epoch(plan) == pytest.approx([1e-2] * 100 + [1e-3] * 100 + [1e-4] * 100 + [1e-5] * 100)


def test_stride_shared_by_a_micro_batch_is_an_option(scratch, prepared):
    _, plan = planned("fuse", scratch, shared_stride=True)
    assert plan.stride == (5, 35)
    batches = list(MicroBatches(24, 8, 4, seed=0, start=0, steps=40, stride=(5, 35)))
    drawn = [{stride for _, _, stride in batch} for batch in batches]
    assert all(len(strides) == 1 for strides in drawn)
    assert {5, 35} <= {stride for strides in drawn for stride in strides} <= set(range(5, 36))
    again = list(MicroBatches(24, 8, 4, seed=0, start=20, steps=40, stride=(5, 35)))
    assert again == batches[40:]  # a function of the step, so a resumed run draws the same
    clips = videos(prepared, chunks=2)  # strides of 1 and 2
    drawn_by_video = clips[0, 3]["flow"]
    assert sum(bool((clips[0, 3, stride]["flow"] == drawn_by_video).all()) for stride in (1, 2)) == 1


def unreadable(workspace: Workspace, part: str) -> None:
    """Damage all pictures of a part of the split."""
    with Store(workspace.data_dir("synthetic")) as store:
        found = [(video.number, store.shards[video.shard]) for video in store.part("1", part)]
    for number, shard in found:
        with sqlite3.connect(shard) as connection:
            changed = connection.execute("UPDATE pictures SET jpeg = x'00' WHERE key >> 33 = ?", (number,))
            assert changed.rowcount > 10


def test_training_never_reads_the_test_split(scratch, trained):
    """With damaged test videos, training and validation give the same bits, and only `evaluate` notices."""
    unreadable(scratch, "test")
    models = [train_tiny(scratch, modality).output("model") for modality in ("rgb", "flow")]
    models.append(run_stage(scratch, "fuse", chunks=2, stride_min=1, stride_max=2, **TINY_TRAINING).output("model"))
    for model in models:
        (same,) = [run for run in trained.runs() if run.name == model.parent.name]
        assert equal(load_file(model), load_file(same.output("model")))
    held = train_tiny(scratch, "flow", validation=0.3, steps=10, schedule="plateau")
    assert "validation_error" in held.results
    with pytest.raises(Exception, match="is not what prepare wrote"):
        run_stage(scratch, "evaluate", model="fused")


def test_validation_videos_come_from_the_training_groups(prepared):
    store = videos(prepared).store
    lists = hold_out(store.part("1", "train"), 0.3, seed=0)
    kept, held = lists.kept, lists.held_out
    test = {video.id for video in store.part("1", "test")}
    assert held and not {video.id for video in [*kept, *held]} & test
    assert not {(v.class_name, v.group) for v in kept} & {(v.class_name, v.group) for v in held}
