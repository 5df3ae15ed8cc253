"""What is computed in C, beside the same in NumPy, and both beside what is known."""

import numpy as np
import pytest
from helpers.motions import add_disc, pan, texture

from stmn.idt.trajectories import _camera_c, _camera_numpy, _histograms_c, _histograms_numpy
from stmn.idt.trajectories.camera import at_scale, find_corners, measure_corners, stabilise
from stmn.idt.trajectories.extract import extract_tracks
from stmn.idt.trajectories.histograms import describe
from stmn.idt.trajectories.layout import Layout
from stmn.idt.trajectories.parameters import TrackParameters
from stmn.idt.trajectories.tracks import join_tracks

cv2 = pytest.importorskip("cv2")

PAPER = Layout(patch=32, cells=2)


def cells_of(grey, field, layout=PAPER):
    """HOG, HOF, MBHx and MBHy of one patch at (8, 8), (cells, bins) each."""
    sums = np.zeros((1, layout.numbers), np.float32)
    corner = np.array([[8, 8]], np.int32)
    describe(grey.astype(np.uint8), np.asarray(field, np.float32), corner, layout, sums, np.zeros(1, np.int32))
    cells = sums.reshape(-1, 33)
    return cells[:, :8], np.concatenate([cells[:, 8:16], cells[:, 32:]], axis=1), cells[:, 16:24], cells[:, 24:32]


def alone(bins, bin, total, epsilon=0.05):
    """What bins are if all of `total` in each of four cells falls into one of them."""
    values = np.full((4, bins), epsilon)
    values[:, bin] += total
    return np.sqrt(values / values.sum())


@pytest.mark.parametrize("turn", range(8))
def test_a_gradient_fills_the_bin_of_its_direction(turn):
    y, x = np.mgrid[:48, :48]
    dx, dy = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)][turn]
    hog = cells_of(128 + dx * (x - 24) + dy * (y - 24), np.zeros((2, 48, 48)))[0]
    assert hog == pytest.approx(alone(8, turn, 256 * 2 * np.hypot(dx, dy)), abs=1e-4)


@pytest.mark.parametrize(("u", "v", "bin"), [(2, 0, 0), (0, 2, 2), (-3, -3, 5), (0.3, 0.2, 8)])
def test_flow_fills_the_bin_of_its_direction_or_of_no_motion(u, v, bin):
    field = np.stack([np.full((48, 48), c) for c in (u, v)])
    hog, hof, mbhx, mbhy = cells_of(np.zeros((48, 48)), field)
    assert hof == pytest.approx(alone(9, bin, 256 if bin == 8 else 256 * np.hypot(u, v)), abs=1e-4)
    for flat in (hog, mbhx, mbhy):
        assert flat == pytest.approx(1 / 32**0.5)


def test_flow_between_two_directions_is_shared():
    angle = 0.3 * np.pi / 4
    field = np.stack([np.full((48, 48), 4 * c) for c in (np.cos(angle), np.sin(angle))])
    hof = cells_of(np.zeros((48, 48)), field)[1] ** 2
    assert hof[:, 1] / hof[:, 0] == pytest.approx(0.3 / 0.7, rel=1e-3)


def test_a_boundary_of_motion_is_seen_by_mbh_alone():
    y, x = np.mgrid[:48, :48]
    field = np.stack([0.5 * x, -0.25 * y])
    _, _, mbhx, mbhy = cells_of(np.zeros((48, 48)), field)
    assert mbhx == pytest.approx(alone(8, 0, 256 * 2 * 0.5), abs=1e-4)
    assert mbhy == pytest.approx(alone(8, 6, 256 * 2 * 0.25), abs=1e-4)


def test_cells_go_down_the_columns():
    grey = np.zeros((48, 48))
    grey[:24, 26:] = np.arange(22)  # a gradient in the upper right cell alone
    hog = cells_of(grey, np.zeros((2, 48, 48)))[0]
    assert hog[:, 0].argmax() == 2


