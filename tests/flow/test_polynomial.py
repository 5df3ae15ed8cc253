"""Flow by polynomial expansion, scale by scale."""

import numpy as np
import pytest
from helpers.motions import texture

from stmn.flow import _farneback_c, _farneback_numpy
from stmn.flow.polynomial import expand, flow_between

PAIR = [texture(80, 120)[:70, shift : shift + 101].astype(np.uint8) for shift in (6, 3)]


def flow_of(pair, coarse=None, *, window=10, iterations=2, median=5, reach=7, sigma=1.5, way=None):
    way = way or (expand, flow_between)
    first, second = (way[0](image, reach, sigma) for image in pair)
    return way[1](first, second, coarse, window, iterations, median)


def test_an_expansion_is_the_image_around_each_pixel():
    y, x = np.mgrid[:40, :50] - 20
    image = 100 + 2 * x - 3 * y + 0.1 * x * x - 0.05 * y * y + 0.04 * x * y
    factors = expand(image.round().clip(0, 255).astype(np.uint8), 7, 1.5)[20, 20, :5]
    assert factors == pytest.approx([2, -3, 0.1, -0.05, 0.04], abs=0.05)


def test_a_translation_is_found():
    flow = flow_of(PAIR)
    inner = flow[:, 15:-15, 15:-15]
    assert np.median(inner, axis=(1, 2)) == pytest.approx([3, 0], abs=0.05)


def test_the_coarser_flow_is_where_it_starts():
    far = [texture(80, 200)[:70, shift : shift + 101].astype(np.uint8) for shift in (40, 20)]
    coarse = np.zeros((2, 35, 50), np.float32)
    coarse[0] = 10
    assert abs(np.median(flow_of(far)[0]) - 20) > 5
    assert np.median(flow_of(far, coarse)[0]) == pytest.approx(20, abs=0.1)


def test_flow_is_that_of_opencv():
    """OpenCV smooths images before it expands them."""
    cv2 = pytest.importorskip("cv2")
    start = np.zeros((70, 101, 2), np.float32)
    theirs = cv2.calcOpticalFlowFarneback(*PAIR, start, 0.5, 0, 11, 2, 7, 1.5, cv2.OPTFLOW_USE_INITIAL_FLOW)
    smooth = [cv2.GaussianBlur(image, (3, 3), 0) for image in PAIR]
    apart = np.hypot(*(flow_of(smooth, window=11, median=0) - theirs.transpose(2, 0, 1)))
    assert np.median(apart) < 0.01
    assert apart.mean() < 0.03


@pytest.mark.skipif(_farneback_c.problem() is not None, reason="no C compiler")
@pytest.mark.parametrize("options", [
    {}, {"reach": 15, "sigma": 4.0, "window": 30, "iterations": 1, "median": 0}, {"reach": 2, "window": 3, "median": 3},
])  # fmt: skip
def test_c_and_numpy_agree(options):
    coarse = np.random.default_rng(0).normal(size=(2, 50, 72)).astype(np.float32)
    for start in (None, coarse):
        c, numpy = (
            flow_of(PAIR, start, way=(way.expand, way.flow_between), **options)
            for way in (_farneback_c, _farneback_numpy)
        )
        assert c == pytest.approx(numpy, abs=2e-3)


@pytest.mark.skipif(_farneback_c.problem() is not None, reason="no C compiler")
@pytest.mark.parametrize("size", [(2, 2), (3, 40), (33, 17)])
def test_images_smaller_than_the_window(size):
    pair = [np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8) for seed in (0, 1)]
    coarse = np.ones((2, 2, 2), np.float32)
    c, numpy = (
        flow_of(pair, coarse, window=30, way=(way.expand, way.flow_between)) for way in (_farneback_c, _farneback_numpy)
    )
    assert c == pytest.approx(numpy, abs=1e-4)
