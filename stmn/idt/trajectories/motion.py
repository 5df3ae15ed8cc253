"""Flow between two frames at all scales of the tracks."""

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Protocol

from stmn.errors import DataError, UsageError
from stmn.flow.estimator import load_estimator
from stmn.flow.polynomial import expand, flow_between
from stmn.idt.trajectories.parameters import FarnebackOptions, TrackParameters
from stmn.idt.trajectories.pyramid import Field, Grey, build_flow_pyramid

Shapes = list[tuple[int, int]]
#: a frame at all scales
Levels = list[Grey]


class Motion(Protocol):
    """Computes flow. Calls must be in the order of the frames; `again` follows the call whose flow it recomputes."""

    def between(self, first: Levels, second: Levels) -> list[Field]:
        """Compute the flow from a frame to the next one, (2, h, w) pixels at each scale, the finest first."""

    def again(self, first: Levels, warped: Levels) -> list[Field]:
        """Compute it again, with a second frame from which camera motion has been removed."""


def make_motion(cv2: ModuleType, parameters: TrackParameters, shapes: Shapes, fields: Iterable[Field] | None) -> Motion:
    """Make what computes the flow that the parameters name.

    Raises:
        UsageError: The flow's options are wrong, or stored fields are missing.
        PluginError: There is no such flow.
    """
    if parameters.flow == "stored":
        if fields is None:
            raise UsageError("flow is 'stored', but no stored fields were given")
        return _Stored(cv2, shapes, iter(fields))
    if parameters.flow == "farneback":
        return _Farneback(FarnebackOptions(**parameters.flow_options))
    return _Plugin(cv2, shapes, parameters)


class _Farneback:
    """Polynomial expansion (Farneback) at each scale, starting from the flow of the coarser scale."""

    def __init__(self, options: FarnebackOptions) -> None:
        self._options = options
        self._first: list[Field] = []
        self._second: list[Field] = []

    def between(self, first: Levels, second: Levels) -> list[Field]:
        """As `Motion` says."""
        self._first = self._second or self._expand(first)
        self._second = self._expand(second)
        return self._solve(self._second)

    def again(self, first: Levels, warped: Levels) -> list[Field]:
        """As `Motion` says."""
        return self._solve(self._expand(warped))

    def _expand(self, levels: Levels) -> list[Field]:
        """Compute the polynomials of a frame."""
        return [expand(level, self._options.neighbourhood, self._options.sigma) for level in levels]

    def _solve(self, second: list[Field]) -> list[Field]:
        """Compute the flow to a frame, from the coarsest scale to the finest."""
        options, fields = self._options, list[Field]()
        for one, two in reversed(list(zip(self._first, second, strict=True))):
            start = fields[-1] if fields else None
            fields.append(flow_between(one, two, start, options.window, options.iterations, options.median))
        return fields[::-1]


class _Plugin:
    """A flow plugin at the finest scale; its field is resized to the others."""

    def __init__(self, cv2: ModuleType, shapes: Shapes, parameters: TrackParameters) -> None:
        self._cv2, self._shapes = cv2, shapes
        self._estimate = load_estimator(parameters.flow, parameters.flow_options)

    def between(self, first: Levels, second: Levels) -> list[Field]:
        """As `Motion` says."""
        import torch

        field = self._estimate(*(torch.from_numpy(levels[0][None]) for levels in (first, second)))[0].numpy()
        return build_flow_pyramid(self._cv2, field, self._shapes)

    def again(self, first: Levels, warped: Levels) -> list[Field]:
        """As `Motion` says."""
        return self.between(first, warped)


class _Stored:
    """Fields that have been computed before."""

    def __init__(self, cv2: ModuleType, shapes: Shapes, fields: Iterator[Field]) -> None:
        self._cv2, self._shapes, self._fields = cv2, shapes, fields

    def between(self, first: Levels, second: Levels) -> list[Field]:
        """As `Motion` says."""
        field = next(self._fields, None)
        if field is None:
            raise DataError("there are fewer stored flow fields than pairs of frames")
        return build_flow_pyramid(self._cv2, field, self._shapes)

    def again(self, first: Levels, warped: Levels) -> list[Field]:
        """Not possible; `TrackParameters` refuses it."""
        raise NotImplementedError
