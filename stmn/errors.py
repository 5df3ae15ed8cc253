"""Errors: what went wrong, where, and what to do about it, in one line.

Every error that a user can cause is a `StmnError`. The command line prints only its message, and exits with its code.
Any other exception that escapes is a bug in stmn.
"""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any


class StmnError(Exception):
    """Base class of all errors that a user can fix; `exit_code` is the exit code of the command.

    Args:
        lines: what is wrong; several lines for several mistakes. A line break within one is part of a name.
    """

    exit_code = 1

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)

    @property
    def lines(self) -> list[str]:
        """The lines of the message, one mistake each."""
        return [str(line) for line in self.args]

    def __str__(self) -> str:
        return "\n".join(self.lines)


class UsageError(StmnError):
    """An option, a recipe or an argument is wrong; nothing has been started."""

    exit_code = 2


class DataError(StmnError):
    """A video, a store, a split or a scores file is missing or damaged, or doesn't fit."""


class CheckpointError(StmnError):
    """A checkpoint is missing or damaged, or doesn't fit the network."""


class MissingWeights(CheckpointError):
    """ImageNet weights have not been downloaded.

    Args:
        archs: the architectures whose weights are missing.
    """

    def __init__(self, *archs: str) -> None:
        super().__init__(
            f"the ImageNet weights of {' and '.join(archs)} are not on this machine; download them with: "
            f"stmn weights {' '.join(archs)}"
        )
        self.archs = archs


class PluginError(StmnError):
    """A plugin is unknown, ambiguous or broken, or breaks its contract."""


class MissingExtra(StmnError):
    """An optional dependency is not installed.

    Args:
        needed_for: what needs it, as the start of the message: "--tensorboard".
        package: name of the package.
        extra: the extra of stmn that installs it.
    """

    def __init__(self, needed_for: str, package: str, extra: str) -> None:
        super().__init__(f"{needed_for} needs the package '{package}': pip install 'stmn[{extra}]'")


class Interrupted(StmnError):
    """Stopped by the user or the system; finished work is kept."""

    exit_code = 130


#: pydantic's error type, or the first word of it -> message, with pydantic's limits filled in
_MISTAKES = {
    "missing": "is missing",
    "extra_forbidden": "is unknown",
    "bool": "must be true or false",
    "int": "must be a whole number",
    "float": "must be a number",
    "finite_number": "must be a finite number",
    "string": "must be text",
    "string_pattern_mismatch": "is not a name",
    "string_too_long": "has more than {max_length} characters",
    "string_too_short": "is empty",
    "path": "must be a path",
    "list": "must be a list",
    "dict": "must be a table of keys and values",
    "model": "must be a table of keys and values",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be {ge} or more",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be {le} or less",
    "less_than": "must be below {lt}",
    "too_short": "needs {min_length} values, not {actual_length}",
    "too_long": "needs {max_length} values, not {actual_length}",
}


def describe_mistake(mistake: Mapping[str, Any]) -> str:
    """Describe a mistake in a value in plain words: "must be a whole number".

    Args:
        mistake: one of the errors of pydantic's `ValidationError`.
    """
    kind, context = mistake["type"], mistake.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind in _MISTAKES:
        limits = {key: int(v) if isinstance(v, float) and v.is_integer() else v for key, v in context.items()}
        return _MISTAKES[kind].format(**limits)
    return _MISTAKES.get(kind.partition("_")[0], "can't be used")


#: how messages of torch and its libraries, in errors of several types, say that memory ran out
_SHORTAGE = re.compile(
    r"out of memory|can't allocate memory|not enough memory|unable to allocate|alloc_failed|bad_alloc"
    r"|unable to find an engine",  # cuDNN's message if no algorithm of a convolution has enough memory
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """True if an error of Python, NumPy, torch or CUDA says that memory ran out."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_SHORTAGE.search(str(error))))


def message_of(error: BaseException) -> str:
    """An error's message; of CUDA's, whose further lines advise programmers, only the first line."""
    text = str(error)
    return text.partition("\n")[0] if "CUDA error" in text else text


def count_of(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 video", "1,200 videos"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def near_match(name: str, known: Iterable[str]) -> str:
    """`" (did you mean 'multiply'?)"`, or an empty string if `name` is not close to any known name."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""
