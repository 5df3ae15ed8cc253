"""Loggers: plugins that get the rows of a training's log in addition to `metrics.jsonl`."""

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
    In distributed training only the first process has one.
    """

    def __init__(self, folder: Path, step: int, about: Mapping[str, Any], /) -> None:
        """Begin a log, or continue one.

        Args:
            folder: the logger's own folder for its files; it exists.
            step: 0, or the step at which a resumed training continues: rows that an interrupted training wrote for
                later steps will come again.
            about: `run`, the name of the run's folder, and `options`, the options of the training by name; JSON.

        Raises:
            MissingExtra, UsageError: the logger can't begin; then nothing is trained.
        """

    def write(self, row: Mapping[str, float]) -> None:
        """Take a row: `step`, `epoch`, `loss`, `accuracy` and so on, as `metrics.jsonl` has them.

        Columns without a value are left out. An error ends the log with a notice; training goes on.
        """

    def close(self) -> None:
        """End the log; also called when training was interrupted."""


@dataclass(frozen=True)
class LoggerChoice:
    """The logger of a training, with its options.

    Attributes:
        name: name of the plugin.
        options: options of the plugin.
        about: facts about the training, for the logger.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


class OpenLogger:
    """A running logger; an error in it ends the logger, not the training."""

    def __init__(self, choice: LoggerChoice, out: Path, step: int = 0) -> None:
        """Start the logger. Raises `StmnError` if it can't begin."""
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
        """Pass a row to the logger."""
        if self._logger is not None:
            try:
                self._logger.write({name: value for name, value in row.items() if value is not None})
            except Exception as error:
                self._give_up(error)

    def close(self) -> None:
        """Close the logger."""
        if self._logger is not None:
            try:
                self._logger.close()
            except Exception as error:
                self._give_up(error)
            self._logger = None

    def _give_up(self, error: Exception) -> None:
        """Print what went wrong, and go on without the logger."""
        self._logger = None
        notice(f"{self._plugin.title} failed: {type(error).__name__}: {error}; the log goes on in metrics.jsonl alone")


def write_finished(choice: LoggerChoice, out: Path, metrics: Path) -> None:
    """Give a logger all rows of a finished training, unless it already has a folder there.

    Args:
        choice: the logger.
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
    """Return a logger's own folder: the folder of its name in the run's folder."""
    return out / registry.find("logger", name).name
