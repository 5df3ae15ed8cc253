"""The camera's motion from one frame to the next: a homography that most of the background agrees on."""

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmn.trajectories.boxes import outside
from stmn.trajectories.pyramid import Field, Grey

#: a local feature may move this far, pixels in x and in y
_WINDOW = 25
#: most features of a frame
_FEATURES = 500
#: corners, which the flow tells the motion of: their most, quality relative to the best one, and distance in pixels
_CORNERS, _QUALITY, _DISTANCE = 1000, 0.001, 3
#: a homography is taken from more matches than this, if it agrees within a pixel with more than `_AGREE` of them
_MATCHES, _AGREE, _TOLERANCE = 50, 25, 1.0

#: bits that are set in a byte
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)

Points = NDArray[np.float32]
Homography = NDArray[np.float64]


class Camera:
    """Follows the camera. The features of a frame are found once, for the frame before it and the one after it."""

    def __init__(self, cv2: ModuleType, features: str) -> None:
        self._cv2 = cv2
        self._detector = _make_detector(cv2, features)
        self._last: tuple[Points, Any] | None = None

    def start(self, grey: Grey) -> None:
        """Begin at a frame (H, W)."""
        self._last = self._find(grey)

    def follow(self, first: Grey, second: Grey, field: Field, boxes: NDArray[np.float32] | None) -> Homography | None:
        """The homography from the first frame to the second, which becomes the next first one.

        Args:
            first: (H, W), the frame that `start` or the last call ended with.
            second: (H, W).
            field: (2, H, W) flow between them, pixels.
            boxes: (n, 4) around people in the first frame.

        Returns:
            (3, 3), which maps (x, y, 1) pixels; None if too few matches agree, as if the camera stood still.
        """
        assert self._last is not None
        last, new = self._last, self._find(second)
        self._last = new
        one, two = self._match(last, new)
        corners = self._corners(first)
        at = np.rint(corners).astype(np.intp)
        moved = corners + field[:, at[:, 1], at[:, 0]].T
        source, target = np.concatenate([one, corners]), np.concatenate([two, moved])
        use = outside(source, boxes)
        source, target = source[use], target[use]
        if len(source) <= _MATCHES:
            return None
        found, agree = self._cv2.findHomography(source, target, self._cv2.RANSAC, _TOLERANCE)
        if found is None or agree.sum() <= _AGREE or abs(np.linalg.det(found)) < 1e-6:
            return None
        return np.asarray(found, np.float64)

    def _find(self, grey: Grey) -> tuple[Points, Any]:
        """Features of a frame: (N, 2) x and y, and their descriptors."""
        found, descriptors = self._detector.detectAndCompute(grey, None)
        if descriptors is None or not len(found):
            return np.zeros((0, 2), np.float32), None
        return np.asarray(self._cv2.KeyPoint_convert(found), np.float32), descriptors

    def _match(self, first: tuple[Points, Any], second: tuple[Points, Any]) -> tuple[Points, Points]:
        """Pairs of features that are each other's nearest of those in the window."""
        (a, one), (b, two) = first, second
        if one is None or two is None:
            return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
        i, j = np.nonzero((np.abs(a[:, None] - b) <= _WINDOW).all(axis=2))
        distance = np.full((len(a), len(b)), np.inf, np.float32)
        distance[i, j] = _compare(one[i], two[j])
        forth, back = distance.argmin(axis=1), distance.argmin(axis=0)
        here = np.arange(len(a))
        both = (back[forth] == here) & np.isfinite(distance[here, forth])
        return a[both], b[forth[both]]

    def _corners(self, grey: Grey) -> Points:
        """(N, 2) corners of a frame, the best first."""
        corners = self._cv2.goodFeaturesToTrack(grey, _CORNERS, _QUALITY, _DISTANCE)
        return np.zeros((0, 2), np.float32) if corners is None else corners.reshape(-1, 2)


def _make_detector(cv2: ModuleType, features: str) -> Any:
    """A detector of local features."""
    if features == "sift":
        return cv2.SIFT_create(_FEATURES)
    if features == "akaze":  # in OpenCV 5 it is among the extra modules
        return cv2.AKAZE_create() if hasattr(cv2, "AKAZE_create") else cv2.xfeatures2d.AKAZE_create()
    return cv2.ORB_create(_FEATURES)


def _compare(one: NDArray[Any], two: NDArray[Any]) -> NDArray[np.float32]:
    """How far apart descriptors are: bits that differ, or the squared distance."""
    binary = one.dtype == np.uint8
    apart: NDArray[np.float32] = (_BITS[one ^ two] if binary else np.square(one - two)).sum(axis=1, dtype=np.float32)
    return apart


def at_scale(homography: Homography, by: tuple[float, float]) -> Homography:
    """A homography of the frame in the pixels of a scale that is smaller by `by`, in x and in y."""
    kx, ky = by
    to_frame = np.array([[kx, 0, kx / 2 - 0.5], [0, ky, ky / 2 - 0.5], [0, 0, 1]])
    scaled: Homography = np.linalg.inv(to_frame) @ homography @ to_frame
    return scaled


def apply(homography: NDArray[Any], x: NDArray[Any], y: NDArray[Any]) -> tuple[Field, Field]:
    """Where a homography maps points."""
    h = homography
    third = h[2, 0] * x + h[2, 1] * y + h[2, 2]
    third = np.where(np.abs(third) < 1e-6, 1e-6, third)
    return (
        ((h[0, 0] * x + h[0, 1] * y + h[0, 2]) / third).astype(np.float32),
        ((h[1, 0] * x + h[1, 1] * y + h[1, 2]) / third).astype(np.float32),
    )


def stabilise(field: Field, homography: Homography) -> Field:
    """Flow without the camera's motion H: w(x) = H^-1 (x + f(x)) - x.

    It is zero where the background of the first frame has left the second, as when the second frame is warped to the
    first and completed from it.

    Args:
        field: (2, H, W) pixels.
        homography: From the first frame to the second, pixels of this size.
    """
    height, width = field.shape[1:]
    y, x = np.mgrid[:height, :width]
    back_x, back_y = apply(np.linalg.inv(homography), x + field[0], y + field[1])
    to_x, to_y = apply(homography, x, y)
    seen = (to_x >= 0) & (to_x <= width - 1) & (to_y >= 0) & (to_y <= height - 1)
    return np.stack([np.where(seen, back_x - x, 0), np.where(seen, back_y - y, 0)]).astype(np.float32)


def warp_back(cv2: ModuleType, first: Grey, second: Grey, homography: Homography) -> Grey:
    """The second frame (H, W) as the camera of the first would see it; what it doesn't show comes from the first."""
    height, width = first.shape
    warped: Grey = first.copy()
    cv2.warpPerspective(
        second, homography, (width, height), warped, cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, cv2.BORDER_TRANSPARENT
    )
    return warped
