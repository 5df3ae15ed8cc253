"""A set of UCF101's classes with a few videos stored, and scores that are as good as the paper's: drawn, not measured."""

from pathlib import Path

import numpy as np
import torch

from helpers.films import moving
from helpers.made_sets import Made, make_set
from stmn.evaluation.scores import Scores, fuse_late
from stmn.store.format.header import read_header
from stmn.workspace import Workspace

CLASSES = [f"Class{number:03d}" for number in range(99)] + ["BalanceBeam", "HandstandPushups <&>"]
TESTED = 3
IDS = [f"v_{name}_g01_c{take:02d}" for name in CLASSES for take in range(TESTED)]
LABELS = [number for number in range(len(CLASSES)) for _ in range(TESTED)]


def paper_sized(root: Path, dataset: str = "ucf101", classes: int = 101) -> Workspace:
    """A workspace with a set `big` of `classes` classes, as that plugin would have made it: its first two videos."""
    workspace = Workspace(root)
    films = [
        Made(id, name, torch.from_numpy(np.stack(moving(8, seed=seed))), torch.full((7, 2, 48, 64), 150 - 40 * seed, dtype=torch.uint8), "test")
        for seed, (id, name) in enumerate([(IDS[0], CLASSES[0]), (IDS[3], CLASSES[1])])
    ]  # fmt: skip
    folder = make_set(workspace.data_dir("big"), films)
    header = read_header(folder)
    changes = {"classes": CLASSES[:classes], "dataset": header.dataset | {"name": dataset}}
    header.model_copy(update=changes | {"splits": {"1": {"train": [], "test": IDS[: classes * TESTED]}}}).write(folder)
    return workspace


def drawn_scores(root: Path, classes: int = 101) -> dict[str, Path]:
    """Scores files of both streams, of their late fusion, and of a gated network that gains in most classes."""
    generator = torch.Generator().manual_seed(0)
    labels = LABELS[: classes * TESTED]
    truth = torch.nn.functional.one_hot(torch.tensor(labels), classes).float()

    def stream(sureness: float) -> torch.Tensor:
        return sureness * truth + torch.randn(truth.shape, generator=generator)

    about = {"words": "25 chunks", "split": "1", "data": "big", "chunks": 25}

    def scores(**streams: torch.Tensor) -> Scores:
        return Scores(IDS[: len(labels)], CLASSES[:classes], labels, streams, about)

    made = {"appearance": scores(appearance=stream(2.6)), "motion": scores(motion=stream(2.9))}
    made["late"] = fuse_late(list(made.values()), None, list(made))
    made["fused"] = scores(appearance=stream(3.4), motion=stream(3.6))
    for tensor in made["fused"].streams.values():
        tensor[0, 5] = 12.0  # its surest mistake is of a video that the set holds
    for name, part in made.items():
        part.save(root / name / "scores.safetensors")
    return {name: root / name / "scores.safetensors" for name in made}
