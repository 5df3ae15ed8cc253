"""A set with UCF101's classes and a few stored videos, and scores as good as the paper's: drawn, not measured."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from helpers.films import moving
from helpers.made_sets import MadeVideo, make_set
from stmn.evaluation.scores import Scores, fuse_late
from stmn.store.format.header import read_header
from stmn.workspace import Workspace

CLASSES = [f"Class{number:03d}" for number in range(99)] + ["BalanceBeam", "HandstandPushups <&>"]
TESTED = 3
IDS = [f"v_{name}_g01_c{take:02d}" for name in CLASSES for take in range(TESTED)]
LABELS = [number for number in range(len(CLASSES)) for _ in range(TESTED)]


def paper_sized(root: Path, dataset: str = "ucf101", classes: Sequence[str] = CLASSES) -> Workspace:
    """A workspace with a set `big` of these classes, as that plugin would have made it: its first two videos."""
    workspace = Workspace(root)
    films = [
        MadeVideo(id, name, torch.from_numpy(np.stack(moving(8, seed=seed))), torch.full((7, 2, 48, 64), 150 - 40 * seed, dtype=torch.uint8), "test")
        for seed, (id, name) in enumerate([(IDS[0], classes[0]), (IDS[3], classes[1])])
    ]  # fmt: skip
    folder = make_set(workspace.data_dir("big"), films)
    header = read_header(folder)
    changes = {"classes": list(classes), "dataset": header.dataset | {"name": dataset}}
    header.model_copy(update=changes | {"splits": {"1": {"train": [], "test": IDS[: len(classes) * TESTED]}}}).write(
        folder
    )
    return workspace


class Drawing:
    """Draws logits for the first `len(classes)` classes' videos."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = list(classes)
        self.labels = LABELS[: len(classes) * TESTED]
        self.generator = torch.Generator().manual_seed(0)
        self.truth = torch.nn.functional.one_hot(torch.tensor(self.labels), len(classes)).float()

    def stream(self, quality: float) -> torch.Tensor:
        """(videos, classes) logits; about half of the videos are correct at a quality of 2.6, nearly all at 5."""
        return quality * self.truth + torch.randn(self.truth.shape, generator=self.generator)

    def scores(self, **streams: torch.Tensor) -> Scores:
        """Scores of these streams."""
        about = {"words": "25 chunks", "split": "1", "data": "big", "chunks": 25, "average": "logits"}
        return Scores(IDS[: len(self.labels)], self.classes, self.labels, streams, about)


def save_scores(root: Path, scores: dict[str, Scores]) -> dict[str, Path]:
    """Write each to a folder of its name."""
    for name, part in scores.items():
        part.save(root / name / "scores.safetensors")
    return {name: root / name / "scores.safetensors" for name in scores}


def drawn_scores(root: Path, classes: int = 101) -> dict[str, Path]:
    """Scores files of both streams, of their late fusion, and of a gated network that gains in most classes."""
    draw = Drawing(CLASSES[:classes])
    made = {"appearance": draw.scores(appearance=draw.stream(2.6)), "motion": draw.scores(motion=draw.stream(2.9))}
    made["late"] = fuse_late(list(made.values()), None, list(made))
    made["fused"] = draw.scores(appearance=draw.stream(3.4), motion=draw.stream(3.6))
    for tensor in made["fused"].streams.values():
        tensor[0, 5] = 12.0  # its most confident mistake is on a video that the set holds
    return save_scores(root, made)


def named_scores(root: Path, names: Sequence[str], classes: Sequence[str]) -> list[Path]:
    """A scores file per name: of one stream, of two, of a late fusion whose streams are fusions themselves, ..."""
    draw = Drawing(classes)
    found: dict[str, Scores] = {}
    for number, name in enumerate(names):
        motion = draw.scores(motion=draw.stream(2.0 + number))
        fused = draw.scores(appearance=draw.stream(2.2 + number), motion=draw.stream(2.4 + number))
        found[name] = (motion, fused, fuse_late([fused, motion], None, ["fused", "motion"]))[number % 3]
    return list(save_scores(root, found).values())
