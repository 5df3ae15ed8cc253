"""Out-of-fold scores: the evaluations of disjoint folds as one, each video once."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import made_once, run_stage, train_tiny
from helpers.commands import call, errors_of

from stmn.errors import DataError, StmnError
from stmn.evaluation.joining import join_folds
from stmn.evaluation.scores import Scores, load_scores
from stmn.store.format.header import Folds, read_header
from stmn.workspace import Run, Workspace


@pytest.fixture(scope="module")
def folded(prepared: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The synthetic set in three folds, with both streams of each, all tested; only read."""

    def make(folder: Path) -> None:
        workspace = Workspace(folder)
        shutil.copytree(prepared.root / "data", workspace.root / "data")
        header = read_header(workspace.data_dir("synthetic"))
        videos = sorted(header.listed("1", "train") + header.listed("1", "test"))
        splits = {
            str(k + 1): {"train": [v for i, v in enumerate(videos) if i % 3 != k], "test": videos[k::3]}
            for k in range(3)
        }
        header.model_copy(update={"splits": splits, "folds": Folds(by="video", count=3)}).write(
            workspace.data_dir("synthetic")
        )
        for modality in ("rgb", "flow"):
            for split in splits:
                model = train_tiny(workspace, modality, split=split, steps=1)
                run_stage(workspace, "evaluate", model=str(model.path), chunks=2)

    return Workspace(made_once(tmp_path_factory, "folded", make))


@pytest.fixture
def folds(folded: Workspace, tmp_path: Path) -> Workspace:
    """A copy to write in."""
    shutil.copytree(folded.root, tmp_path / "folds")
    return Workspace(tmp_path / "folds")


def evaluations(workspace: Workspace, stream: str = "motion") -> list[Run]:
    """The evaluations of a stream, one of each split."""
    tested = [run for run in workspace.runs() if run.record["verb"] == "evaluate" and run.makes("scores")]
    runs = [run for run in tested if run.record["options"]["split"] != "all"]
    mine = [run for run in runs if list(load_scores(run.output("scores")).streams) == [stream]]
    return sorted(mine, key=lambda run: run.record["options"]["split"])


def test_joined_scores_have_each_video_once_and_say_the_folds(folds):
    parts = evaluations(folds)
    result = call("evaluate", "--join", *(run.name for run in parts), "-w", folds.root)
    assert result.exit_code == 0, result.stderr
    [run] = [run for run in folds.runs() if run.record["options"].get("join")]
    whole = load_scores(run.output("scores"))
    header = read_header(folds.data_dir("synthetic"))
    assert sorted(whole.ids) == sorted(header.listed("all", "test")) == sorted(set(whole.ids))
    correct = sum(part.results["accuracy"] * part.results["videos"] for part in parts)
    assert run.results["videos"] == 36 and run.results["accuracy"] == pytest.approx(correct / 36)
    assert run.results["protocol"]["split"] == "all" and run.results["protocol"]["folds"] == ["1", "2", "3"]
    assert run.results["protocol"]["words"].endswith("synthetic folds 1, 2, 3 test")
    assert run.name.startswith("test-folds-")
    again = call("evaluate", "--join", *(run.name for run in parts), "-w", folds.root)
    assert "up to date" in again.stderr


def test_joined_scores_are_fused_compared_and_reported_like_any(folds):
    joined = {}
    for stream in ("appearance", "motion"):
        joined[stream] = run_stage(folds, "evaluate", join=[run.name for run in evaluations(folds, stream)])
    late = run_stage(folds, "evaluate", late_fusion=[run.name for run in joined.values()])
    assert late.results["videos"] == 36 and late.results["protocol"]["split"] == "all"
    assert set(late.results["streams"]) == {"appearance", "motion"}
    fused_first = [
        run_stage(folds, "evaluate", late_fusion=[a.name, m.name])
        for a, m in zip(evaluations(folds, "appearance"), evaluations(folds), strict=True)
    ]
    other = run_stage(folds, "evaluate", join=[run.name for run in fused_first])
    torch.testing.assert_close(load_scores(other.output("scores")).mean(), load_scores(late.output("scores")).mean())
    compared = call("compare", joined["motion"].name, late.name, "-w", folds.root)
    assert compared.exit_code == 0, compared.stderr
    page = call("report", "--split", "all", "-w", folds.root)
    assert page.exit_code == 0, page.stderr


def test_all_splits_that_are_folds_give_joined_scores(folds):
    parts = evaluations(folds)
    whole = run_stage(folds, "evaluate", model=parts[0].results["of"][0], split="all", chunks=2)
    joined = run_stage(folds, "evaluate", join=[run.name for run in parts])
    assert whole.results["accuracy"] == joined.results["accuracy"] and set(whole.results["splits"]) == {"1", "2", "3"}
    ours, theirs = (load_scores(run.output("scores")) for run in (whole, joined))
    assert ours.ids == theirs.ids and torch.equal(ours.mean(), theirs.mean())


