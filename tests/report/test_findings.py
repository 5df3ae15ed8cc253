"""What a report says first: is the gated network better than the best stream, the late fusion, the box shapes?"""

import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import call
from helpers.films import moving
from helpers.made_sets import MadeVideo, make_set
from helpers.paper_sized import drawn_scores, paper_sized
from torch.nn.functional import one_hot

from stmn.evaluation.intervals import wilson_interval
from stmn.evaluation.metrics import measure
from stmn.evaluation.scores import Scores, fuse_late, load_scores
from stmn.report.paper import find_role
from stmn.store.format.header import read_header
from stmn.workspace import Workspace

#: as on Weizmann: each person does each action once
PERSONS, ACTIONS = 9, 10
IDS = [f"{person}/{action}" for person in range(PERSONS) for action in range(ACTIONS)]
LABELS = [number % ACTIONS for number in range(PERSONS * ACTIONS)]
ABOUT = {"words": "25 chunks", "data": "small", "split": "1", "part": "test", "average": "logits"}


def right_for(actions: int, *streams: str, persons: int = PERSONS, first: int = 0) -> Scores:
    """Scores that are correct for that many actions of every person, from action number `first` on."""
    labels = torch.tensor(LABELS[: persons * ACTIONS])
    predicted = torch.where((labels - first) % ACTIONS < actions, labels, (labels + 1) % ACTIONS)
    values = 3.0 * one_hot(predicted, ACTIONS).float()
    names, ids = [f"action{number}" for number in range(ACTIONS)], IDS[: len(labels)]
    return Scores(ids, names, labels.tolist(), {name: values.clone() for name in streams}, ABOUT, persons_of(ids))


def persons_of(ids: list[str]) -> list[str]:
    return [name.split("/")[0] for name in ids]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    """A workspace with a set `small` of two videos, which a report needs."""
    workspace = Workspace(tmp_path_factory.mktemp("findings"))
    film, still = torch.from_numpy(np.stack(moving(8))), torch.full((7, 2, 48, 64), 128, dtype=torch.uint8)
    folder = make_set(workspace.data_dir("small"), [MadeVideo(n, "action0", film, still, n) for n in ("train", "test")])
    names = [f"action{number}" for number in range(ACTIONS)]
    changes = {"classes": names, "splits": {"1": {"train": ["train"], "test": IDS}}}
    read_header(folder).model_copy(update=changes).write(folder)
    return workspace


def report_of(workspace: Workspace, folder: Path, baseline: dict | None = None, **scores: Scores) -> str:
    """The text of a report of these scores."""
    for name, part in scores.items():
        part.save(folder / name / "scores.safetensors")
        if baseline:
            results = {"metrics": "metrics.json", "scores": "scores.safetensors"}
            (folder / name / "metrics.json").write_text(json.dumps({"box_shape_baseline": baseline}))
            record = {
                "verb": "evaluate",
                "status": "done",
                "outputs": results,
                "fingerprint": f"{folder.name}-{name}",
                "options": {},
            }
            (folder / name / "run.json").write_text(json.dumps(record))
    files = ",".join(str(folder / name / "scores.safetensors") for name in scores)
    made = call("report", "-w", workspace.root, "--data", "small", "--evaluations", files, "--samples", 0)
    assert made.exit_code == 0, made.stderr
    return text_of(made.stdout)


def text_of(printed: str) -> str:
    """The text of the page that a report says it wrote."""
    page = Path(printed.splitlines()[-1].removeprefix("report: ")).read_text()
    return " ".join(unescape(re.sub(r"<[^<>]+>", " ", page)).split())


def test_first_sentence_compares_with_the_best_stream_and_with_late_fusion(workspace, tmp_path):
    streams = {"appearance": right_for(3, "appearance"), "motion": right_for(7, "motion")}
    late = fuse_late([right_for(4, "appearance"), right_for(4, "motion")], None, ["appearance", "motion"])
    fused = right_for(5, "appearance", "motion")
    first = report_of(workspace, tmp_path, **streams, late=late, fused=fused).split(" Accuracy fused ")[1]
    test = "exact sign-flip test over 9 groups, p = 0.004"
    assert first.startswith(
        f"(50.0 %) is 20.0 points below motion (70.0 %), the best single stream: clearly worse ({test}); it is 10.0 "
        f"points above late (40.0 %), the late fusion: clearly better ({test}). The best stream was chosen on "
        "these same test videos, which favours it a little."
    )


