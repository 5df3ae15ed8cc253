"""Scores that are pooled or compared agree on data set, split, part, classes and videos; what reads them asks it of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_stage
from helpers.commands import call, errors_of
from helpers.films import moving
from helpers.made_sets import MadeVideo, make_set

from stmn.errors import DataError, StmnError
from stmn.evaluation.scores import Scores, load_scores
from stmn.store.format.header import read_header
from stmn.store.format.read import Store
from stmn.workspace import Workspace

CLASSES = ["clap", "wave"]
VIDEOS = [f"v{number:02d}" for number in range(16)]
#: split 2 tests four videos that split 1 trains on; both test v12 to v15 or v08 to v11 of the same 16
SPLITS = {
    "1": {"train": VIDEOS[:12], "test": VIDEOS[12:]},
    "2": {"train": VIDEOS[:8] + VIDEOS[12:], "test": VIDEOS[8:12]},
}
#: says that its videos are those of split 1
FIRST = {"data": "acts", "split": "1", "part": "test"}


@pytest.fixture(scope="module")
def acts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of noise with two splits: nothing can be learned from it, only remembered."""
    generator = torch.Generator().manual_seed(0)
    films = [
        MadeVideo(
            name,
            CLASSES[number % 2],
            torch.from_numpy(np.stack(moving(6, 32, 32, seed=number))),
            torch.randint(60, 200, (5, 2, 32, 32), generator=generator, dtype=torch.uint8),
        )
        for number, name in enumerate(VIDEOS)
    ]
    folder = make_set(tmp_path_factory.mktemp("sets") / "acts", films)
    read_header(folder).model_copy(update={"splits": SPLITS}).write(folder)
    return folder


@pytest.fixture
def workspace(acts: Path, tmp_path: Path) -> Workspace:
    (tmp_path / "work" / "data").mkdir(parents=True)
    (tmp_path / "work" / "data" / "acts").symlink_to(acts)
    return Workspace(tmp_path / "work")


def drawn(stream: str, split: str = "1", part: str = "test", seed: int = 0, **protocol: str) -> Scores:
    """Random scores of a part of a split."""
    ids = SPLITS[split]["test" if part == "test" else "train"]
    values = torch.randn(len(ids), 2, generator=torch.Generator().manual_seed(seed))
    labels = [VIDEOS.index(name) % 2 for name in ids]
    return Scores(ids, CLASSES, labels, {stream: values}, {"data": "acts", "split": split, "part": part} | protocol)


def saved(folder: Path, name: str, scores: Scores) -> str:
    scores.save(folder / f"{name}.safetensors")
    return str(folder / f"{name}.safetensors")


def says(scores: Scores, **changes: object) -> Scores:
    """The same scores, with another protocol."""
    protocol = {key: value for key, value in (scores.protocol | changes).items() if value is not None}
    return Scores(scores.ids, scores.classes, scores.labels, scores.streams, protocol, hashes=scores.hashes)


# Several scores files


def reading_commands(workspace: Workspace, first: str, second: str, folder: Path) -> dict[str, list[object]]:
    """Every command that pools or pairs two scores files."""
    there = ["-w", workspace.root]
    return {
        "scores fuse": ["scores", "fuse", first, second, "-o", folder / "fused.safetensors"],
        "scores compare": ["scores", "compare", first, second],
        "compare": ["compare", first, second],
        "evaluate": ["evaluate", "--late-fusion", first, second, *there],
        "fuse-idt": ["fuse-idt", "--scores", first, "--idt-scores", second, *there],
    }


@pytest.mark.parametrize("command", ["scores fuse", "scores compare", "compare", "evaluate", "fuse-idt"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"split": "2"}, "split 2, not 1"),
        ({"data": "plays"}, "data set plays, not acts"),
        ({"part": "validation"}, "part validation, not test"),
    ],
    ids=["split", "data set", "part"],
)
def test_scores_that_say_different_things_are_neither_pooled_nor_compared(command, change, words, workspace, tmp_path):
    """Even if they have the same ids: a name says little of what it names."""
    first = saved(tmp_path, "first", drawn("appearance"))
    second = saved(tmp_path, "second", says(drawn("motion", seed=1), **change))
    result = call(*reading_commands(workspace, first, second, tmp_path)[command])
    [line] = errors_of(result)
    assert result.exit_code == 1 and words in line and "second.safetensors" in line
    assert not (tmp_path / "fused.safetensors").exists() and not list(workspace.runs_dir.glob("*"))


