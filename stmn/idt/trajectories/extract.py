"""Extract improved dense trajectories from the frames of a video (Wang and Schmid, ICCV 2013)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from stmn.errors import DataError
from stmn.idt.trajectories.boxes import Boxes
from stmn.idt.trajectories.camera import Camera, Points, at_scale, find_corners, measure_corners, stabilise, warp_back
from stmn.idt.trajectories.histograms import describe
from stmn.idt.trajectories.layout import Layout
from stmn.idt.trajectories.motion import Motion, make_motion
from stmn.idt.trajectories.parameters import TrackParameters
from stmn.idt.trajectories.pool import Pool
from stmn.idt.trajectories.pyramid import Field, Grey, build_pyramid, load_opencv, scale_shapes
from stmn.idt.trajectories.rows import make_rows
from stmn.idt.trajectories.tracks import Tracks, join_tracks
from stmn.video.decode import count_frames, decode_video


def extract_tracks(
    frames: Iterable[NDArray[np.uint8]],
    parameters: TrackParameters,
    *,
    fields: Iterable[Field] | None = None,
    boxes: Boxes | None = None,
    total: int | None = None,
) -> Iterator[Tracks]:
    """Track points through a video, and describe the tracks. Memory holds two frames and the tracks in progress.

    Args:
        frames: (H, W, 3) RGB uint8 frames in order, all of one size.
        parameters: Parameters of the tracks.
        fields: (2, H, W) float32, the flow from each frame to the next in pixels, if `parameters.flow` is `stored`.
        boxes: Frame -> boxes around people, in pixels of the frames; motion in them is not used to find the camera's.
        total: The number of frames, for the column `t_pos`.

    Yields:
        The tracks that end in a frame, if there are any. Pixels are those of the frames resized by `parameters.scale`.
        A video of at most `parameters.length` frames has no tracks.

    Raises:
        MissingExtra: OpenCV is not installed.
        UsageError: The flow's options are wrong, or `fields` are missing.
        DataError: The frames are smaller than a patch or change size, or there are too few fields.
    """
    return _Extraction(load_opencv(), parameters, fields, boxes, total).run(frames)


@dataclass(frozen=True)
class _Frame:
    """A frame at all scales, the corner strength at each, and the corners of the finest scale."""

    levels: list[Grey]
    strengths: list[Field]
    corners: Points


def track_video(video: Path, parameters: TrackParameters, boxes: Boxes | None = None) -> Tracks:
    """Track points through a whole video file. All tracks are held in memory: 1.7 kB each.

    Args:
        video: The file.
        parameters: Parameters of the tracks.
        boxes: As for `extract_tracks`.

    Raises:
        DataError: The video can't be read, or as `extract_tracks`.
    """
    total = count_frames(video)
    return join_tracks(list(extract_tracks(decode_video(video), parameters, boxes=boxes, total=total)))


class _Extraction:
    """Extracts the tracks of one video."""

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
        self._camera = Camera(cv2, parameters.features)

    def run(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[Tracks]:
        """As `extract_tracks`."""
        parameters, layout = self._parameters, Layout.of(self._parameters)
        last: _Frame | None = None
        for number, picture in enumerate(frames):
            grey = self._prepare(picture)
            if last is None:
                size = (grey.shape[0], grey.shape[1])
                shapes = scale_shapes(*size, parameters.scales, parameters.patch)
                if not shapes:
                    raise DataError(
                        f"frames of {size[1]}x{size[0]} pixels are smaller than a patch of {parameters.patch}"
                    )
                motion = make_motion(self._cv2, parameters, shapes, self._fields)
                pools = [Pool(parameters) for _ in shapes]
                if parameters.camera:
                    self._camera.start(grey)
            elif grey.shape != size:
                raise DataError(f"frame {number} has another size than the frames before it")
            frame = self._look(grey, shapes)
            if last is not None:
                flow, still = self._move(motion, last, frame, self._boxes.get(number - 1))
                for k, pool in enumerate(pools):
                    corners, rows = pool.advance(flow[k], still[k])
                    describe(last.levels[k], still[k], corners, layout, pool.sums, rows)
                ended = [pool.end() for pool in pools]
                tracks = make_rows(ended, number, size, self._total, parameters)
                if len(tracks):
                    yield tracks
            for strength, pool in zip(frame.strengths, pools, strict=True):
                pool.start(strength)
            last = frame

    def _look(self, grey: Grey, shapes: list[tuple[int, int]]) -> _Frame:
        """Compute what the tracks need of a frame."""
        levels = build_pyramid(self._cv2, grey, shapes)
        strengths = [measure_corners(self._cv2, level) for level in levels]
        none = np.zeros((0, 2), np.float32)
        return _Frame(
            levels, strengths, find_corners(self._cv2, grey, strengths[0]) if self._parameters.camera else none
        )

    def _move(
        self, motion: Motion, last: _Frame, frame: _Frame, boxes: NDArray[np.float32] | None
    ) -> tuple[list[Field], list[Field]]:
        """The flow from the last frame to this one at all scales, with and without camera motion."""
        flow = motion.between(last.levels, frame.levels)
        if not self._parameters.camera:
            return flow, flow
        if boxes is not None:
            boxes = boxes * np.float32(self._parameters.scale)
        homography = self._camera.follow(last.corners, frame.levels[0], flow[0], boxes)
        if homography is None:
            return flow, flow
        if self._parameters.warp == "recompute":
            warped = warp_back(self._cv2, last.levels[0], frame.levels[0], homography)
            shapes = [level.shape for level in frame.levels]
            return flow, motion.again(last.levels, build_pyramid(self._cv2, warped, shapes))
        height, width = frame.levels[0].shape
        inverse, still = np.linalg.inv(homography), []
        for field in flow:
            by = (width / field.shape[2], height / field.shape[1])
            still.append(stabilise(field, at_scale(homography, by), at_scale(inverse, by)))
        return flow, still

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
