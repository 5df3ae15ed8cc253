"""Loggers: plugins that get the rows of a training's log, besides `metrics.jsonl`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from stmn import registry
from stmn.errors import PluginError, StmnError
from stmn.registry.options import build
from stmn.runtime.files import read_text
from stmn.runtime.json_files import parse_json
from stmn.runtime.notices import notice


class Logger(Protocol):
    """A logger: a class whose objects get the rows of one training's log.

    Keyword-only parameters of `__init__` with annotations and defaults are its options: `--logger-options` sets them.
    In a distributed training the first process alone has one.
    """

    def __init__(self, folder: Path, step: int, about: Mapping[str, Any], /) -> None:
        """Begin a log, or go on with one.

        Args:
            folder: where it keeps what it keeps; it exists, and is its own.
            step: 0, or the step that a resumed training goes on at: rows of later steps that an interrupted training
                wrote will come again.
            about: `run`, the name of the run's folder, and `options`, those of the training by name; JSON.

        Raises:
            MissingExtra, UsageError: it can't begin; nothing is trained then.
        """

    def write(self, row: Mapping[str, float]) -> None:
        """Take a row: `step`, `epoch`, `loss`, `accuracy` and so on, as `metrics.jsonl` has them.

        What a step has no number for is not in its row. An error ends the log with a notice, and not the training.
        """

    def close(self) -> None:
        """End the log, also that of a training that was interrupted."""


@dataclass(frozen=True)
class LoggerChoice:
    """Which logger a training has.

    Attributes:
        name: of the plugin.
        options: those of the plugin.
        about: the facts about the training that it gets.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


class OpenLogger:
    """A logger at work, whose faults end itself alone."""

    def __init__(self, choice: LoggerChoice, out: Path, step: int = 0) -> None:
        """Begin. Raises `StmnError` if the logger can't."""
        self._plugin = registry.find("logger", choice.name)
        folder = _folder_of(choice.name, out)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            made = build("logger", choice.name, choice.options, folder, step, choice.about)
            if not callable(getattr(made, "write", None)) or not callable(getattr(made, "close", None)):
                raise PluginError(f"{self._plugin.title} is no logger: it needs the methods write(row) and close()")
        except StmnError:
            if not any(folder.iterdir()):
                folder.rmdir()
            raise
        self._logger: Logger | None = made

    def write(self, row: Mapping[str, Any]) -> None:
        """Hand a row on."""
        if self._logger is not None:
            try:
                self._logger.write({name: value for name, value in row.items() if value is not None})
            except Exception as error:
                self._give_up(error)

    def close(self) -> None:
        """End it."""
        if self._logger is not None:
            try:
                self._logger.close()
            except Exception as error:
                self._give_up(error)
            self._logger = None

    def _give_up(self, error: Exception) -> None:
        """Say what went wrong, and go on without."""
        self._logger = None
        notice(f"{self._plugin.title} failed: {type(error).__name__}: {error}; the log goes on in metrics.jsonl alone")


def write_finished(choice: LoggerChoice, out: Path, metrics: Path) -> None:
    """Give a logger all rows of a finished training, unless it had them before.

    Args:
        choice: which logger.
        out: the folder of the training's run.
        metrics: its `metrics.jsonl`.

    Raises:
        StmnError: the logger can't begin.
    """
    if _folder_of(choice.name, out).exists():
        return
    logger = OpenLogger(choice, out)
    for line in read_text(metrics).splitlines():
        logger.write(parse_json(line))
    logger.close()


def _folder_of(name: str, out: Path) -> Path:
    """Where a logger keeps what it keeps: a folder of its name in that of the run."""
    return out / registry.find("logger", name).name
