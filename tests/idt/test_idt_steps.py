"""Improved dense trajectories from video files to fused scores, as a user runs them."""

import gzip
import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import made_once
from helpers.commands import call, errors_of, start, write_recipe
from helpers.films import film

from stmn.evaluation.scores import Scores, load_scores
from stmn.idt.trajectories.parameters import TrackParameters
from stmn.idt.trajectories.tracks import read_tracks
from stmn.runtime.json_files import read_record, write_record
from stmn.workspace import Run, Workspace

#: class -> pixels per frame
DIRECTIONS = {"down": (0, 2), "left": (-2, 0), "right": (2, 0)}
#: videos of each class, three of them for testing
VIDEOS = 8


def scene(direction: tuple[int, int], seed: int, frames: int = 22) -> list[np.ndarray]:
    """A textured square, the same in all videos, that moves before a texture of the video's own that stands still."""
    behind = np.kron(np.random.default_rng(seed).integers(60, 200, (16, 16, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    square = np.kron(np.random.default_rng(7).integers(0, 256, (7, 7, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    start = 18 - 8 * np.array(direction)
    shown = []
    for t in range(frames):
        x, y = start + np.array(direction) * min(t, frames - 1) * 16 // frames
        picture = behind.copy()
        picture[max(y, 0) : y + 28, max(x, 0) : x + 28] = square[max(-y, 0) :, max(-x, 0) :][
            : 64 - max(y, 0), : 64 - max(x, 0)
        ]
        shown.append(picture)
    return shown


@pytest.fixture(scope="session")
def moves(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with 24 prepared videos, and the scores of a network that guesses; tests only read it."""

    def make(folder: Path) -> None:
        for name, direction in DIRECTIONS.items():
            for number in range(VIDEOS):
                part = "test" if number >= 5 else "train"
                film(folder / "videos" / part / name / f"{number}.avi", scene(direction, 10 * number + len(name)))
        assert call("prepare", folder / "videos", "moves", "--short-side", 64, "-w", folder).exit_code == 0
        guesses(Workspace(folder)).save(folder / "network.safetensors")

    return Workspace(made_once(tmp_path_factory, "moves", make))


@pytest.fixture(scope="session")
def fused(moves: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """That workspace after `fuse-idt`."""

    def make(folder: Path) -> None:
        shutil.copytree(moves.root, folder, dirs_exist_ok=True)
        result = call("fuse-idt", "--scores", folder / "network.safetensors", "-w", folder)
        assert result.exit_code == 0, result.stderr
        (folder / "said.txt").write_text(result.stdout + result.stderr)

    return Workspace(made_once(tmp_path_factory, "fused-moves", make))


@pytest.fixture
def own_moves(fused: Workspace, tmp_path: Path) -> Workspace:
    """A copy to write in."""
    shutil.copytree(fused.root, tmp_path / "own")
    return Workspace(tmp_path / "own")


def guesses(workspace: Workspace, part: str = "test") -> Scores:
    """Random scores of the videos of a part."""
    header = json.loads((workspace.root / "data" / "moves" / "dataset.json").read_text())
    ids, classes = header["splits"]["1"][part], header["classes"]
    values = torch.randn(len(ids), len(classes), generator=torch.Generator().manual_seed(0))
    return Scores(ids, classes, [classes.index(i.split("/")[1]) for i in ids], {"network": values}, {"part": part})


def run_of(workspace: Workspace, label: str) -> Run:
    """The newest finished run with a label."""
    return next(run for run in workspace.runs() if run.name.startswith(label) and run.done)


def test_fuse_idt_does_all_that_is_not_done_yet(fused):
    verbs = {run.record["verb"] for run in fused.runs()}
    assert verbs == {"idt-extract", "idt-fit", "idt-encode", "idt-score", "fuse-idt"}
    results = run_of(fused, "fused-idt").results
    assert results["of"][-1] == "IDT"
    assert results["streams"]["idt"] > 0.8  # chance is a third
    assert results["streams"]["network"] < 0.8
    scores = load_scores(run_of(fused, "fused-idt").output("idt_scores"))
    assert scores.protocol["features"] == "idt" and scores.protocol["split"] == "1"
    assert scores.protocol["training_videos"] == 15


def test_the_table_shows_network_idt_and_both_with_paired_counts(fused):
    said = (fused.root / "said.txt").read_text().splitlines()
    for begins in ("network", "IDT", "both"):
        assert any(line.startswith(f"{begins} ") and line.count("%") and "[" in line for line in said), begins
    [pair] = [line for line in said if line.startswith("both against network")]
    paired = run_of(fused, "fused-idt").results["paired"]["network"]
    assert f"correct where it is wrong {paired['both_correct']}" in pair and "McNemar" in pair


def test_scores_of_svms_are_not_taken_for_a_networks(own_moves):
    newest = call("fuse-idt", "-w", own_moves.root)  # only scores of SVMs are there, and the network's file
    assert newest.exit_code == 1 and "no scores of moves" in errors_of(newest)[0]
    for name in ("idt-scores", "fused-idt"):
        result = call("fuse-idt", "--scores", name, "-w", own_moves.root)
        assert result.exit_code == 1 and "holds scores of SVMs already" in errors_of(result)[0]


def test_nothing_is_done_twice(own_moves):
    before = {run.name: run.record["finished"] for run in own_moves.runs()}
    for command in (["fuse-idt", "--scores", own_moves.root / "network.safetensors"], ["idt", "score"], ["idt", "fit"]):
        result = call(*command, "-w", own_moves.root)
        assert result.exit_code == 0 and "up to date" in result.stdout + result.stderr
    assert {run.name: run.record["finished"] for run in own_moves.runs()} == before


def test_gaussians_see_training_videos_only(fused):
    codebook = run_of(fused, "idt-codebook").results
    assert codebook["videos"] == 15 and codebook["gaussians"] == 16  # nearest to 15 videos
    kept = run_of(fused, "idt-tracks").results
    assert codebook["descriptors"] < kept["kept"] == kept["tracks"]


def test_a_model_is_tested_first(own_moves):
    """`--model` in place of `--scores`: the network is tested, unless that is up to date."""
    tiny = [
        "--arch", "resnet18", "--width", "0.125", "--weights", "none", "--size", "32", "--batch", "4", "--micro-batch",
        "4", "--steps", "1", "--schedule", "cosine", "--validation", "0",
    ]  # fmt: skip
    assert call("train-stream", "--modality", "flow", *tiny, "-w", own_moves.root).exit_code == 0
    result = call("fuse-idt", "--model", "motion", "-w", own_moves.root)
    assert result.exit_code == 0, result.stderr
    assert run_of(own_moves, "test").record["verb"] == "evaluate"
    assert run_of(own_moves, "fused-idt").results["streams"]["idt"] > 0.8


def test_descriptors_beyond_the_budget_are_tracked_again(own_moves):
    """Each video keeps a sample, from which Gaussians are fitted; Fisher vectors see all tracks."""
    result = call("idt", "score", "--keep", "0.001", "--gaussians", "8", "-w", own_moves.root)
    assert result.exit_code == 0, result.stderr
    tracks = run_of(own_moves, "idt-tracks").results
    assert tracks["kept"] < tracks["tracks"]
    size = sum(path.stat().st_size for path in run_of(own_moves, "idt-tracks").path.glob("shards/*"))
    assert size < 0.002e9
    assert run_of(own_moves, "idt-scores").results["accuracy"] > 0.6


def test_stored_frames_and_flow_serve_when_the_videos_are_gone(own_moves):
    shutil.rmtree(own_moves.root / "videos", ignore_errors=True)
    folder = own_moves.root / "data" / "moves"
    record = read_record(folder / "run.json")
    record["results"]["root"] = str(own_moves.root / "videos")
    write_record(folder / "run.json", record)
    gone = call("idt", "extract", "--flow", "dis", "-w", own_moves.root)
    assert gone.exit_code == 1 and len(errors_of(gone)) == 1
    assert "the videos of moves are no longer there; --from store tracks in the stored frames" in gone.stderr
    stored = call("idt", "score", "--flow", "stored", "-w", own_moves.root)
    assert stored.exit_code == 0, stored.stderr
    assert run_of(own_moves, "idt-tracks").results["from"] == "store"
    assert run_of(own_moves, "idt-scores").results["accuracy"] > 0.6


def test_tracks_of_the_original_program_serve(own_moves, tmp_path):
    """436 columns a line, one file per video."""
    texts = tmp_path / "texts"
    for path in sorted((own_moves.root / "videos").glob("*/*/*.avi")):
        out = texts / path.relative_to(own_moves.root / "videos").with_suffix(".txt.gz")
        out.parent.mkdir(parents=True, exist_ok=True)
        assert call("idt", "track", path, "--out", out).exit_code == 0
    with gzip.open(out, "rt") as file:
        assert len(file.readline().split()) == 436
    result = call("idt", "score", "--tracks", texts, "-w", own_moves.root)
    assert result.exit_code == 0, result.stderr
    own = load_scores(run_of(own_moves, "idt-scores").output("scores"))
    assert own.protocol["from"] == "text" and len(own.ids) == 9
    from_videos = load_scores(run_of(own_moves, "fused-idt").output("idt_scores"))
    assert torch.equal(own.mean().argmax(dim=1), from_videos.mean().argmax(dim=1))

    broken = texts / "train" / "down" / "0.txt.gz"
    with gzip.open(broken, "wt") as file:
        file.write("\t".join(["0"] * 435) + "\n")
    shutil.rmtree(run_of(own_moves, "idt-tracks").path)
    wrong = call("idt", "extract", "--tracks", texts, "-w", own_moves.root)
    assert wrong.exit_code == 1 and len(errors_of(wrong)) == 1
    assert "0.txt.gz, line 1: 435 columns, not 436" in wrong.stderr


def test_videos_without_tracks_get_a_zero_vector(tmp_path):
    """A still and one of ten frames among others: counted, not skipped."""
    for name, direction in DIRECTIONS.items():
        for number in range(4):
            part = "test" if number == 3 else "train"
            film(tmp_path / "videos" / part / name / f"{number}.avi", scene(direction, number))
    film(tmp_path / "videos/test/left/still.avi", scene((0, 0), 5))
    film(tmp_path / "videos/test/left/short.avi", scene((-2, 0), 6, frames=10))
    assert call("prepare", tmp_path / "videos", "odd", "--short-side", 64, "-w", tmp_path).exit_code == 0
    result = call("idt", "score", "-w", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert "2 of 14 videos have no tracks; their vectors are zero" in result.stdout + result.stderr
    assert run_of(Workspace(tmp_path), "idt-scores").results["videos"] == 5


def test_a_video_that_can_no_longer_be_read_costs_itself_alone(own_moves):
    folder = own_moves.root / "data" / "moves"
    record = read_record(folder / "run.json")
    shutil.copytree(record["results"]["root"], own_moves.root / "changed", dirs_exist_ok=True)
    record["results"]["root"] = str(own_moves.root / "changed")
    write_record(folder / "run.json", record)
    film = own_moves.root / "changed/test/left/7.avi"
    whole = film.read_bytes()
    film.write_bytes(b"junk")
    command = ["idt", "score", "--flow", "dis", "-w", own_moves.root]
    refused = call(*command)
    assert refused.exit_code == 1 and len(errors_of(refused)) == 1
    assert "1 of 24 videos was skipped, the first: 'test/left/7.avi'" in refused.stderr
    assert "--allow-failures 1 accepts this" in refused.stderr
    accepted = call(*command, "--allow-failures", 1)
    assert accepted.exit_code == 0, accepted.stderr
    assert run_of(own_moves, "idt-scores").results["videos"] == 8
    fusion = call("fuse-idt", "--scores", own_moves.root / "network.safetensors", *command[2:], "--allow-failures", 1)
    assert "no trajectories of 1 video" in errors_of(fusion)[0] and "test/left/7.avi" in errors_of(fusion)[0]
    film.write_bytes(whole)
    assert run_of(own_moves, "idt-tracks").results["skipped"] == 1
    again = call("idt", "extract", *command[2:], "--retry-skipped")  # though it is up to date
    assert again.exit_code == 0, again.stderr
    assert run_of(own_moves, "idt-tracks").results["skipped"] == 0
    later = call(*command)
    assert "which it follows from, has changed; making it again" in later.stderr
    assert run_of(own_moves, "idt-scores").results["videos"] == 9
    assert call(*command).stderr.count("making it again") == 0


def test_vectors_of_another_codebook_are_made_again(own_moves):
    command = ["idt", "score", "--flow", "dis", "-w", own_moves.root]
    assert call(*command).exit_code == 0
    before = run_of(own_moves, "idt-scores").output("scores").read_bytes()
    for name in ("idt-codebook", "idt-vectors"):
        run = run_of(own_moves, name)
        (run.output("codebook") if name == "idt-codebook" else run.path / "codebook.txt").write_bytes(b"another")
    vectors = run_of(own_moves, "idt-vectors").path
    (vectors / "shards" / "000.sqlite").write_bytes(b"another")
    again = call(*command)
    assert again.exit_code == 0, again.stderr
    assert run_of(own_moves, "idt-scores").output("scores").read_bytes() == before


@pytest.mark.slow
def test_all_folds_are_scored_as_one_list(own_moves, tmp_path):
    for number, path in enumerate(sorted((own_moves.root / "videos").glob("*/*/*.avi"))):
        target = tmp_path / "videos" / path.parent.name / f"v_{path.parent.name}_g{number % 4:02d}_c{number:02d}.avi"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    prepare = ["prepare", tmp_path / "videos", "folds", "--short-side", 64, "--split-by", "group", "-w", tmp_path]
    assert call(*prepare).exit_code == 0
    result = call("idt", "score", "--split", "all", "-w", tmp_path)
    assert result.exit_code == 0, result.stderr
    run = next(run for run in Workspace(tmp_path).runs() if run.record["options"].get("split") == "all")
    assert run.results["videos"] == 24 and run.results["units"] == 4
    scores = load_scores(run.output("scores"))
    assert len(set(scores.ids)) == 24 and scores.protocol["split"] == "all"
    assert call("report", "--split", "all", "-w", tmp_path).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--flow", "stored", "--from", "videos"], "--flow stored follows the flow of the set"),
        (["--flow", "stored", "--warp", "recompute"], "stored flow can't be computed again"),
        (["--flow", "tvl2"], "unknown flow 'tvl2' (did you mean 'tvl1'?)"),
        (["--flow-options", "windw=3"], "windw"),
        (["--tracks", "nowhere"], "nowhere: no such folder of tracks"),
        (["--boxes", "nowhere"], "nowhere: no such folder of boxes"),
        (["--data", "other"], "no prepared data set"),
    ],
)
def test_bad_options_are_one_line(moves, arguments, message):
    result = call("idt", "extract", *arguments, "-w", moves.root)
    assert result.exit_code in (1, 2) and len(errors_of(result)) == 1
    assert message in result.stderr
    assert not list(moves.runs_dir.glob("*"))


def test_scores_of_other_classes_or_splits_are_one_line(moves, tmp_path):
    scores = guesses(moves)
    Scores(scores.ids, ["a", "b", "c"], scores.labels, scores.streams, {}).save(tmp_path / "other.safetensors")
    result = call("fuse-idt", "--scores", tmp_path / "other.safetensors", "-w", moves.root)
    assert result.exit_code == 1 and "scores of other classes" in errors_of(result)[0]
    result = call("fuse-idt", "--scores", moves.root / "network.safetensors", "--split", "2", "-w", moves.root)
    assert result.exit_code in (1, 2) and len(errors_of(result)) == 1
    assert not list(moves.runs_dir.glob("*"))


def test_recipe_chains_the_steps(own_moves, tmp_path):
    recipe = write_recipe(
        tmp_path / "idt.toml", 'name = "idt"\ndata = "moves"',
        'id = "tracks"\nuses = "idt-extract"\nfrom = "store"', 'id = "svm"\nuses = "idt-score"\nfrom = "store"',
        f'id = "both"\nuses = "fuse-idt"\nscores = "{own_moves.root}/network.safetensors"\nidt_scores = "svm"',
    )  # fmt: skip
    result = call("run", recipe, "-w", own_moves.root)
    assert result.exit_code == 0, result.stderr
    assert run_of(own_moves, "fused-idt").results["of"][-1] == "IDT"
    assert "up to date" in call("run", recipe, "-w", own_moves.root).stderr


def test_interrupted_tracking_goes_on_where_it_was(moves, tmp_path):
    shutil.copytree(moves.root / "data", tmp_path / "data")
    process = start("idt", "extract", "--workers", "1", "--json", "-w", tmp_path)
    for line in process.stdout:
        if '"video"' in line:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    process.stderr.close()
    time.sleep(0.2)
    result = call("idt", "extract", "--json", "-w", tmp_path)
    assert result.exit_code == 0, result.stderr
    *events, record = [json.loads(line) for line in result.stdout.splitlines()]
    assert record["results"]["videos"] == 24 and 0 < len(events) < 24
    again = call("idt", "extract", "--json", "--force", "-w", moves.root)
    assert json.loads(again.stdout.splitlines()[-1])["results"]["tracks"] == record["results"]["tracks"]
    shutil.rmtree(moves.runs_dir)


def test_text_files_hold_the_numbers_that_were_computed(moves, tmp_path):
    video = next((moves.root / "videos").glob("*/*/*.avi"))
    assert call("idt", "track", video, "--out", tmp_path / "tracks.txt").exit_code == 0
    tracks = read_tracks(tmp_path / "tracks.txt")
    assert len(tracks) and tracks.rows.shape[1] == TrackParameters().columns
    assert "exists" in call("idt", "track", video, "--out", tmp_path / "tracks.txt").stderr
