"""The sheet of `stmn data show`: what a person sees of a small subject on a still background."""

import numpy as np
import torch
from helpers.commands import call
from helpers.made_sets import MadeVideo, make_set
from PIL import Image


def test_small_subject_stands_out_from_a_white_background(tmp_path):
    generator = torch.Generator().manual_seed(0)
    frames = torch.full((12, 48, 160, 3), 90, dtype=torch.uint8)
    levels = 128 + torch.randint(-1, 2, (11, 2, 48, 160), generator=generator)  # noise of one level
    levels[:, 0, 20:28, 40:48] = 128 + 13  # 2 pixels to the right
    make_set(tmp_path / "data" / "mine", [MadeVideo("wave/a.mp4", "wave", frames, levels.to(torch.uint8))])
    assert call("data", "show", "a.mp4", "-w", tmp_path, "-o", tmp_path / "a.png", "--columns", "2").exit_code == 0
    sheet = np.asarray(Image.open(tmp_path / "a.png")).astype(int)
    flow, u = (sheet[80 + row * 52 : 128 + row * 52, 62 : 62 + 160] for row in (1, 2))
    subject = np.zeros((48, 160), bool)
    subject[20:28, 40:48] = True
    assert (flow[~subject] == 255).all()
    assert (flow[subject].mean(axis=0)[1:] < 60).all() and flow[subject].mean(axis=0)[0] > 240  # red
    assert (np.abs(u[~subject] - 127.5) < 1).all()
    assert u[subject].min() > 230
