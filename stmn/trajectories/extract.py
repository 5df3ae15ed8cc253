"""Extract improved dense trajectories from the frames of a video (Wang and Schmid, ICCV 2013)."""

from collections.abc import Iterable, Iterator
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from stmn.errors import DataError
from stmn.trajectories._histograms_numpy import describe
from stmn.trajectories.boxes import Boxes
from stmn.trajectories.camera import Camera, at_scale, stabilise, warp_back
from stmn.trajectories.layout import Layout
from stmn.trajectories.motion import make_motion
from stmn.trajectories.parameters import TrackParameters
from stmn.trajectories.pool import Pool
from stmn.trajectories.pyramid import RATIO, Field, Grey, build_pyramid, load_opencv, scale_shapes
from stmn.trajectories.rows import make_rows
from stmn.trajectories.tracks import Tracks, join_tracks

#: a track starts where the smaller eigenvalue of the gradients is more than this part of the frame's largest
_QUALITY = 0.001


def extract_tracks(
    frames: Iterable[NDArray[np.uint8]],
    parameters: TrackParameters,
    *,
    fields: Iterable[Field] | None = None,
    boxes: Boxes | None = None,
    total: int | None = None,
) -> Iterator[Tracks]:
    """Track points through a video and describe the tracks. Memory holds two frames and the tracks in progress.

    Args:
        frames: (H, W, 3) RGB uint8, one after another, all of one size.
        parameters: Of the tracks.
        fields: (2, H, W) float32, the flow from each frame to the next in pixels, if `parameters.flow` is `stored`.
        boxes: Frame -> boxes around people, pixels of the frames; their motion is not taken for the camera's.
        total: The number of frames, for the column `t_pos`.

    Yields:
        The tracks that ended in a frame, if there are any. Pixels are those of the frames after they were resized by
        `parameters.scale`. A video of no more frames than `parameters.length` has none.

    Raises:
        MissingExtra: OpenCV is not installed.
        UsageError: The flow's options are wrong, or `fields` are missing.
        DataError: The frames are smaller than a patch, or change their size, or there are too few fields.
    """
    return _Extraction(load_opencv(), parameters, fields, boxes, total).run(frames)


class _Extraction:
    """The extraction of one video."""

    def __init__(
        self,
        cv2: ModuleType,
        parameters: TrackParameters,
        fields: Iterable[Field] | None,
        boxes: Boxes | None,
        total: int | None,
    ) -> None:
        self._cv2, self._parameters, self._fields, self._total = cv2, parameters, fields, total
        self._boxes = boxes or {}
        self._layout = Layout.of(parameters)

    def run(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[Tracks]:
        """As `extract_tracks`."""
        parameters, cv2 = self._parameters, self._cv2
        camera = Camera(cv2, parameters.features)
        size, last = (0, 0), list[Grey]()
        for number, frame in enumerate(frames):
            grey = self._prepare(frame)
            if not number:
                size = grey.shape
                shapes = scale_shapes(*size, parameters.scales, parameters.patch)
                if not shapes:
                    raise DataError(f"frames of {size[1]}x{size[0]} pixels are smaller than a patch of "
                                    f"{parameters.patch}")  # fmt: skip
                motion = make_motion(cv2, parameters, shapes, self._fields)
                pools = [Pool(parameters) for _ in shapes]
                if parameters.camera:
                    camera.start(grey)
            elif grey.shape != size:
                raise DataError(f"frame {number} has another size than the frames before it")
            levels = build_pyramid(cv2, grey, shapes)
            if number:
                flow = motion.between(last[0], grey)
                still = flow
                if parameters.camera:
                    boxes = self._boxes.get(number - 1)
                    boxes = None if boxes is None else boxes * np.float32(parameters.scale)
                    homography = camera.follow(last[0], grey, flow[0], boxes)
                    if homography is not None and parameters.warp == "recompute":
                        still = motion.again(last[0], warp_back(cv2, last[0], grey, homography))
                    elif homography is not None:
                        still = [stabilise(field, at_scale(homography, (size[1] / field.shape[2],
                                 size[0] / field.shape[1]))) for field in flow]  # fmt: skip
                ended = []
                for k, pool in enumerate(pools):
                    self._advance(pool, last[k], flow[k], still[k])
                    ended.append(make_rows(pool.end(), number, RATIO**k, size, self._total, parameters))
                tracks = join_tracks(ended)
                if len(tracks):
                    yield tracks
            for level, pool in zip(levels, pools, strict=True):
                pool.start(self._find_starts(level, pool.heads))
            last = levels

    def _prepare(self, frame: NDArray[np.uint8]) -> Grey:
        """The grey frame, resized."""
        cv2, scale = self._cv2, self._parameters.scale
        grey: Grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
        if scale == 1:
            return grey
        height, width = grey.shape
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        resized: Grey = cv2.resize(
            grey, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=way
        )
        return resized

    def _advance(self, pool: Pool, grey: Grey, flow: Field, still: Field) -> None:
        """Move the tracks of a scale with the flow, and describe where they were."""
        height, width = grey.shape
        heads = pool.heads
        at = np.clip(np.rint(heads).astype(np.int32), 0, (width - 1, height - 1))
        points = heads + flow[:, at[:, 1], at[:, 0]].T
        x, y = points.T
        inside = (x > 0) & (x < width) & (y > 0) & (y < height)
        pool.keep(inside)
        at, points = at[inside], points[inside]
        patch = self._layout.patch
        corners = np.clip(at - patch // 2, 0, (width - patch, height - patch)).astype(np.int32)
        describe(grey, still, corners, self._layout, pool.sums, pool.span_rows)
        pool.move(points, still[:, at[:, 1], at[:, 0]].T)

    def _find_starts(self, grey: Grey, heads: Field) -> Field:
        """(N, 2) centres of the cells of the grid that hold no track and show structure."""
        step = self._parameters.step
        rows, columns = grey.shape[0] // step, grey.shape[1] // step
        strength = self._cv2.cornerMinEigenVal(grey, 3, ksize=3)
        least = strength.max() * _QUALITY
        middle = slice(step // 2, None, step)
        free = strength[middle, middle][:rows, :columns] > least
        cell = np.floor(heads).astype(np.intp) // step
        cell = cell[(cell[:, 0] < columns) & (cell[:, 1] < rows)]
        free[cell[:, 1], cell[:, 0]] = False
        y, x = np.nonzero(free)
        return np.column_stack([x, y]).astype(np.float32) * step + step // 2
