"""The camera's motion from one frame to the next: a homography that most of the background follows."""

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmn.idt.trajectories import _camera_c, _camera_numpy
from stmn.idt.trajectories.boxes import outside
from stmn.idt.trajectories.pyramid import Field, Grey

#: a local feature may move this far, pixels in x and in y
_WINDOW = 25
#: the most features of a frame
_FEATURES = 500
#: corners whose motion is read from the flow: the most corners, the lowest quality relative to the best corner, and the
#: smallest distance between two, pixels
_CORNERS, _QUALITY, _DISTANCE = 1000, 0.001, 3
#: a homography needs more than `_MATCHES` matches, of which more than `_AGREE` agree with it within `_TOLERANCE` pixels
_MATCHES, _AGREE, _TOLERANCE = 50, 25, 1.0

Points = NDArray[np.float32]
Homography = NDArray[np.floating[Any]]


class Camera:
    """Follows the camera. A frame's features are found once, and matched with the frames before and after it."""

    def __init__(self, cv2: ModuleType, features: str) -> None:
        self._cv2 = cv2
        self._detector = _make_detector(cv2, features)
        self._last: tuple[Points, Any] | None = None

    def start(self, grey: Grey) -> None:
        """Begin at a frame (H, W)."""
        self._last = self._find(grey)

    def follow(
        self, corners: Points, second: Grey, field: Field, boxes: NDArray[np.float32] | None
    ) -> Homography | None:
        """Return the homography from the first frame to the second, which becomes the next first frame.

        Args:
            corners: (N, 2) corners of the first frame, the last one given to `start` or `follow`.
            second: (H, W) the second frame.
            field: (2, H, W) flow between them, pixels.
            boxes: (n, 4) boxes around people in the first frame.

        Returns:
            (3, 3), maps (x, y, 1) in pixels; None if too few matches agree: treat the camera as still.
        """
        assert self._last is not None
        last, new = self._last, self._find(second)
        self._last = new
        one, two = self._match(last, new)
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
        """Find the features of a frame: (N, 2) x and y, and their descriptors."""
        found, descriptors = self._detector.detectAndCompute(grey, None)
        if descriptors is None or not len(found):
            return np.zeros((0, 2), np.float32), None
        return np.asarray(self._cv2.KeyPoint_convert(found), np.float32), descriptors

    def _match(self, first: tuple[Points, Any], second: tuple[Points, Any]) -> tuple[Points, Points]:
        """Match features: the points of both frames, pair by pair."""
        (a, one), (b, two) = first, second
        if one is None or two is None:
            return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
        nearest = match(a, b, one, two, _WINDOW)
        return a[nearest >= 0], b[nearest[nearest >= 0]]


def match(first: Points, second: Points, one: NDArray[Any], two: NDArray[Any], window: float) -> NDArray[np.int64]:
    """Match features that are each other's nearest neighbour within the window.

    Args:
        first: (N, 2) x and y of the features of a frame.
        second: (M, 2) x and y of the features of the other frame.
        one: (N, D) descriptors of the first features: float32, or uint8, which are compared bit by bit.
        two: (M, D) descriptors of the second features.
        window: The most that a feature may move in x and in y, pixels.

    Returns:
        (N,) the index of the matching second feature, or -1.
    """
    if _camera_c.problem():
        return _camera_numpy.match(first, second, one, two, window)
    return _camera_c.match(first, second, one, two, window)


def measure_corners(cv2: ModuleType, grey: Grey) -> Field:
    """Corner strength of a frame (H, W): smaller eigenvalue of Sobel gradient products averaged over 3 x 3 pixels."""
    if _camera_c.problem() is None:
        return _camera_c.measure_corners(grey)
    strength: Field = cv2.cornerMinEigenVal(grey, 3, ksize=3)
    return strength


def find_corners(cv2: ModuleType, grey: Grey, strength: Field) -> Points:
    """Find corners of a frame, the best first.

    Args:
        grey: (H, W) the frame.
        strength: (H, W) the result of `measure_corners`.

    Returns:
        (N, 2) x and y.
    """
    if _camera_c.problem() is None:
        return _camera_c.find_corners(strength, float(strength.max()) * _QUALITY, _DISTANCE, _CORNERS)
    corners = cv2.goodFeaturesToTrack(grey, _CORNERS, _QUALITY, _DISTANCE)
    return np.zeros((0, 2), np.float32) if corners is None else corners.reshape(-1, 2)


def _make_detector(cv2: ModuleType, features: str) -> Any:
    """Make a detector of local features."""
    if features == "sift":
        return cv2.SIFT_create(_FEATURES)
    if features == "akaze":  # in OpenCV 5 it is in the extra modules
        return cv2.AKAZE_create() if hasattr(cv2, "AKAZE_create") else cv2.xfeatures2d.AKAZE_create()
    # consecutive frames have the same scale: two levels find more matches than the usual eight, and faster
    return cv2.ORB_create(_FEATURES, 1.4, 2, fastThreshold=10)


def at_scale(homography: Homography, by: tuple[float, float]) -> Homography:
    """Convert a homography of the frame to the pixels of a scale that is smaller by the factors `by`, in x and in y."""
    k, shift = np.array([*by, 1.0]), np.array([by[0] / 2 - 0.5, by[1] / 2 - 0.5, 0.0])
    # S^-1 H S, where S = diag(k) + shift maps the scale's pixels to the frame's; their first pixels share a corner
    scaled: Homography = homography * k
    scaled[:, 2] += homography @ shift
    scaled[:2] -= shift[:2, None] * scaled[2]
    scaled[:2] /= k[:2, None]
    return scaled


def stabilise(field: Field, homography: Homography, inverse: Homography) -> Field:
    """Remove the camera's motion H from flow: w(x) = H^-1 (x + f(x)) - x.

    The result is zero where the background of the first frame has left the second, as it would be if the second frame
    were warped to the first and filled in from it.

    Args:
        field: (2, H, W) pixels.
        homography: From the first frame to the second, pixels of this size.
        inverse: From the second to the first.

    Returns:
        (2, H, W) pixels.
    """
    if _camera_c.problem():
        return _camera_numpy.stabilise(field, homography, inverse)
    return _camera_c.stabilise(field, homography, inverse)


def warp_back(cv2: ModuleType, first: Grey, second: Grey, homography: Homography) -> Grey:
    """Warp the second frame (H, W) to the camera of the first; pixels that it doesn't show come from the first."""
    height, width = first.shape
    warped: Grey = first.copy()
    cv2.warpPerspective(
        second, homography, (width, height), warped, cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, cv2.BORDER_TRANSPARENT
    )
    return warped
