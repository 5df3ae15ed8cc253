"""Tracks of frames whose motion is known."""

import sys

import numpy as np
import pytest
from helpers.motions import add_disc, pan
from pydantic import ValidationError

from stmn.errors import DataError, MissingExtra, UsageError
from stmn.idt.trajectories.extract import extract_tracks
from stmn.idt.trajectories.parameters import TrackParameters
from stmn.idt.trajectories.tracks import Tracks, join_tracks

pytest.importorskip("cv2")

FEW = {"scales": 1}


def tracks_of(frames, *, fields=None, boxes=None, total=None, **parameters) -> Tracks:
    chosen = TrackParameters(**FEW | parameters)
    return join_tracks(list(extract_tracks(frames, chosen, fields=fields, boxes=boxes, total=total)))


def uniform(frames, u, v=0.0):
    """Stored flow of one motion for frames."""
    height, width = frames[0].shape[:2]
    return [np.stack([np.full((height, width), c, np.float32) for c in (u, v)]) for _ in frames[1:]]


def test_a_shift_gives_straight_tracks_of_that_shift():
    tracks = tracks_of(pan(17, 2, 1), camera=False)
    assert len(tracks) > 100
    steps = np.diff(tracks.points, axis=1)
    assert np.abs(np.median(steps, axis=0) - (2, 1)).max() < 0.05
    assert np.abs(tracks.trajectory.reshape(-1, 15, 2) - np.array([2, 1]) / (15 * 5**0.5)).mean() < 0.002


def test_a_shift_has_no_motion_boundaries():
    tracks = tracks_of(frames := pan(17, 2, 1), fields=uniform(frames, 2, 1), flow="stored", camera=False)
    assert tracks.mbhx == pytest.approx(1 / 32**0.5, abs=1e-6)
    assert tracks.mbhy == pytest.approx(1 / 32**0.5, abs=1e-6)


def test_still_frames_give_no_tracks():
    assert len(tracks_of(pan(18))) == 0
    assert len(tracks_of(pan(18), camera=False)) == 0


def test_a_pan_is_removed():
    frames = pan(18, -2, 0)
    assert len(tracks_of(frames, camera=False)) > 100
    assert len(tracks_of(frames)) == 0


@pytest.mark.parametrize("warp", ["analytic", "recompute"])
def test_what_moves_against_the_pan_is_kept(warp):
    frames = pan(18, -2, 0)
    add_disc(frames, (40, 48), 2)
    tracks = tracks_of(frames, warp=warp)
    assert len(tracks) > 20
    frame = tracks.info[:, :1] + np.arange(-15, 1)
    distance = np.hypot(tracks.points[..., 0] - (40 + 2 * frame), tracks.points[..., 1] - 48)
    assert distance.min(axis=1).max() < 30  # the disc's radius is 20, and flow is smooth over a few pixels
    moves = tracks.trajectory.reshape(-1, 15, 2)[distance[:, -1] < 12]
    assert np.median(moves, axis=(0, 1)) == pytest.approx([1 / 15, 0], abs=0.004)


def test_boxes_keep_people_from_being_taken_for_the_camera():
    frames = pan(17)
    moving = pan(17, 2, 0, seed=3)
    for frame, other in zip(frames, moving, strict=True):
        frame[:, :90] = other[:, :90]  # most of the frame is a person
    boxes = {t: np.array([[0, 0, 90, 96]], np.float32) for t in range(17)}
    captured, free = tracks_of(frames), tracks_of(frames, boxes=boxes)
    assert np.mean(captured.points[:, -1, 0] > 80) > 0.9
    assert np.mean(free.points[:, 0, 0] < 90) > 0.9


def test_videos_too_short_for_a_track_have_none():
    for count in (0, 1, 15):
        assert len(tracks_of(pan(count, 2), camera=False)) == 0
    assert len(tracks_of(pan(16, 2), camera=False)) > 50


@pytest.mark.parametrize(("u", "kept"), [(0.05, False), (0.9, False), (2.0, True), (12.0, False)],
                         ids=["static", "background", "moving", "random"])  # fmt: skip
def test_tracks_that_say_nothing_are_left_out(u, kept):
    frames = pan(16, width=300)
    tracks = tracks_of(frames, fields=uniform(frames, u), flow="stored", camera=False)
    assert (len(tracks) > 0) == kept


@pytest.mark.parametrize(("rest", "kept"), [(0.3, False), (2.0, True)])
def test_a_track_that_jumps_is_left_out(rest, kept):
    frames = pan(16, width=300)
    fields = uniform(frames, rest)
    fields[7][0] = 30.0
    assert (len(tracks_of(frames, fields=fields, flow="stored", camera=False)) > 0) == kept


