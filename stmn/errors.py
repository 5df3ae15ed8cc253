"""What went wrong, where, and what to do: one line for a person.

Every error a user can cause is a `StmnError`; the command line prints its message alone and exits with its code.
Anything else that escapes is a bug of this project.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class StmnError(Exception):
    """Base of all errors that are the user's to mend. `exit_code` is what the command returns."""

    exit_code = 1


class UsageError(StmnError):
    """An option, a recipe or an argument is wrong; nothing has been started."""

    exit_code = 2


class DataError(StmnError):
    """A video, a store, a split or a scores file is missing, damaged or does not fit."""


class CheckpointError(StmnError):
    """A checkpoint is missing, damaged, or does not fit what it is asked for."""


class PluginError(StmnError):
    """A plugin is unknown, ambiguous, broken, or breaks its contract."""


class MissingExtra(StmnError):
    """An optional dependency is not installed."""

    def __init__(self, needed_for: str, package: str, extra: str) -> None:
        super().__init__(f"{needed_for} needs the package '{package}': pip install 'stmn[{extra}]'")


def near_match(name: str, known: Iterable[str]) -> str:
    """`" (did you mean 'multiply'?)"`, or an empty string when nothing known is near `name`."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""


class Interrupted(StmnError):
    """Stopped by the user or the system; what was done is kept."""

    exit_code = 130