@pytest.mark.parametrize("command", ["scores fuse", "scores compare", "compare", "evaluate", "fuse-idt"])
def test_a_video_of_other_content_is_another_video(command, workspace, tmp_path):
    first, second = drawn("appearance"), drawn("motion")
    first.hashes[:], second.hashes[:] = first.ids, [*second.ids[:3], "another file"]
    files = saved(tmp_path, "first", first), saved(tmp_path, "second", second)
    [line] = errors_of(call(*reading_commands(workspace, *files, tmp_path)[command]))
    assert "the file of 'v15' is not the one that" in line
    second.hashes[3] = ""  # unknown, as in a file from elsewhere
    saved(tmp_path, "second", second)
    result = call(*reading_commands(workspace, *files, tmp_path)[command])
    assert result.exit_code == 0, result.stderr


def test_fused_file_that_mixed_splits_is_not_believed(tmp_path):
    """As files may that were fused before splits were compared."""
    mixed = says(drawn("late"), parts=[FIRST, FIRST | {"split": "2"}])
    files = saved(tmp_path, "mixed", mixed), saved(tmp_path, "other", drawn("motion"))
    [line] = errors_of(call("scores", "compare", *files))
    assert "was fused from scores of different videos (split 1, not 2)" in line


def test_other_ways_of_measuring_are_said(tmp_path):
    few = says(drawn("motion"), chunks=5, average="softmax")
    files = saved(tmp_path, "many", says(drawn("appearance"), chunks=25)), saved(tmp_path, "few", few)
    refused = call("scores", "fuse", *files, "-o", tmp_path / "fused.safetensors")
    [line] = errors_of(refused)
    assert line.endswith("holds averaged probabilities, not logits; pass --average softmax, or test again")
    result = call("scores", "fuse", *files, "-o", tmp_path / "fused.safetensors", "--average", "softmax")
    assert "measured in another way" in result.stdout
    assert "chunks 5 instead of 25, average softmax instead of logits" in result.stdout


def test_scores_that_do_not_say_how_they_were_measured_are_a_short_line(tmp_path):
    """Their data set, split and part are not named: whether those agree was asked already."""
    measured = says(drawn("motion"), chunks=25, flips=True, spatial="fully_conv", crop=32, short_side=40)
    files = [saved(tmp_path, "measured", measured), saved(tmp_path, "bare", says(drawn("b"), data=None, split=None))]
    wanted = "chunks, flips, spatial and 2 more (stated by only one of the two)"
    fused = call("scores", "fuse", *files, "-o", tmp_path / "fused.safetensors").stdout.splitlines()[0]
    assert fused == f"{files[1]} may have been measured in another way than {files[0]}: {wanted}"
    assert f"* bare: {wanted}" in " ".join(call("compare", *files).stdout.split())


def test_weights_are_chosen_on_the_same_split_and_on_other_videos(tmp_path):
    files = [saved(tmp_path, name, drawn(name, seed=seed)) for seed, name in enumerate(["appearance", "motion"])]

    def choose(**how: object) -> str:
        held = [saved(tmp_path, f"{name}-held", says(drawn(name, **how), part="validation")) for name in ("a", "b")]
        chosen = ["--choose-on", held[0], "--choose-on", held[1]]
        result = call("scores", "fuse", *files, "-o", tmp_path / "f.safetensors", *chosen, "--force")
        return errors_of(result)[0] if result.exit_code else result.stdout

    assert "is of split 2, not 1" in choose(split="2", part="train")
    assert "4 videos are in" in choose(split="1", part="test")
    assert "chosen on 12 other videos" in choose(split="1", part="train")


# Late fusion


def test_late_fusion_takes_its_split_and_part_from_the_scores(workspace, tmp_path):
    files = [saved(tmp_path, name, drawn(name, "2")) for name in ("appearance", "motion")]
    run = run_stage(workspace, "evaluate", late_fusion=files)
    assert run.results["protocol"]["split"] == run.record["options"]["split"] == "2"
    with pytest.raises(DataError, match=r"scores of data set acts, split 2, part test, but --split asks for 1"):
        run_stage(workspace, "evaluate", late_fusion=files, split="1")
    assert run_stage(workspace, "evaluate", late_fusion=files, split="2").path == run.path

    held = [saved(tmp_path, f"{name}-held", drawn(name, "2", "train")) for name in ("appearance", "motion")]
    training = run_stage(workspace, "evaluate", late_fusion=held)
    assert training.record["options"]["part"] == "train" and "box_shape_baseline" not in training.results
    with pytest.raises(DataError, match="part train, but --part asks for test"):
        run_stage(workspace, "evaluate", late_fusion=held, part="test")


def test_report_shows_a_late_fusion_under_its_own_split(workspace, tmp_path):
    files = [saved(tmp_path, name, drawn(name, "2")) for name in ("appearance", "motion")]
    late = run_stage(workspace, "evaluate", late_fusion=files)
    with pytest.raises(DataError, match="no finished evaluation of data set acts, split 1"):
        run_stage(workspace, "report")
    with pytest.raises(DataError, match="split 2, part test, but --split asks for 1"):
        run_stage(workspace, "report", evaluations=[late.name], split="1")
    [row] = run_stage(workspace, "report", split="2").results["table"]
    assert row["videos"] == 4