def test_columns_say_where_and_when():
    frames = pan(17)
    tracks = tracks_of(frames, fields=uniform(frames, 3), flow="stored", camera=False, total=17)
    info = dict(zip(Tracks.INFO, tracks.info.T, strict=True))
    assert set(info["frame"]) == {15, 16}
    assert info["mean_x"] == pytest.approx(tracks.points[..., 0].mean(axis=1), abs=1e-3)
    assert info["std_x"] == pytest.approx(3 * np.arange(16).std(), abs=1e-3)
    assert info["length"] == pytest.approx(45, abs=1e-3)
    assert info["x_pos"] == pytest.approx(info["mean_x"] / 128, abs=1e-5)
    assert info["y_pos"] == pytest.approx(info["mean_y"] / 96, abs=1e-5)
    assert set(info["t_pos"]) == set(np.float32([(15 - 7.5) / 17, (16 - 7.5) / 17]))
    unknown = tracks_of(frames, fields=uniform(frames, 3), flow="stored", camera=False)
    assert np.isnan(unknown.info[:, -1]).all()


def test_no_track_starts_where_there_is_one():
    frames = pan(16)
    tracks = tracks_of(frames * 2, fields=uniform(frames * 2, 1.5), flow="stored", camera=False, step=8)
    starts = {(frame, *point) for frame, point in zip(tracks.info[:, 0], tracks.points[:, 0].tolist(), strict=True)}
    assert len(starts) == len(tracks)
    for frame in set(tracks.info[:, 0]):
        new = np.floor(tracks.points[tracks.info[:, 0] == frame][:, 0] / 8)
        older = [tracks.points[tracks.info[:, 0] == frame - k][:, k] for k in range(1, 15)]
        cells = {tuple(cell) for cell in np.floor(np.concatenate(older) / 8)}
        assert not cells & {tuple(cell) for cell in new}


def test_scales_end_where_a_patch_no_longer_fits():
    frames = pan(16, 2, height=96, width=128)
    tracks = tracks_of(frames, fields=uniform(frames, 2), flow="stored", camera=False, scales=8)
    assert sorted(set(tracks.info[:, 6])) == pytest.approx([1, 2**0.5, 2, 2 * 2**0.5])
    steps = np.diff(tracks.points[..., 0], axis=1)
    assert steps == pytest.approx(2, abs=0.05)


def test_frames_can_be_made_smaller_first():
    frames = pan(16, 4, height=192, width=256)
    tracks = tracks_of(frames, fields=uniform(frames, 4), flow="stored", camera=False, scale=0.5)
    assert np.diff(tracks.points[..., 0], axis=1) == pytest.approx(2, abs=0.01)
    assert tracks.points[..., 0].max() <= 128


def test_other_sizes_of_descriptors():
    frames = pan(13)
    tracks = tracks_of(frames, fields=uniform(frames, 2), flow="stored", camera=False, length=12, cells=4, spans=2)
    assert tracks.rows.shape[1] == 10 + 24 + 16 * 2 * 33
    assert tracks.hof.reshape(len(tracks), 2, -1).astype(float).__pow__(2).sum(axis=2) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("features", ["sift", "akaze"])
def test_other_features_find_the_camera(features):
    assert len(tracks_of(pan(17, -2, 1), features=features)) == 0


@pytest.mark.parametrize("flow", ["dis", "tvl1"])
def test_other_flows(flow):
    frames = pan(17, -2, 0)
    add_disc(frames, (40, 48), 2)
    tracks = tracks_of(frames, flow=flow)
    assert len(tracks) > 20
    assert np.median(tracks.trajectory.reshape(-1, 15, 2), axis=(0, 1)) == pytest.approx([1 / 15, 0], abs=0.01)


def test_what_can_be_wrong():
    with pytest.raises(DataError, match="30x40 pixels are smaller than a patch of 32"):
        tracks_of(pan(2, height=40, width=30))
    with pytest.raises(DataError, match="frame 1 has another size"):
        tracks_of([*pan(1), *pan(1, height=100)])
    with pytest.raises(UsageError, match="no stored fields were given"):
        tracks_of(pan(2), flow="stored")
    with pytest.raises(DataError, match="fewer stored flow fields"):
        tracks_of(pan(4), fields=uniform(pan(3), 1), flow="stored")


@pytest.mark.parametrize(("wrong", "message"), [
    ({"patch": 32, "cells": 3}, "patch is 32, which 3 cells don't divide"),
    ({"length": 15, "spans": 4}, "length is 15, which 4 spans don't divide"),
    ({"flow_options": {"windw": 3}}, "no option 'windw' (did you mean 'window'?); it has: window, iterations"),
    ({"flow_options": {"window": 99}}, "flow 'farneback': window = 99: input should be less than or equal to 30"),
    ({"flow": "stored", "warp": "recompute"}, "stored flow can't be computed again; warp must be analytic"),
    ({"step": 0}, "greater than or equal to 1"),
])  # fmt: skip
def test_parameters_that_do_not_fit_are_refused(wrong, message):
    with pytest.raises(ValidationError) as caught:
        TrackParameters(**wrong)
    [error] = caught.value.errors()
    assert message in error["msg"]
    assert "\n" not in error["msg"]


def test_missing_opencv_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtra, match=r"stmn\[opencv\]"):
        tracks_of(pan(2))