def test_one_stream_is_not_called_the_best(workspace, tmp_path):
    text = report_of(workspace, tmp_path, motion=right_for(2, "motion"), fused=right_for(8, "appearance", "motion"))
    assert "60.0 points above motion (20.0 %), the only single stream that was tested: clearly better" in text
    assert "The best stream was chosen" not in text


def test_three_persons_are_called_three_groups_that_cannot_decide(workspace, tmp_path):
    scores = {"motion": right_for(0, "motion", persons=3), "fused": right_for(10, "appearance", "motion", persons=3)}
    text = report_of(workspace, tmp_path, **scores)
    assert "100.0 points above motion" in text and "not clearly different (exact sign-flip test over 3 groups" in text
    assert "3 groups can't give a p below 0.25, whatever the difference." in text
    assert "Wilson's, over 3 groups" in text and "3 groups are too few to say how much groups differ" in text


def right_in(rows: range) -> Scores:
    """Scores of 30 unrelated videos that are correct in some rows."""
    labels = torch.tensor(LABELS[:30])
    predicted = torch.tensor([label if row in rows else (label + 1) % ACTIONS for row, label in enumerate(LABELS[:30])])
    names = [f"action{number}" for number in range(ACTIONS)]
    return Scores(IDS[:30], names, labels.tolist(), {"motion": 3.0 * one_hot(predicted, ACTIONS).float()}, ABOUT)


def test_box_shapes_are_judged_by_a_paired_test_not_by_intervals(workspace, tmp_path):
    """40.0 % against 13.3 % of 30 videos is clear if all differences are one way, though the intervals overlap."""
    names = [f"action{label if row < 4 else (label + 1) % ACTIONS}" for row, label in enumerate(LABELS[:30])]
    shapes = {"videos": 30, "accuracy": 4 / 30, "interval": list(wilson_interval(4, 30))}
    guesses = {"predictions": dict(zip(IDS, names, strict=False))}
    better = right_in(range(12))
    assert measure(better)["interval"][0] < shapes["interval"][1]
    assert "clearly better" not in report_of(workspace, tmp_path / "better", shapes | guesses, motion=better)
    other = report_of(workspace, tmp_path / "other", shapes | guesses, motion=right_in(range(4, 10)))
    assert "is not clearly better than a guess from frame size and length alone (13.3 %)" in other
    assert "(McNemar's exact test over 30 videos, p = 0.75)" in other
    unknown = report_of(workspace, tmp_path / "old", shapes, motion=right_in(range(13)))
    assert "was not tested: the guesses of single videos were not recorded. Evaluate again." in unknown


@pytest.mark.parametrize(
    ("svm", "role", "called"),
    [
        ({"words": "linear SVM on HOG, HOF and MBH histograms over a grid", "features": "grid"}, "svm", "with SVM"),
        pytest.param({"words": "an SVM's scores"}, "svm", "with SVM", marks=pytest.mark.slow),
        ({"words": "SVM on IDT", "features": "idt"}, "idt", "with IDT"),
    ],
)
def test_only_real_idt_stands_beside_the_papers_numbers_with_idt(tmp_path, svm, role, called):
    workspace = paper_sized(tmp_path / "work")
    files = drawn_scores(tmp_path / "scores")
    fused = load_scores(files["fused"])
    streams = {"network": fused.mean(), "svm": fused.mean()}
    about = fused.protocol | {"idt": svm, "idt_weights": [1.0, 1.0]}
    Scores(fused.ids, fused.classes, fused.labels, streams, about).save(tmp_path / "x" / "scores.safetensors")
    assert find_role(list(streams), about) == role
    made = call("report", "-w", workspace.root, "--data", "big", "--samples", 1, "--evaluations",
                f"{files['motion']},{tmp_path / 'x' / 'scores.safetensors'}")  # fmt: skip
    assert made.exit_code == 0, made.stderr
    text = text_of(made.stdout)
    assert ("94.9 Table 5, ours + IDT mean of 3 splits" in text) == (role == "idt")
    assert called in text
    assert "Not shown: x, whose scores are not a network's logits." in text  # a calibration error would mean nothing
