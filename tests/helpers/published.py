"""Small stand-ins for data sets as they are published: their folders and lists, with clips that are made here."""

import json
import shutil
from pathlib import Path

import numpy as np

from helpers.extracted import two_stream
from helpers.films import film, moving

CLASSES = ("Surfing", "Walking")


def make_published(root: Path) -> None:
    """UCF101, HMDB51, KINETICS, an ActivityNet and an AVA list, and EXTRACTED, as the guide to data sets shows them."""
    ucf101, hmdb51 = root / "UCF101", root / "HMDB51"
    for number, action in enumerate(CLASSES):
        for group in range(1, 7):  # equal files would be one group
            clip = film(root / "clip-of-all.mp4", moving(24, dx=1 + number, seed=group))
            _copy(clip, ucf101 / "UCF-101" / action / f"v_{action}_g0{group}_c01.avi")
            _copy(clip, hmdb51 / "hmdb51_org" / action / f"film{group}_{action}_f_cm_np1_fr_med_0.avi")
    for split in (1, 2, 3):
        held_out = {2 * split - 1, 2 * split}
        for part, groups in (("train", set(range(1, 7)) - held_out), ("test", held_out)):
            names = [f"{action}/v_{action}_g0{group}_c01.avi" for action in CLASSES for group in sorted(groups)]
            _write(ucf101 / "ucfTrainTestlist" / f"{part}list0{split}.txt", *names)
        for action in CLASSES:
            rows = [f"film{n}_{action}_f_cm_np1_fr_med_0.avi {2 if n in held_out else 1} " for n in range(1, 7)]
            _write(hmdb51 / "testTrainMulti_7030_splits" / f"{action}_test_split{split}.txt", *rows)

    head = "label,youtube_id,time_start,time_end,split"
    for part, name in (("train", "a1"), ("validate", "b1")):
        _write(root / "KINETICS" / f"{part}.csv", head, f"{CLASSES[0]},{name},1,11,{part}", f"Gone,{name}x,1,11,{part}")
        _copy(clip, root / "KINETICS" / "videos" / f"{name}_000001_000011.mp4")

    for name in ("v_abc", "v_def", "ghi", "jkl"):
        film(root / "videos" / f"{name}.mp4", moving(125))
    parts = {"abc": "training", "def": "validation", "gone": "training"}
    found = {
        name: {"subset": part, "annotations": [{"segment": [0, 1], "label": CLASSES[0]}]}
        for name, part in parts.items()
    }
    _write(root / "activity_net.v1-3.min.json", json.dumps({"version": "1.3", "database": found}))
    for part, name in (("train", "ghi"), ("val", "jkl")):
        _write(root / f"ava_{part}_v2.2.csv", f"{name},0002,0.1,0.1,0.9,0.9,1,0")
    _write(root / "ava_action_list_v2.2.pbtxt", 'item {\n  name: "walk"\n  id: 1\n}')

    frames, still = moving(12, 40, 56), [np.zeros((2, 40, 56))] * 11
    for action in CLASSES:
        for group in range(1, 7):
            two_stream(root / "EXTRACTED", f"v_{action}_g0{group}_c01", frames, still)


def _copy(clip: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(clip, path)


def _write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
