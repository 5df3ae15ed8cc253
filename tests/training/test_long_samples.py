"""Samples of many chunks: the paper trains its filters on up to 11 (section 5.2)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import call
from helpers.films import moving
from helpers.made_sets import MadeVideo, make_set

from stmn.nets.checkpoint import load_checkpoint
from stmn.sampling.clips import Clips, Sampling
from stmn.store.format.read import Store
from stmn.workspace import Workspace

SMALL = [
    "--size", 32, "--arch", "resnet18", "--width", 0.125, "--weights", "none", "--validation", 0, "--steps", 1, "--batch", 4,
    "--schedule", "cosine",
]  # fmt: skip
TIED = ["--chunks", 11, "--validation", 0, "--steps", 2, "--batch", 4, "--schedule", "cosine"]


def workspace(root: Path, *lengths: int) -> Workspace:
    """A workspace with training videos of these lengths, in frames, of two classes by turns."""
    made = Workspace(root)
    films = []
    for seed, length in enumerate(lengths):
        frames = torch.from_numpy(np.stack(moving(length, 32, 40, dy=1, seed=seed)))
        levels = torch.full((length - 1, 2, 32, 40), 120 + 10 * seed, dtype=torch.uint8)
        films.append(MadeVideo(f"v{seed}", ("run", "jump")[seed % 2], frames, levels))
    make_set(made.data_dir("films"), films)
    return made


@pytest.mark.parametrize("injector", ["residual", "skip"])
def test_network_is_trained_on_11_chunks(injector, tmp_path):
    """61 frames hold 11 chunks of 10 fields, 5 frames apart; one frame less does not."""
    space = workspace(tmp_path, 61, 70, 60, 15)
    for modality in ("rgb", "flow"):
        assert call("train-stream", "--modality", modality, *SMALL, "-w", tmp_path).exit_code == 0
    result = call("fuse", *TIED, "--injector", injector, "--temporal-init", "average", "-w", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert (
        "2 of 4 training videos are too short for 11 chunks, 5 frames apart, so their chunks are spread evenly"
        in result.stderr.splitlines()
    )
    run = space.newest("model", injector=injector)
    assert run.record["options"]["chunks"] == 11
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert rows and all(np.isfinite(row["loss"]) for row in rows)
    taps = [value for name, value in load_checkpoint(run.output("model"))[0].state_dict().items() if "temporal" in name]
    assert taps and all(value.isfinite().all() for value in taps)


def test_11_chunks_of_long_and_short_videos(tmp_path):
    space = workspace(tmp_path, 100, 15)
    store = Store(space.data_dir("films"))
    sampling = Sampling(("rgb", "flow"), 32, 10, 11, (5, 9), "centre", 0)
    clips = Clips(store, store.part("1", "train"), sampling)
    long, short = clips[0, 0], clips[0, 1]
    for sample in (long, short):
        assert sample["rgb"].shape == (11, 3, 32, 32) and sample["flow"].shape == (11, 20, 32, 32)
    assert len(np.unique(long["rgb"].numpy(), axis=0)) == 11  # all different
    assert len(np.unique(short["rgb"].numpy(), axis=0)) == 5  # all that the video has: frames 5 to 9


def test_nothing_is_said_of_videos_that_are_long_enough(tmp_path):
    workspace(tmp_path, 61, 70)
    result = call("train-stream", *SMALL, "--chunks", 11, "-w", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert "too short" not in result.stderr
