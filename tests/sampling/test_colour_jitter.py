"""`--colour-jitter`: torchvision's ColorJitter, with one draw for all frames of a video."""

import numpy as np
import pytest
import torch
from helpers.made_sets import MadeVideo, make_set
from torchvision.transforms import v2

from stmn.sampling.augment import Crop, cut_frame, normalise_rgb
from stmn.sampling.clips import Clips, Sampling
from stmn.sampling.colour import ColourJitter, Colours
from stmn.store.format.read import Store

JITTER = ColourJitter(0.4, 0.3, 0.5, 0.1)


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def clips(tmp_path, **sampling: object) -> Clips:
    """One video whose frames are all alike, of any colours, and whose flow is the same."""
    frames = torch.from_numpy(np.stack([picture()] * 20))
    fields = torch.from_numpy(np.stack([picture()[..., :2].transpose(2, 0, 1)] * 19))
    folder = tmp_path / "set"
    if not folder.exists():
        make_set(folder, [MadeVideo("one", "a", frames, fields), MadeVideo("two", "b", frames, fields)])
    store = Store(folder)
    return Clips(store, store.part("1", "train"), Sampling(("rgb", "flow"), 32, 10, 3, (1, 2), **sampling))


def test_amounts_and_order_are_those_of_color_jitter():
    """Every order occurs, and amounts fill the ranges that torchvision draws from."""
    theirs = v2.ColorJitter(0.4, 0.3, 0.5, 0.1)
    drawn = [JITTER.draw(np.random.default_rng(seed)) for seed in range(500)]
    assert len({tuple(name for name, _ in colours.changes) for colours in drawn}) == 24
    for name in ("brightness", "contrast", "saturation", "hue"):
        low, high = getattr(theirs, name)
        amounts = [dict(colours.changes)[name] for colours in drawn]
        assert low <= min(amounts) < low + 0.05 * (high - low) and high - 0.05 * (high - low) < max(amounts) <= high
    assert ColourJitter(brightness=0.4).draw(np.random.default_rng(0)).changes[0][0] == "brightness"
    assert len(ColourJitter(brightness=0.4).draw(np.random.default_rng(0)).changes) == 1
    assert min(dict(ColourJitter(3.0).draw(np.random.default_rng(i)).changes)["brightness"] for i in range(99)) >= 0


def test_brightness_and_contrast_written_down_again():
    levels = picture().astype(np.float64)
    brighter = Colours((("brightness", 1.3),)).apply(picture())
    assert np.abs(brighter - np.clip(np.floor(1.3 * levels), 0, 255)).max() <= 1
    mean = np.floor(levels @ [0.2989, 0.587, 0.114]).mean()  # of the grey picture
    flatter = Colours((("contrast", 0.6),)).apply(picture())
    assert np.abs(flatter - (0.6 * levels + 0.4 * mean)).max() <= 1.5
    grey = Colours((("saturation", 0.0),)).apply(picture())
    assert (grey == grey[..., :1]).all()


def test_changes_are_made_to_the_cut_in_levels_before_resizing():
    crop, out = Crop(4, 6, 30, 40, mirror=True), np.empty((3, 24, 24), np.float32)
    colours = JITTER.draw(np.random.default_rng(3))
    before = picture()
    cut_frame(before, crop, out, colours)
    assert (before == picture()).all()
    box = torch.from_numpy(picture())[4:34, 6:46].permute(2, 0, 1)
    for name, amount in colours.changes:
        box = getattr(v2.functional, f"adjust_{name}")(box, amount)
    plain = np.empty_like(out)
    cut_frame(np.ascontiguousarray(box.permute(1, 2, 0).numpy()), Crop(0, 0, 30, 40, mirror=True), plain)
    assert (out == plain).all()


def test_all_frames_of_a_video_share_one_draw_and_flow_has_none(tmp_path):
    plain, jittered = clips(tmp_path), clips(tmp_path, colour=JITTER)
    for epoch in range(4):
        one, other = plain[epoch, 0], jittered[epoch, 0]
        assert torch.equal(one["flow"], other["flow"])  # the same chunks, crop and flip too
        assert not torch.equal(one["rgb"], other["rgb"])
        assert all(torch.equal(frame, other["rgb"][0]) for frame in other["rgb"])
        assert torch.equal(other["rgb"], jittered[epoch, 0]["rgb"])  # a function of seed, epoch and video
    assert not torch.equal(jittered[0, 0]["rgb"], jittered[0, 1]["rgb"])
    assert torch.equal(plain[-1, 0]["rgb"], jittered[-1, 0]["rgb"])  # validation sees true colours
    assert float(jittered[0, 0]["rgb"].abs().max()) <= float(normalise_rgb(torch.full((3, 1, 1), 255.0)).max()) + 1e-4


@pytest.mark.parametrize("epoch", [-1, 0, 3])
def test_segments_are_drawn_through_clips(tmp_path, epoch):
    by_segments = clips(tmp_path, chunks_by="segments")
    assert by_segments[epoch, 0]["flow"].shape == (3, 20, 32, 32)
