"""Crops and flips (section 4.1), and data sets that forbid them."""

import os
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from helpers.films import Picture, moving
from torch import Tensor

from stmn.flow.grey import to_grey
from stmn.flow.quantise import quantise
from stmn.flow.tvl1 import tvl1
from stmn.sampling.augment import (
    FLOW_STD,
    Crop,
    cut_field,
    cut_frame,
    draw_crop,
    mirrored,
    normalise_flow,
    normalise_rgb,
    resize,
)
from stmn.sampling.resample import kernel_problem

BOTH = ("mirror", "crop")
KEEPS = [(), ("mirror",), ("crop",), BOTH]
HEIGHT, WIDTH = 256, 340


def draws(augmentation: str, keeps: tuple[str, ...] = BOTH, count: int = 1000) -> list[Crop]:
    rng = np.random.default_rng(1)
    return [draw_crop(HEIGHT, WIDTH, augmentation, keeps, rng) for _ in range(count)]


def test_multi_scale_crops_use_corners_and_centre_at_four_sizes():
    crops = draws("multi_scale")
    assert {(crop.height, crop.width) for crop in crops} == {(h, w) for h in (256, 224, 192, 168) for w in (256, 224, 192, 168)}  # fmt: skip
    places = Counter()
    for crop in crops:
        bottom, right = HEIGHT - crop.height, WIDTH - crop.width
        names = {(0, 0): "top left", (0, right): "top right", (bottom, 0): "bottom left", (bottom, right): "bottom right",
                 (bottom // 2, right // 2): "centre"}  # fmt: skip
        if crop.height < HEIGHT:  # otherwise top and bottom are the same
            places[names[crop.top, crop.left]] += 1
    assert len(places) == 5
    assert min(places.values()) > 0.7 * max(places.values())


def test_jittered_crops_vary_by_a_quarter_near_the_borders():
    crops = draws("jitter")
    heights, widths = ([getattr(crop, side) for crop in crops] for side in ("height", "width"))
    assert (min(widths), max(widths)) == pytest.approx((0.75 * 224, 1.25 * 224), abs=3)
    assert (min(heights), max(heights)) == (pytest.approx(0.75 * 224, abs=3), HEIGHT)  # at most as tall as the frame
    assert np.corrcoef(heights, widths)[0, 1] == pytest.approx(0, abs=0.15)  # drawn independently
    tops, lefts = [], []
    for crop in crops:
        for offset, space, fractions in (
            (crop.top, HEIGHT - crop.height, tops),
            (crop.left, WIDTH - crop.width, lefts),
        ):
            assert 0 <= offset <= space
            if space > 20:
                fractions.append(offset / space)
    for fractions in (tops, lefts):
        assert all(x < 0.27 or x > 0.73 for x in fractions)
        assert np.mean([x < 0.5 for x in fractions]) == pytest.approx(0.5, abs=0.08)


def test_random_resized_crops_lie_anywhere_and_are_large():
    crops = draws("random_resized")
    areas = [crop.height * crop.width / (HEIGHT * WIDTH) for crop in crops]
    assert 0.34 < min(areas) < 0.4 and max(areas) > 0.9
    aspects = [crop.width / crop.height for crop in crops]
    assert 0.74 < min(aspects) < 0.8 and 1.25 < max(aspects) < 1.34
    for crop in crops:
        assert 0 <= crop.top <= HEIGHT - crop.height and 0 <= crop.left <= WIDTH - crop.width
    across = [crop.left / (WIDTH - crop.width) for crop in crops if crop.width < WIDTH - 50]
    thirds, _ = np.histogram(across, 3, (0, 1))
    assert thirds.min() > 0.8 * thirds.max()  # the middle is as frequent as the borders


@pytest.mark.parametrize("augmentation", ["multi_scale", "jitter", "random_resized"])
def test_half_of_the_crops_are_mirrored(augmentation):
    assert np.mean([crop.mirror for crop in draws(augmentation)]) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("augmentation", ["multi_scale", "jitter", "random_resized", "centre"])
def test_forbidden_mirrors_and_crops_are_never_drawn(augmentation):
    assert not any(crop.mirror for crop in draws(augmentation, ("crop",)))
    for keeps in ((), ("mirror",)):
        boxes = {(crop.top, crop.left, crop.height, crop.width) for crop in draws(augmentation, keeps)}
        assert boxes == {(0, (WIDTH - HEIGHT) // 2, HEIGHT, HEIGHT)}  # the largest centred square
    assert not any(crop.mirror for crop in draws(augmentation, ()))


@pytest.mark.parametrize("keeps", KEEPS, ids=str)
def test_centre_crops_need_no_generator(keeps):
    (crop,) = set(draws("centre", keeps))
    assert not crop.mirror
    assert crop.top == (HEIGHT - crop.height) // 2 and crop.left == (WIDTH - crop.width) // 2
    assert crop.height == crop.width == (224 if "crop" in keeps else HEIGHT)
    for augmentation in ("multi_scale", "jitter", "random_resized"):
        assert draw_crop(HEIGHT, WIDTH, augmentation, keeps, rng=None) == crop


def test_crops_scale_with_the_stored_frames():
    for side in (64, 128, 512):
        rng = np.random.default_rng(1)
        sizes = {draw_crop(side, side, "multi_scale", BOTH, rng).height for _ in range(200)}
        assert sizes == {round(side * paper / 256) for paper in (256, 224, 192, 168)}


def cut(picture: Picture, crop: Crop, size: int) -> Tensor:
    """The network's input from an (H, W, 3) frame or (2, H, W) levels."""
    out = np.full((3 if picture.shape[2] == 3 else 2, size, size), np.nan, np.float32)
    (cut_frame if len(out) == 3 else cut_field)(picture, crop, out)
    return torch.from_numpy(out)


def random(*shape: int) -> Picture:
    return np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)


def test_crops_are_cut_normalised_and_mirrored():
    frame, levels = random(20, 30, 3), random(2, 20, 31)
    box = (..., slice(4, 12), slice(7, 15))
    for mirror in (False, True):
        crop = Crop(4, 7, 8, 8, mirror)
        inside = mirrored(torch.from_numpy(frame).permute(2, 0, 1)[box].float(), mirror)
        torch.testing.assert_close(cut(frame, crop, 8), normalise_rgb(inside), rtol=0, atol=1e-5)
        inside = mirrored(torch.from_numpy(levels)[box].float(), mirror)
        torch.testing.assert_close(cut(levels, crop, 8), normalise_flow(inside, mirror), rtol=0, atol=1e-5)
    flat = np.full((2, 20, 30), 200, np.uint8)
    assert (cut(flat, Crop(0, 3, 20, 11), 16) * FLOW_STD + 128).flatten().tolist() == pytest.approx([200] * 512)


@pytest.mark.parametrize("size", [13, 64, 224])
@pytest.mark.parametrize("crop", [
    Crop(0, 0, 256, 341), Crop(3, 5, 168, 224, True), Crop(16, 0, 224, 224), Crop(100, 50, 61, 77, True), Crop(255, 340, 1, 1),
], ids=str)  # fmt: skip
def test_resizing_matches_torchs_anti_aliased_resize(crop, size):
    frame, levels = random(256, 341, 3), random(2, 256, 341)
    box = (..., slice(crop.top, crop.top + crop.height), slice(crop.left, crop.left + crop.width))

    def by_torch(picture: Tensor) -> Tensor:
        return mirrored(resize(picture[box].double()[None], (size, size))[0], crop.mirror).float()

    wanted = normalise_rgb(by_torch(torch.from_numpy(frame).permute(2, 0, 1)))
    assert (cut(frame, crop, size) - wanted).abs().max() < 1e-5
    wanted = normalise_flow(by_torch(torch.from_numpy(levels)), crop.mirror)
    assert (cut(levels, crop, size) - wanted).abs().max() < 1e-5


#: prints one hash of many crops, and why NumPy made them (None: the kernel did)
HASH = """
import hashlib
import numpy as np
from stmn.sampling.augment import Crop, cut_field, cut_frame
from stmn.sampling.resample import kernel_problem

rng, found = np.random.default_rng(4), hashlib.sha256()
for _ in range(60):
    height, width, size = (int(n) for n in rng.integers(1, 90, 3))
    frame, levels = (rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((99, 93, 3), (2, 99, 93)))
    crop = Crop(int(rng.integers(100 - height)), int(rng.integers(94 - width)), height, width, bool(rng.integers(2)))
    for picture, cut, channels in ((frame, cut_frame, 3), (levels, cut_field, 2)):
        out = np.empty((channels, size, size), np.float32)
        cut(picture, crop, out)
        found.update(out + np.float32(0))  # -0 is 0
print(found.hexdigest(), "|", kernel_problem())
"""


@pytest.mark.skipif(kernel_problem() is not None, reason=f"no C kernel: {kernel_problem()}")
def test_numpy_gives_the_bits_of_the_c_kernel():
    def run(said: str, **environment: str) -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, "-c", HASH], env=os.environ | environment, capture_output=True, text=True
        )
        assert done.returncode == 0 and re.fullmatch(said, done.stderr), done.stderr
        found, problem = done.stdout.strip().split(" | ")
        return found, problem

    kernel, problem = run("")
    assert problem == "None"
    without, problem = run(
        r"cutting pictures takes \d+ times as long without its C kernel: .*\n", CC="no-such-compiler"
    )
    assert problem == "no C compiler 'no-such-compiler' on the path"
    assert without == kernel


def test_normalised_rgb_has_imagenets_scale_and_no_motion_is_0():
    grey_level = torch.full((1, 3, 2, 2), 127.5)
    assert normalise_rgb(grey_level).flatten(2)[0, :, 0].tolist() == pytest.approx(
        [(0.5 - m) / s for m, s in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))], rel=1e-5
    )
    assert torch.equal(normalise_flow(torch.full((1, 2, 2, 2), 128.0)), torch.zeros(1, 2, 2, 2))
    assert normalise_flow(torch.tensor([0.0, 255.0]).view(1, 2, 1, 1)).flatten().tolist() == pytest.approx(
        [-128 / FLOW_STD, 127 / FLOW_STD]
    )


def test_mirrored_frames_have_mirrored_flow_with_u_negated():
    bound = 4.0
    frames = to_grey(torch.stack([torch.from_numpy(picture) for picture in moving(4, dx=2, dy=1)]))

    def levels(frames: Tensor) -> Tensor:
        return quantise(tvl1(frames[:-1], frames[1:]), bound).float()

    plain, of_mirrored = levels(frames), levels(mirrored(frames))
    expected = normalise_flow(of_mirrored)
    got = normalise_flow(mirrored(plain), mirror=True)
    inner = (..., slice(8, -8), slice(8, -8))
    assert expected[inner][:, 0].mean() * FLOW_STD * 2 * bound / 255 == pytest.approx(
        -2, abs=0.1
    )  # it moves to the left now
    assert ((got - expected)[inner].abs().mean() * FLOW_STD).item() < 2  # levels; quantising is asymmetric by one level
    not_negated = normalise_flow(mirrored(plain))
    assert ((not_negated - expected)[inner][:, 0].abs().mean() * FLOW_STD).item() > 100