def test_scores_that_do_not_say_their_split_are_known_by_their_videos(workspace, tmp_path):
    """As older files, and those of other programs."""
    unknown = [says(drawn(name, "2"), data=None, split=None, part=None) for name in ("appearance", "motion")]
    files = [saved(tmp_path, f"{number}", scores) for number, scores in enumerate(unknown)]
    assert run_stage(workspace, "evaluate", late_fusion=files).record["options"]["split"] == "2"
    with pytest.raises(DataError, match=r"4 of its 4 videos are not on the test list of acts, split 1, such as 'v08'"):
        run_stage(workspace, "evaluate", late_fusion=files, split="1")
    both = says(drawn("x", part="train"), split=None).take(range(8))
    files = [saved(tmp_path, f"{number}", both) for number in range(2)]
    with pytest.raises(DataError, match=r"does not say its split, and fits splits 1, 2 of acts; name it with --split"):
        run_stage(workspace, "evaluate", late_fusion=files)
    assert run_stage(workspace, "evaluate", late_fusion=files, split="2").results["videos"] == 8


def test_scores_of_wrong_split_by_their_own_word_are_found_out(workspace, tmp_path):
    files = [saved(tmp_path, name, says(drawn(name, "2"), split="1")) for name in ("appearance", "motion")]
    with pytest.raises(DataError, match="4 of its 4 videos are not on the test list of acts, split 1"):
        run_stage(workspace, "evaluate", late_fusion=files)


def test_set_that_has_changed_since_is_noticed(workspace, tmp_path):
    with Store(workspace.data_dir("acts")) as store:
        assert store.videos["v12"].source_hash
        content, now = [store.videos[name].source_hash for name in SPLITS["1"]["test"]], store.fingerprint

    def fuse(fingerprint: str, hashes: list[str]) -> str:
        files = []
        for name in ("appearance", "motion"):
            scores = says(drawn(name), data_fingerprint=fingerprint)
            scores.hashes[:] = hashes
            files.append(saved(tmp_path, name, scores))
        result = call("evaluate", "--late-fusion", *files, "-w", workspace.root, "--force")
        return result.stderr

    assert "has changed since" not in fuse(now, content)
    assert "appearance.safetensors: data set acts has changed since it was tested" in fuse("earlier", content)
    assert "the file of 'v12' in data set acts has changed since it was tested; test again" in fuse(
        "earlier", ["x", *content[1:]]
    )


# Models


def test_evaluation_records_the_content_that_it_tested(trained):
    with Store(trained.data_dir("synthetic")) as store:
        for run in trained.runs():
            if run.record["verb"] == "evaluate":
                scores = load_scores(run.output("scores"))
                assert scores.protocol["data_fingerprint"] == store.fingerprint
                assert scores.hashes == [store.videos[name].source_hash for name in scores.ids]


def second_split(workspace: Workspace) -> None:
    """Give the synthetic set a second split that tests half of the first one's test videos."""
    header = read_header(workspace.data_dir("synthetic"))
    first = header.splits["1"]
    second = {"train": first["train"] + first["test"][:6], "test": first["test"][6:]}
    header.model_copy(update={"splits": {"1": first, "2": second}}).write(workspace.data_dir("synthetic"))


def test_models_are_tested_on_the_split_of_the_scores_beside_them(own):
    second_split(own)
    scores = run_stage(own, "evaluate", model="appearance", split="2", chunks=1)
    late = run_stage(own, "evaluate", late_fusion=[scores.name, "motion"], chunks=1)
    assert (late.results["videos"], late.results["protocol"]["split"]) == (6, "2")
    with pytest.raises(StmnError, match="split 2, part test, but --split asks for 1"):
        run_stage(own, "evaluate", late_fusion=[scores.name, "motion"], split="1", chunks=1)
    with pytest.raises(StmnError, match="scores of one split; with --split all, name models"):
        run_stage(own, "evaluate", late_fusion=[scores.name, "motion"], split="all")


def test_model_is_tested_on_its_own_split(own):
    header = read_header(own.data_dir("synthetic"))
    header.model_copy(update={"splits": {"first": header.splits["1"], "1": header.splits["1"]}}).write(
        own.data_dir("synthetic")
    )
    run = run_stage(own, "evaluate", model="appearance", chunks=1)
    assert run.results["protocol"]["split"] == "1"
    about = json.loads(call("scores", "show", run.name, "-w", own.root, "--json").stdout)["protocol"]
    assert about["part"] == "test" and about["average"] == "logits"
