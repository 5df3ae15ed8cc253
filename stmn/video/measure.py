"""Measure the length of a video by decoding it all: in this process, or safely in another that may hang or crash."""

from collections.abc import Callable
from dataclasses import dataclass

from stmn.errors import DataError
from stmn.runtime.bounded import BoundedCall
from stmn.runtime.workers import describe_error
from stmn.video.decode import iter_frames
from stmn.video.source import Source

#: longest time in seconds without a frame from the decoder
_PATIENCE = 60.0


@dataclass(frozen=True)
class Length:
    """The number of frames of a video at some rate, its seconds, and notes on losses and oddities."""

    frames: int
    seconds: float
    notes: tuple[str, ...] = ()


#: measures a source at a rate (None: its own), given the fraction of frames that may be lost to damage
Measure = Callable[[Source, float | None, float], Length]


def measure_video(source: Source, fps: float | None, allow_damage: float) -> Length:
    """Decode a video and return its length. Arguments and errors are those of `iter_frames`."""
    frames, end, notes = 0, 0.0, list[str]()
    for frame in iter_frames(source, fps, allow_damage, notes.append):
        frames, end = frames + 1, frame.seconds + float(1 / frame.rate)
    return Length(frames, end, tuple(notes))


class MeasuredApart:
    """Measures videos as `measure_video` does, in another process. Use as a context manager.

    If a decoder crashes or hangs, only its video fails, with `DataError`.
    """

    def __init__(self) -> None:
        self._call = BoundedCall(_try_to_measure, _PATIENCE)

    def __enter__(self) -> "MeasuredApart":
        self._call.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._call.__exit__(*error)

    def __call__(self, source: Source, fps: float | None, allow_damage: float) -> Length:
        """Measure a video. Raises `DataError` as `measure_video` does, and if its decoder crashes or hangs."""
        found = self._call((source, fps, allow_damage))
        if found is None:
            raise DataError(f"{source.name}: its decoder crashed, or gave no frame for {_PATIENCE:g} s")
        if isinstance(found, str):
            raise DataError(found)
        return found


def _try_to_measure(what: tuple[Source, float | None, float]) -> Length | str:
    """Return the length of a video, or why it can't be measured."""
    try:
        return measure_video(*what)
    except Exception as error:
        return describe_error(error)