@pytest.mark.parametrize(("change", "message"), [
    (lambda s: replace(s, protocol=s.protocol | {"chunks": 9}), "measured in another way than .*: chunks 9 instead of 2"),
    (lambda s: replace(s, protocol=s.protocol | {"data": "other"}), "is of data set other, and .* of synthetic"),
    (lambda s: replace(s, protocol=s.protocol | {"part": "train"}), "is of part train, and .* of test"),
    (lambda s: replace(s, protocol={}), "does not say which fold it is of"),
    (lambda s: replace(s, classes=[*s.classes[1:], "up"]), "scores of other classes"),
    (lambda s: replace(s, ids=["a", *s.ids[1:]]), "both score 'a': folds have no video in common"),
    (lambda s: replace(s, streams={"appearance": s.mean()}), "has the streams appearance, and .* has motion"),
    (lambda s: replace(s, protocol=s.protocol | {"stream_weights": {"motion": 3.0}}), "stream weights 3, and .* has equal"),
])  # fmt: skip
def test_what_does_not_belong_together_is_refused(change, message, folded, tmp_path):
    parts = [load_scores(run.output("scores")) for run in evaluations(folded)]
    parts[0] = replace(parts[0], ids=["a", *parts[0].ids[1:]])
    with pytest.raises(DataError, match=message):
        join_folds([parts[0], change(parts[1]), parts[2]], ["one", "two", "three"])


def test_weights_that_were_chosen_in_each_fold_are_kept(folded):
    def weighted(scores: Scores, ratio: float, chosen: bool) -> Scores:
        about = {"stream_weights": {"appearance": ratio, "motion": 1.0}}
        about |= {"stream_weights_chosen_on": "5 validation videos"} if chosen else {}
        words = scores.protocol["words"] + f", streams {ratio:g}:1 chosen on 5 validation videos"
        streams = {"appearance": scores.mean().flip(0), "motion": scores.mean()}
        return replace(scores, streams=streams, protocol=scores.protocol | about | {"words": words})

    parts = [load_scores(run.output("scores")) for run in evaluations(folded)[:2]]
    chosen = [weighted(part, ratio, True) for part, ratio in zip(parts, (1.0, 3.0), strict=True)]
    whole = join_folds(chosen, ["one", "two"])
    torch.testing.assert_close(whole.mean(), torch.cat([part.mean() for part in chosen]))
    assert whole.protocol["words"].endswith("folds 1, 2 test, stream weights chosen in each fold")
    with pytest.raises(DataError, match="two: has stream weights 3:1, and one has 1:1"):
        join_folds(
            [weighted(part, ratio, False) for part, ratio in zip(parts, (1.0, 3.0), strict=True)], ["one", "two"]
        )


def test_mistakes_of_join_are_one_line(folds):
    names = [run.name for run in evaluations(folds)]
    for arguments, message in (
        (["--join", names[0]], "join needs the evaluations of at least two folds"),
        (["--join", *names, "--stream-weights", "1,2"], "join takes scores as they are"),
        (["--join", *names, "--late-fusion", *names], "choose late_fusion or join, not both"),
        (["--join", *names, "--split", "2"], "--split asks for 2"),
        (["--join", names[0], names[0]], "both score"),
        (["--join", names[0], "nothing"], "'nothing': no such file"),
    ):
        result = call("evaluate", *arguments, "-w", folds.root)
        assert result.exit_code in (1, 2) and len(errors_of(result)) == 1 and message in result.stderr, result.stderr
    whole = run_stage(folds, "evaluate", join=names)
    with pytest.raises(StmnError, match="scores of all splits, which no one model has"):
        run_stage(folds, "evaluate", late_fusion=[whole.name, "appearance"])


def test_weights_are_chosen_on_the_other_folds(folds):
    """By --join of late fusions of each fold, and by --split all of the models: the same scores."""
    pairs = list(zip(evaluations(folds, "appearance"), evaluations(folds), strict=True))
    late = [run_stage(folds, "evaluate", late_fusion=[a.name, m.name]).name for a, m in pairs]
    done = call("evaluate", "--join", *late, "--stream-weights", "folds", "-w", folds.root)
    assert done.exit_code == 0, done.stderr
    [joined] = [run for run in folds.runs() if run.record["options"].get("join")]
    assert "stream weights chosen in each fold" in joined.results["protocol"]["words"]
    models = [run.results["of"][0] for run in pairs[0]]
    whole = run_stage(folds, "evaluate", late_fusion=models, split="all", stream_weights="folds", chunks=2)
    ours, theirs = (load_scores(run.output("scores")) for run in (joined, whole))
    assert ours.ids == theirs.ids
    torch.testing.assert_close(ours.mean(), theirs.mean())


@pytest.mark.parametrize(("arguments", "message"), [
    (["--stream-weights", "folds"], "evaluate: stream_weights = folds chooses on other folds: join them, or use split = "
     "all"),
    (["--late-fusion", "{motion}", "{appearance}", "--split", "all", "--stream-weights", "folds"], "{motion}: are scores "
     "already; to choose weights on other folds, name models, or fuse each fold and join them: --join"),
    (["--late-fusion", "{0}", "{1}", "--split", "all", "--stream-weights", "folds", "--part", "train"], "stream_weights = folds needs folds, "
     "which test each video once, and train parts are none: give the weights, or use stream_weights = validation"),
])  # fmt: skip
def test_weights_of_folds_need_folds(folded, arguments, message):
    runs = {stream: evaluations(folded, stream)[0] for stream in ("appearance", "motion")}
    names, models = {stream: run.name for stream, run in runs.items()}, [run.results["of"][0] for run in runs.values()]
    before = set(folded.runs_dir.iterdir())
    refused = call("evaluate", *(argument.format(*models, **names) for argument in arguments), "-w", folded.root)
    assert refused.exit_code != 0 and errors_of(refused) == [message.format(**names)]
    assert set(folded.runs_dir.iterdir()) == before
