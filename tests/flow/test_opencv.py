"""OpenCV's estimators keep the contract of TV-L1."""

import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from stmn.errors import MissingExtra, UsageError
from stmn.flow.opencv import dis, farneback

estimators = pytest.mark.parametrize("estimate", [dis, farneback], ids=lambda f: f.__name__)


def blobs(dx: float) -> Tensor:
    y, x = np.mgrid[:80, :100].astype(np.float64)
    image = 127 + 60 * np.sin((x - dx) / 4) * np.cos(y / 5) + 50 * np.cos((x - dx) / 7 + y / 9)
    return torch.from_numpy(image.clip(0, 255)).float()


@estimators
def test_recovers_a_translation(estimate):
    pytest.importorskip("cv2")
    first, second = blobs(0)[None].repeat(2, 1, 1), torch.stack([blobs(1.5), blobs(-1.0)])
    flow = estimate(first, second)
    assert flow.shape == (2, 2, 80, 100)
    assert flow.dtype == torch.float32
    inner = flow[..., 15:-15, 15:-15]
    assert inner[0, 0].mean().item() == pytest.approx(1.5, abs=0.15)
    assert inner[1, 0].mean().item() == pytest.approx(-1.0, abs=0.15)
    assert inner[:, 1].abs().mean() < 0.15
    assert torch.equal(estimate(first.round().to(torch.uint8), second.round().to(torch.uint8)), flow)


@estimators
def test_bad_frames_are_a_usage_error(estimate):
    pytest.importorskip("cv2")
    with pytest.raises(UsageError, match=r"\(B, H, W\)"):
        estimate(torch.zeros(20, 20), torch.zeros(20, 20))


def test_frames_that_opencv_refuses_are_a_usage_error():
    pytest.importorskip("cv2")
    with pytest.raises(UsageError, match="8x8"):
        dis(torch.zeros(1, 8, 8), torch.zeros(1, 8, 8))
    with pytest.raises(UsageError, match="preset"):
        dis(torch.zeros(1, 40, 40), torch.zeros(1, 40, 40), preset="slow")


@estimators
def test_missing_opencv_names_the_extra(estimate, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtra, match=rf"--flow {estimate.__name__} .*stmn\[opencv\]"):
        estimate(torch.zeros(1, 40, 40), torch.zeros(1, 40, 40))
