"""The options of `stmn predict`, and checks that they go together."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stmn.errors import UsageError
from stmn.prediction.frame_maps import MapPart
from stmn.prediction.table import TABLE_SUFFIXES
from stmn.video.decode import ALLOWED_DAMAGE
from stmn.video.source import Source

if TYPE_CHECKING:
    from torch import Tensor

#: seconds of a window by default
_WINDOW_SECONDS = 2.0
#: the step from one window to the next by default, as a fraction of a window
_STEP_FRACTION = 0.25


@dataclass(frozen=True)
class PredictOptions:
    """The options of `stmn predict`; None stands for the default.

    Attributes:
        chunks: Chunks of each video or window.
        flips: Also average over mirrored frames, if the training data allowed mirroring.
        window: Seconds of a window.
        step: Seconds from one window to the next.
        out: The table to write.
        timeline: The CSV file to write.
        overlay: The MP4 file to write.
        gate_part: The part of the network whose gate map and class map the overlay shows.
        explain: The class that the overlay explains.
        is_unknown: Tells from a window's logits (outputs, classes) whether the overlay calls it unknown.
        allow_damage: The fraction of a video's frames that may be lost to damage.
    """

    chunks: int | None = None
    flips: bool = True
    window: float | None = None
    step: float | None = None
    out: Path | None = None
    timeline: Path | None = None
    overlay: Path | None = None
    gate_part: MapPart | None = None
    allow_damage: float = ALLOWED_DAMAGE
    explain: str | None = None
    is_unknown: "Callable[[Tensor], bool] | None" = None

    def check(self, videos: list[Source]) -> None:
        """Make sure that options and videos go together, before anything is read.

        Raises:
            UsageError: They contradict each other, or an output is a folder, one of the videos, or has a wrong suffix.
        """
        for flag, seconds in (("--window", self.window), ("--step", self.step)):
            check_seconds(flag, seconds)
        for flag, value in (("--gate-part", self.gate_part), ("--explain", self.explain)):
            if value and not self.overlay:
                raise UsageError(f"{flag} needs an overlay: add --overlay OUT.mp4")
        for flag, path, endings in self._outputs:
            check_output(flag, path, endings, videos)
        if self.out and self.timeline and self.out.absolute() == self.timeline.absolute():
            raise UsageError(f"--out and --timeline both name {self.out}: name two files")
        if self.overlay and len(videos) > 1:
            raise UsageError(f"--overlay {self.overlay}: one file for {len(videos)} videos; pass one video at a time")

    @property
    def outputs(self) -> dict[str, Path]:
        """Kind of output -> the file to write."""
        return {flag.removeprefix("--"): path for flag, path, _ in self._outputs}

    @property
    def _outputs(self) -> list[tuple[str, Path, tuple[str, ...]]]:
        """The flag of each file to write, its path, and the suffixes that it may have."""
        given = (
            ("--out", self.out, TABLE_SUFFIXES),
            ("--timeline", self.timeline, (".csv",)),
            ("--overlay", self.overlay, (".mp4",)),
        )
        return [(flag, path, endings) for flag, path, endings in given if path]

    @property
    def uses_windows(self) -> bool:
        """True if windows are asked for, or an output that needs them."""
        return any((self.window, self.step, self.timeline, self.overlay))

    @property
    def prints_windows(self) -> bool:
        """True if windows are printed, because no file takes them."""
        return self.uses_windows and not self.outputs

    @property
    def window_and_step(self) -> tuple[float, float]:
        """Seconds of a window, and from one window to the next."""
        window = self.window or _WINDOW_SECONDS
        return window, self.step or window * _STEP_FRACTION


def check_seconds(flag: str, seconds: float | None) -> None:
    """Raise `UsageError` if a number is not a length of time; None stands for the default."""
    if seconds is not None and not 0 < seconds < float("inf"):
        raise UsageError(f"{flag} {seconds:g}: must be a number of seconds above 0")


def check_output(flag: str, path: Path, endings: tuple[str, ...], videos: list[Source]) -> None:
    """Raise `UsageError` if a file to write has none of the suffixes, is a folder, or is one of the videos."""
    if path.suffix.lower() not in endings:
        raise UsageError(f"{flag} {path}: the name must end in {_either(endings)}")
    if path.is_dir():
        raise UsageError(f"{flag} {path}: this is a folder; name a file")
    if path.exists() and any(v.kind == "file" and _is_same(path, v.place) for v in videos):
        raise UsageError(f"{flag} {path}: this is one of the videos and would be overwritten")


def _either(names: tuple[str, ...]) -> str:
    """`.csv, .jsonl or .parquet`."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _is_same(path: Path, place: str) -> bool:
    """True if a path and another are the same existing file."""
    try:
        return path.samefile(place)
    except (OSError, ValueError):  # one of them doesn't exist
        return False
