"""Flow between two frames at all scales of the tracks."""

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Protocol

import numpy as np

from stmn.errors import DataError, UsageError
from stmn.flow.estimator import load_estimator
from stmn.trajectories.parameters import FarnebackOptions, TrackParameters
from stmn.trajectories.pyramid import Field, Grey, resize_field

Shapes = list[tuple[int, int]]


class Motion(Protocol):
    """Computes flow. Calls are in the order of the frames; `again` follows the call whose flow it computes again."""

    def between(self, first: Grey, second: Grey) -> list[Field]:
        """The flow from a frame (H, W) to the next one, (2, h, w) pixels at each scale, the finest first."""

    def again(self, first: Grey, warped: Grey) -> list[Field]:
        """The same with a second frame from which camera motion has been taken."""


def make_motion(cv2: ModuleType, parameters: TrackParameters, shapes: Shapes, fields: Iterable[Field] | None) -> Motion:
    """What computes the flow that the parameters ask for.

    Raises:
        UsageError: The flow's options are wrong, or stored fields are missing.
        PluginError: There is no such flow.
    """
    if parameters.flow == "stored":
        if fields is None:
            raise UsageError("flow is 'stored', but no stored fields were given")
        return _Stored(cv2, shapes, iter(fields))
    if parameters.flow == "farneback":
        return Farneback(cv2, shapes, FarnebackOptions(**parameters.flow_options))
    return _Plugin(cv2, shapes, parameters)


class Farneback:
    """Polynomial expansion on the scales of the tracks, each starting from the flow of the coarser one."""

    def __init__(self, cv2: ModuleType, shapes: Shapes, options: FarnebackOptions) -> None:
        self._cv2, self._shapes, self._options = cv2, shapes, options

    def between(self, first: Grey, second: Grey) -> list[Field]:
        """As `Motion` says."""
        cv2, options = self._cv2, self._options
        one, two = self._levels(first), self._levels(second)
        fields: list[Field] = []
        for k in reversed(range(len(self._shapes))):
            start = resize_field(cv2, fields[-1], self._shapes[k]) if fields else np.zeros((2, *self._shapes[k]))
            flow = cv2.calcOpticalFlowFarneback(
                one[k], two[k], np.ascontiguousarray(start.transpose(1, 2, 0), np.float32), 0.5, 0, options.window,
                options.iterations, options.neighbourhood, options.sigma, cv2.OPTFLOW_USE_INITIAL_FLOW,
            )  # fmt: skip
            planes = [np.ascontiguousarray(flow[..., c]) for c in range(2)]
            fields.append(np.stack([cv2.medianBlur(p, options.median) if options.median else p for p in planes]))
        return fields[::-1]

    def again(self, first: Grey, warped: Grey) -> list[Field]:
        """As `Motion` says."""
        return self.between(first, warped)

    def _levels(self, grey: Grey) -> list[Field]:
        """A frame at all scales, each smoothed as much as it is smaller."""
        cv2 = self._cv2
        full = grey.astype(np.float32)
        levels = [full]
        for height, width in self._shapes[1:]:
            sigma = (grey.shape[0] / height - 1) * 0.5
            side = max(round(sigma * 5) | 1, 3)
            levels.append(cv2.resize(cv2.GaussianBlur(full, (side, side), sigma), (width, height)))
        return levels


class _Plugin:
    """A flow plugin at the finest scale, and the same field at the others."""

    def __init__(self, cv2: ModuleType, shapes: Shapes, parameters: TrackParameters) -> None:
        self._cv2, self._shapes = cv2, shapes
        self._estimate = load_estimator(parameters.flow, parameters.flow_options)

    def between(self, first: Grey, second: Grey) -> list[Field]:
        """As `Motion` says."""
        import torch

        field = self._estimate(torch.from_numpy(first[None]), torch.from_numpy(second[None]))[0].numpy()
        return [resize_field(self._cv2, field, shape) for shape in self._shapes]

    def again(self, first: Grey, warped: Grey) -> list[Field]:
        """As `Motion` says."""
        return self.between(first, warped)


class _Stored:
    """Fields that have been computed before."""

    def __init__(self, cv2: ModuleType, shapes: Shapes, fields: Iterator[Field]) -> None:
        self._cv2, self._shapes, self._fields = cv2, shapes, fields

    def between(self, first: Grey, second: Grey) -> list[Field]:
        """As `Motion` says."""
        field = next(self._fields, None)
        if field is None:
            raise DataError("there are fewer stored flow fields than pairs of frames")
        field = resize_field(self._cv2, np.asarray(field, np.float32), self._shapes[0])
        return [resize_field(self._cv2, field, shape) for shape in self._shapes]

    def again(self, first: Grey, warped: Grey) -> list[Field]:
        """Not possible; `TrackParameters` refuses it."""
        raise NotImplementedError
