"""Fusion with an SVM on hand-crafted features (section 5.4)."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_stage
from helpers.films import moving
from helpers.made_sets import MadeVideo, make_set
from torch import Tensor

from stmn.errors import DataError
from stmn.evaluation.kinds import find_features
from stmn.evaluation.scores import Scores, load_scores
from stmn.flow.quantise import quantise
from stmn.idt.grid import bin_orientations, describe_video
from stmn.idt.svm import score_with_svm
from stmn.store.format.header import read_header
from stmn.store.format.read import Store
from stmn.workspace import Run, Workspace

#: class name -> flow in pixels
DIRECTIONS = {"down": (0, 3), "left": (-3, 0), "right": (3, 0)}


def videos() -> Iterator[MadeVideo]:
    """Textures moving in one direction, with noisy flow: an SVM on HOF can tell them apart."""
    for number in range(30):
        class_name, (dx, dy) = list(DIRECTIONS.items())[number % 3]
        frames = torch.from_numpy(np.stack(moving(6, 32, 32, dx, dy, seed=number)))
        noise = torch.randn(5, 2, 32, 32, generator=torch.Generator().manual_seed(number)) / 2
        flow = torch.tensor([dx, dy]).view(1, 2, 1, 1) + noise
        part = "test" if number >= 18 else "train"
        yield MadeVideo(f"{part}{number}", class_name, frames, quantise(flow, 20.0), part)


@pytest.fixture(scope="module")
def moves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_set(tmp_path_factory.mktemp("sets") / "moves", videos())


@pytest.fixture
def workspace(moves: Path, tmp_path: Path) -> Workspace:
    """A workspace with that set, and random network scores."""
    shutil.copytree(moves, tmp_path / "work" / "data" / "moves")
    guesses("network", 1).save(tmp_path / "network.safetensors")
    return Workspace(tmp_path / "work")


def guesses(stream: str, seed: int, scale: float = 1.0, order: int = 1) -> Scores:
    """Random scores of the test videos, in order or reversed."""
    ids = [f"test{number}" for number in range(18, 30)][::order]
    labels = [int(name.removeprefix("test")) % 3 for name in ids]
    values = torch.randn(12, 3, generator=torch.Generator().manual_seed(seed)) * scale
    return Scores(ids, sorted(DIRECTIONS), labels, {stream: values[::order] if order == 1 else values.flip(0)}, {})


def fuse_idt(workspace: Workspace, **options: object) -> Run:
    return run_stage(
        workspace,
        "fuse-idt",
        **({"scores": str(workspace.root.parent / "network.safetensors"), "features": "grid"} | options),
    )


def unit(values: Tensor) -> Tensor:
    """Scores with L2 norm 1 per video."""
    return values / values.square().sum(dim=1, keepdim=True).sqrt()


def test_network_and_svm_scores_are_normalised_and_averaged(workspace, tmp_path):
    network, svm = guesses("network", 1).streams["network"], guesses("svm", 2, scale=50.0).streams["svm"]
    guesses("svm", 2, scale=50.0, order=-1).save(tmp_path / "idt.safetensors")  # rows in another order
    run = fuse_idt(workspace, idt_scores=str(tmp_path / "idt.safetensors"))
    fused = load_scores(run.output("scores"))
    assert fused.ids == guesses("network", 1).ids and set(fused.streams) == {"network", "svm"}
    torch.testing.assert_close(fused.mean(), (unit(network) + unit(svm)) / 2)
    assert "idt_scores" not in run.record["outputs"]  # the given file was used

    weighted = fuse_idt(workspace, idt_scores=str(tmp_path / "idt.safetensors"), weights=[1.0, 3.0])
    mean = load_scores(weighted.output("scores")).mean()
    assert torch.equal(mean.argmax(dim=1), (unit(network) + 3 * unit(svm)).argmax(dim=1))
    raw = fuse_idt(workspace, idt_scores=str(tmp_path / "idt.safetensors"), normalise_network=False)
    torch.testing.assert_close(load_scores(raw.output("scores")).mean(), (network + unit(svm)) / 2)


def test_files_of_several_streams_are_averaged_first(workspace, tmp_path):
    for name, seeds in (("network", (1, 3)), ("idt", (2, 4))):
        scores = guesses("first", seeds[0])
        scores.streams["second"] = guesses("second", seeds[1]).streams["second"]
        scores.save(tmp_path / f"{name}.safetensors")
    run = fuse_idt(workspace, idt_scores=str(tmp_path / "idt.safetensors"))
    values = {seed: guesses("any", seed).streams["any"] for seed in (1, 2, 3, 4)}
    expected = (unit(values[1] + values[3]) + unit(values[2] + values[4])) / 2
    torch.testing.assert_close(load_scores(run.output("scores")).mean(), expected)


def test_scores_of_other_videos_or_classes_are_refused(workspace, tmp_path):
    path = tmp_path / "idt.safetensors"
    svm = guesses("svm", 2)
    others = {
        "no scores of 'test18'": Scores(["new", *svm.ids[1:]], svm.classes, svm.labels, svm.streams, {}),
        "scores of other classes": Scores(svm.ids, ["down", "left", "up"], svm.labels, svm.streams, {}),
    }
    for what, scores in others.items():
        scores.save(path)
        with pytest.raises(DataError, match=what):
            fuse_idt(workspace, idt_scores=str(path))


def test_own_svm_recognises_motions_the_network_does_not(workspace):
    run = fuse_idt(workspace)
    assert run.results["streams"]["network"] < 0.7
    assert run.results["streams"]["svm"] > 0.9  # chance is 1/3
    assert run.results["accuracy"] > run.results["streams"]["network"]
    own = load_scores(run.output("idt_scores"))
    assert own.ids == guesses("network", 1).ids

    again = fuse_idt(workspace, idt_scores=str(run.output("idt_scores")))  # the file can be passed to another fusion
    assert torch.equal(load_scores(again.output("scores")).mean(), load_scores(run.output("scores")).mean())


@pytest.mark.parametrize(
    ("about", "kind", "stream", "words"),
    [
        (None, "grid", "svm", "SVM on a grid"),
        ({"words": "linear SVM on HOG, HOF and MBH histograms over a grid"}, "grid", "svm", "SVM on a grid"),
        ({"words": "SVM on IDT"}, "given", "svm", "given scores"),
        ({"words": "SVM on IDT", "features": "idt"}, "idt", "idt", "IDT"),
    ],
)
def test_only_scores_that_say_so_are_called_idt(workspace, tmp_path, about, kind, stream, words):
    given = {}
    if about is not None:
        svm = guesses("svm", 2)
        Scores(svm.ids, svm.classes, svm.labels, svm.streams, about).save(tmp_path / "svm.safetensors")
        given = {"idt_scores": str(tmp_path / "svm.safetensors")}
    run = fuse_idt(workspace, **given)
    protocol = load_scores(run.output("scores")).protocol
    assert find_features(protocol) == kind and set(run.results["streams"]) == {"network", stream}
    assert run.results["of"][-1] == words
    assert run.results["calibration_error"] is None  # scores of unit length have no confidence


def test_fuse_idt_needs_an_evaluation(workspace):
    with pytest.raises(DataError, match="no scores of moves in this workspace; make them with: stmn evaluate"):
        run_stage(workspace, "fuse-idt")


# What the SVM may learn from


def test_svm_learns_nothing_from_what_it_is_tested_on(noise, tmp_path):
    """On noise nothing can be learned, but everything remembered: a leak would show as 100 %."""
    scores = noise_scores("2")
    scores.save(tmp_path / "second.safetensors")
    run = run_stage(noise, "fuse-idt", features="grid", scores=str(tmp_path / "second.safetensors"))
    assert run.record["options"]["split"] == "2"
    svm = load_scores(run.output("idt_scores"))
    assert svm.protocol["split"] == "2" and svm.protocol["training_videos"] == 30
    assert run.results["streams"]["svm"] < 0.95 and run.results["protocol"]["split"] == "2"
    wrong = {"1": "scores of data set noise, split 2, part test, but --split asks for", "all": "has no split 'all'"}
    for split, message in wrong.items():
        with pytest.raises(DataError, match=message):
            run_stage(noise, "fuse-idt", features="grid", scores=str(tmp_path / "second.safetensors"), split=split)
    with pytest.raises(DataError, match="no prepared data set"):
        run_stage(noise, "fuse-idt", features="grid", scores=str(tmp_path / "second.safetensors"), data="other")


def test_scored_videos_are_not_learned_from_whatever_a_file_says(noise, tmp_path):
    """Scores from elsewhere may be of a few training videos."""
    some = noise_scores("1", "train").take(range(10))
    some.save(tmp_path / "some.safetensors")
    run = run_stage(noise, "fuse-idt", features="grid", scores=str(tmp_path / "some.safetensors"))
    assert load_scores(run.output("idt_scores")).protocol["training_videos"] == 30 - 10
    assert run.results["streams"]["svm"] < 0.95


def test_copies_of_scored_videos_are_not_learned_from(tmp_path):
    """n00, which is in the training list, is the same file as n30, which is tested."""
    noise = noise_workspace(tmp_path, copies={"n00": "n30"})
    noise_scores("1").save(tmp_path / "scores.safetensors")
    run = run_stage(noise, "fuse-idt", features="grid", scores=str(tmp_path / "scores.safetensors"))
    assert load_scores(run.output("idt_scores")).protocol["training_videos"] == 30 - 1


def test_scores_of_the_whole_training_list_leave_nothing_to_learn_from(noise, tmp_path):
    noise_scores("1", "train").save(tmp_path / "all.safetensors")
    with pytest.raises(DataError, match=r"of the 30 training videos of split 1 none is left; fuse scores of test"):
        run_stage(noise, "fuse-idt", features="grid", scores=str(tmp_path / "all.safetensors"))
    assert not list(noise.runs_dir.glob("*"))


def test_groups_that_training_held_out_are_kept_apart(tmp_path):
    """n00 and n01 are of one recording, and so on: with n00 scored, n01 is not learned from."""
    noise = noise_workspace(tmp_path, group=2)
    held = noise_scores("1", "train").take([0, 3, 6])
    held.protocol["part"] = "validation"
    held.save(tmp_path / "held.safetensors")
    run = run_stage(noise, "fuse-idt", features="grid", scores=str(tmp_path / "held.safetensors"))
    assert load_scores(run.output("idt_scores")).protocol["training_videos"] == 30 - 6


def test_scores_of_svm_must_be_of_the_same_split(noise, tmp_path):
    network, svm = noise_scores("2"), noise_scores("2")
    svm.protocol["split"] = "1"
    network.save(tmp_path / "network.safetensors")
    svm.save(tmp_path / "svm.safetensors")
    files = {"scores": str(tmp_path / "network.safetensors"), "idt_scores": str(tmp_path / "svm.safetensors")}
    with pytest.raises(DataError, match=r"svm.safetensors and .*network.safetensors .*\(split 1, not 2\)"):
        run_stage(noise, "fuse-idt", features="grid", **files)
    svm.protocol.clear()  # a file from elsewhere, which says nothing
    svm.save(tmp_path / "svm.safetensors")
    assert run_stage(noise, "fuse-idt", features="grid", **files).results["videos"] == 10


NOISE_LABELS = torch.randint(2, (40,), generator=torch.Generator().manual_seed(3)).tolist()


def noise_workspace(root: Path, group: int = 1, copies: dict[str, str] | None = None) -> Workspace:
    """40 videos of noise with labels that mean nothing; split 2 tests what split 1 trains on."""
    generator = torch.Generator().manual_seed(0)
    names = [f"n{number:02d}" for number in range(40)]
    films = [
        MadeVideo(
            name,
            "ab"[NOISE_LABELS[number]],
            torch.randint(256, (6, 32, 32, 3), generator=generator, dtype=torch.uint8),
            torch.randint(60, 200, (5, 2, 32, 32), generator=generator, dtype=torch.uint8),
            group=f"g{number // group:02d}",
            content=(copies or {}).get(name, name),
        )
        for number, name in enumerate(names)
    ]
    folder = make_set(root / "work" / "data" / "noise", films)
    splits = {
        "1": {"train": names[:30], "test": names[30:]},
        "2": {"train": names[10:], "test": names[:10]},
    }
    read_header(folder).model_copy(update={"splits": splits}).write(folder)
    return Workspace(root / "work")


@pytest.fixture
def noise(tmp_path: Path) -> Workspace:
    return noise_workspace(tmp_path)


def noise_scores(split: str, part: str = "test") -> Scores:
    """Random scores of a part of the noise."""
    names = [f"n{number:02d}" for number in range(40)]
    parts = {"1test": names[30:], "1train": names[:30], "2test": names[:10]}
    ids = parts[split + part]
    values = torch.randn(len(ids), 2, generator=torch.Generator().manual_seed(1))
    labels = [NOISE_LABELS[names.index(name)] for name in ids]
    return Scores(ids, ["a", "b"], labels, {"network": values}, {"data": "noise", "split": split, "part": part})


# Descriptors


def described(frames: Tensor, levels: Tensor, folder: Path) -> dict[str, Tensor]:
    """HOG, HOF, MBHx and MBHy of one video: (3 spans, bins, 4 x 4 cells)."""
    store = Store(make_set(folder, [MadeVideo("v", "a", frames, levels)]))
    vector = torch.from_numpy(describe_video(store, store.videos["v"]))
    parts = vector.split([3 * bins * 16 for bins in (8, 9, 8, 8)])
    return {name: part.view(3, -1, 4, 4) for name, part in zip(("HOG", "HOF", "MBHx", "MBHy"), parts, strict=True)}


def constant(u: float, v: float, fields: int = 9) -> Tensor:
    return quantise(torch.tensor([u, v]).view(1, 2, 1, 1).expand(fields, -1, 32, 32), 20.0)


def test_hof_bins_directions_and_ninth_bin_is_stillness(tmp_path):
    frames = torch.from_numpy(np.stack(moving(10, 32, 32)))
    for direction, (u, v) in enumerate([(3, 0), (3, 3), (0, 3), (-3, 3), (-3, 0), (-3, -3), (0, -3), (3, -3)]):
        hof = described(frames, constant(u, v), tmp_path / f"{direction}")["HOF"]
        assert hof.sum(dim=(0, 2, 3)).argmax() == direction  # u to the right, v downwards
        assert hof[:, 8].sum() == 0
    still = described(frames, constant(0, 0), tmp_path / "still")["HOF"]
    assert still[:, 8].min() > 0 and still[:, :8].sum() == 0


def test_mbh_sees_motion_boundaries_not_camera_motion(tmp_path):
    frames = torch.from_numpy(np.stack(moving(10, 32, 32)))
    assert described(frames, constant(4, 2), tmp_path / "camera")["MBHx"].abs().max() < 0.05
    half = constant(0, 0)
    half[:, 0, :, 16:] = constant(4, 0)[:, 0, :, 16:]  # the right half moves
    mbh = described(frames, half, tmp_path / "half")
    assert mbh["MBHx"].sum(dim=(0, 2, 3)).argmax() == 0  # u grows to the right
    assert mbh["MBHx"][:, 0, :, 1:3].sum() > 0.9 * mbh["MBHx"].sum()  # at the boundary
    assert mbh["MBHy"].abs().max() == 0


def test_descriptors_have_unit_length_at_any_contrast(tmp_path):
    frames = torch.from_numpy(np.stack(moving(10, 32, 32)))
    levels = constant(2, 1)
    levels[:, :, ::3] += 9
    strong = described(frames, levels, tmp_path / "strong")
    weak = described(96 + frames // 4, levels, tmp_path / "weak")
    for parts in (strong, weak):
        assert all(float(part.square().sum()) == pytest.approx(1, abs=1e-4) for part in parts.values())
    assert float((strong["HOG"] * weak["HOG"]).sum()) > 0.95


@pytest.mark.parametrize("frames", [1, 2, 3, 40])
def test_videos_of_any_length_have_descriptors_of_one_size(frames, tmp_path):
    pictures = torch.from_numpy(np.stack(moving(frames, 32, 32)))
    store = Store(make_set(tmp_path / "set", [MadeVideo("v", "a", pictures, constant(1, 0, frames - 1))]))
    vector = describe_video(store, store.videos["v"])
    assert vector.shape == (3 * 16 * (8 + 9 + 8 + 8),) and vector.dtype == np.float32
    assert np.isfinite(vector).all()


def test_vector_between_two_directions_is_shared():
    angle = torch.tensor([0.25]) * np.pi / 4  # a quarter of the way from the first to the second of 8 directions
    bins = bin_orientations(2 * torch.cos(angle).view(1, 1, 1), 2 * torch.sin(angle).view(1, 1, 1)).flatten()
    assert bins.tolist() == pytest.approx([1.5, 0.5, 0, 0, 0, 0, 0, 0], abs=1e-5)


# The SVM


def clouds(classes: int, per_class: int, seed: int) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(seed)
    labels = [c for c in range(classes) for _ in range(per_class)]
    return (np.eye(5)[labels] + 0.1 * rng.normal(size=(len(labels), 5))).astype(np.float32), labels


def train_and_score(train: np.ndarray, labels: list[int], test: np.ndarray, classes: int) -> Tensor:
    return score_with_svm(lambda number: train[number], labels, lambda number: test[number], len(test), classes)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_svm_separates_what_is_separable(classes):
    train, labels = clouds(classes, 8, seed=1)
    test, wanted = clouds(classes, 4, seed=2)
    scores = train_and_score(train, labels, test, classes)
    assert scores.shape == (4 * classes, classes) and scores.dtype == torch.float32
    assert scores.argmax(dim=1).tolist() == wanted
    assert torch.equal(train_and_score(train, labels, test, classes), scores)


def test_class_without_training_videos_never_wins():
    train, labels = clouds(3, 8, seed=1)
    labels = [{0: 0, 1: 2, 2: 3}[label] for label in labels]  # no videos of classes 1 and 4
    test, _ = clouds(3, 4, seed=2)
    scores = train_and_score(train, labels, test, 5)
    assert set(scores.argmax(dim=1).tolist()) == {0, 2, 3}
    assert torch.equal(scores[:, 1], scores.min(dim=1).values)


def test_training_list_of_one_class_is_refused():
    train, _ = clouds(1, 8, seed=1)
    with pytest.raises(DataError, match="one class"):
        train_and_score(train, [0] * 8, train, 3)