@pytest.fixture(scope="module")
def scene():
    """Two frames, flow between them, and a homography."""
    rng = np.random.default_rng(1)
    grey = texture(70, 90).astype(np.uint8)
    field = cv2.GaussianBlur(rng.normal(size=(70, 90, 2)), (0, 0), 3).transpose(2, 0, 1).astype(np.float32) * 30
    homography = np.array([[1.01, 0.02, 3], [-0.02, 0.99, -2], [1e-5, -2e-5, 1]])
    return grey, np.ascontiguousarray(field), homography


def test_a_homography_means_the_same_at_every_scale(scene):
    homography = scene[2]

    def move(matrix, point):
        x, y, w = matrix @ (*point, 1)
        return np.array([x / w, y / w])

    by, point = np.array([2.0, 3.0]), np.array([10.0, 7.0])
    there = (move(at_scale(homography, tuple(by)), point) + 0.5) * by
    assert there == pytest.approx(move(homography, (point + 0.5) * by - 0.5) + 0.5)


@pytest.mark.skipif(_histograms_c.problem() is not None, reason="no C compiler")
class TestKernels:
    @pytest.mark.parametrize("layout", [PAPER, Layout(24, 3), Layout(64, 1)])
    def test_histograms(self, layout, scene):
        grey, field, _ = scene
        rng = np.random.default_rng(0)
        corners = rng.integers(0, (90 - layout.patch + 1, 70 - layout.patch + 1), (40, 2)).astype(np.int32)
        rows, sums = rng.permutation(50)[:40].astype(np.int32), np.ones((2, 50, layout.numbers), np.float32)
        _histograms_c.describe(grey, field, corners, layout, sums[0], rows)
        _histograms_numpy.describe(grey, field, corners, layout, sums[1], rows)
        assert sums[0] == pytest.approx(sums[1], abs=1e-5)
        assert np.ptp(sums[0]) > 0.1

    def test_flow_without_camera_motion(self, scene):
        _, field, homography = scene
        inverse = np.linalg.inv(homography)
        still = stabilise(field, homography, inverse)
        assert still == pytest.approx(_camera_numpy.stabilise(field, homography, inverse), abs=1e-3)

    @pytest.mark.parametrize("kind", [np.uint8, np.float32])
    def test_matches(self, kind):
        rng = np.random.default_rng(2)
        places = rng.uniform(0, 100, (2, 150, 2)).astype(np.float32)
        described = rng.integers(0, 256, (2, 150, 9)).astype(kind)
        found = _camera_c.match(*places, *described, 25)
        assert np.array_equal(found, _camera_numpy.match(*places, *described, 25))
        assert 20 < (found >= 0).sum() < 150

    def test_corners_are_those_of_opencv(self, scene):
        grey = scene[0]
        strength = measure_corners(cv2, grey)
        assert strength == pytest.approx(cv2.cornerMinEigenVal(grey, 3, ksize=3), rel=1e-3, abs=1e-6)
        ours = find_corners(cv2, grey, strength)
        assert np.array_equal(ours, cv2.goodFeaturesToTrack(grey, 1000, 0.001, 3).reshape(-1, 2))

    def test_tracks(self, monkeypatch):
        frames = pan(16, -2, 1, height=64, width=80)
        add_disc(frames, (24, 32), 2, radius=16)
        parameters = TrackParameters(scales=2, warp="recompute")
        fast = join_tracks(list(extract_tracks(frames, parameters, total=16)))
        for module in (
            "idt.trajectories._histograms_c",
            "idt.trajectories._camera_c",
            "idt.trajectories._steps_c",
            "flow._farneback_c",
        ):
            monkeypatch.setattr(f"stmn.{module}.problem", lambda: "no compiler")
        slow = join_tracks(list(extract_tracks(frames, parameters, total=16)))
        assert len(fast) > 20
        assert fast.points == pytest.approx(slow.points, abs=0.01)
        assert fast.rows == pytest.approx(slow.rows, abs=0.01)
