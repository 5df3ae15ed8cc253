"""Show progress: live bars on a terminal, plain lines elsewhere. All of it goes to standard error."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from rich.cells import cell_len
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TaskID, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.progress import Task as RichTask
from rich.table import Column
from rich.text import Text

from stmn.cli.console import answer_json, messages, say
from stmn.runtime import torchrun
from stmn.runtime.names import printable

#: seconds between plain lines
_PLAIN_SECONDS = 10.0
#: seconds over which speed and time left are measured: a single video may take longer than rich's 30 s
_SPEED_SECONDS = 600.0
#: from this width on a line also shows the speed, and a longer bar
_WIDE = 120
#: the most important fields, in this order; a narrow terminal drops the others first
_IMPORTANT = ("loss", "accuracy", "validation_error", "lr", "skipped", "problems")
#: short names for narrow terminals
_SHORT = {"accuracy": "acc", "validation_error": "val error", "data_wait": "wait"}


class _LiveTask:
    """A bar."""

    def __init__(self, bars: RichProgress, number: TaskID) -> None:
        self._bars, self._number = bars, number
        self._fields: dict[str, object] = {}

    def advance(self, count: int = 1, **fields: object) -> None:
        """Move the bar."""
        self._fields |= fields
        self._bars.update(self._number, advance=count, shown=dict(self._fields))


class _PlainTask:
    """A line now and then."""

    def __init__(self, description: str, total: int | None, unit: str, done: int, quiet: bool) -> None:
        self._description, self._total, self._unit, self._quiet = description, total, unit, quiet
        self._done = self._first = done
        self._started = self._printed = time.monotonic()
        self._fields: dict[str, object] = {}

    def advance(self, count: int = 1, **fields: object) -> None:
        """Count, and print a line if it is time."""
        self._done += count
        self._fields |= fields
        if time.monotonic() - self._printed > _PLAIN_SECONDS:
            self.print_line()

    def print_line(self) -> None:
        """Print how much is done, how fast, and how long the rest will take."""
        if self._quiet:
            return
        self._printed = time.monotonic()
        rate = (self._done - self._first) / max(self._printed - self._started, 1e-9)
        line = f"{self._description}: {self._done}/{self._total or '?'} {self._unit}, {rate:.1f}/s"
        if self._total and rate and self._done < self._total:
            line += f", {(self._total - self._done) / rate:.0f} s left"
        if self._fields:
            line += f", {_format_fields(self._fields)}"
        say(line)


class Display:
    """The command line's `stmn.runtime.progress.Progress`.

    Args:
        as_json: print nothing for a person, and every event as one line of JSON on standard output.
    """

    def __init__(self, as_json: bool = False) -> None:
        self._as_json = as_json and not torchrun.rank()  # of torchrun's processes only the first prints
        self._quiet = as_json or bool(torchrun.rank())

    def say(self, line: str) -> None:
        """Print a line, above the bars if there are any."""
        if not self._quiet:
            say(line)

    def event(self, **fields: object) -> None:
        """Print a line of JSON for a machine; a person sees the bars."""
        if self._as_json:
            answer_json(fields)

    @contextmanager
    def task(self, description: str, total: int | None, unit: str, done: int = 0) -> Iterator[_LiveTask | _PlainTask]:
        """A bar on a terminal, lines elsewhere."""
        if not _draws_bars() or self._quiet:
            plain = _PlainTask(description, total, unit, done, self._quiet)
            yield plain
            plain.print_line()
            return
        with RichProgress(*_columns(messages.width), console=messages, speed_estimate_period=_SPEED_SECONDS) as bars:
            number = bars.add_task(printable(description), total=total, completed=done, unit=unit, shown={})
            yield _LiveTask(bars, number)


def _draws_bars() -> bool:
    """True on a terminal, and in a notebook with the widgets that rich draws there."""
    return messages.is_terminal or (messages.is_jupyter and find_spec("ipywidgets") is not None)


class _DescriptionColumn(ProgressColumn):
    """The description of the task, in at most a third of the line."""

    def render(self, task: RichTask) -> Text:
        """`training`."""
        text = Text(task.description)
        text.truncate(messages.width // 3, overflow="ellipsis")
        return text


class _RateColumn(ProgressColumn):
    """Units per second."""

    def render(self, task: RichTask) -> Text:
        """`12.3 videos/s`."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {task.fields['unit']}/s" if speed else "", style="progress.data.speed")


class _LeftColumn(TimeRemainingColumn):
    """Time left; once finished, the time that it took."""

    def render(self, task: RichTask) -> Text:
        """`0:12:31 left`, `in 0:40:05`."""
        text = super().render(task)
        return Text("in ").append_text(text) if task.finished else text.append(" left")


class _FieldsColumn(ProgressColumn):
    """The numbers beside the bar: as many as fit on the rest of the line, the most important first."""

    def __init__(self, others: list[ProgressColumn]) -> None:
        super().__init__(Column(no_wrap=True, overflow="ellipsis"))
        self._others = others

    def render(self, task: RichTask) -> Text:
        """`loss 0.31  acc 0.92`."""
        return Text(fit_fields(task.fields["shown"], messages.width - sum(self._width(c, task) for c in self._others)))

    @staticmethod
    def _width(column: ProgressColumn, task: RichTask) -> int:
        """Width in characters of another column and the space after it."""
        if isinstance(column, BarColumn):
            return (column.bar_width or 0) + 1
        rendered = column(task)
        return cell_len(rendered.plain if isinstance(rendered, Text) else str(rendered)) + 1


def fit_fields(fields: dict[str, object], width: int) -> str:
    """Fields in `width` characters: if they don't fit, with short names, and without the least important ones."""
    ranked = sorted(fields, key=lambda name: _IMPORTANT.index(name) if name in _IMPORTANT else len(_IMPORTANT))
    ordered = {name: fields[name] for name in ranked}
    text = _format_fields(ordered)
    if cell_len(text) <= width:
        return text
    shortened = {_SHORT.get(name, name): value for name, value in ordered.items()}
    while shortened and cell_len(_format_fields(shortened)) > width:
        shortened.popitem()
    return _format_fields(shortened)


def _columns(width: int) -> list[ProgressColumn]:
    """The columns of a bar's line on a terminal of `width` characters."""
    wide = width >= _WIDE
    columns: list[ProgressColumn] = [
        _DescriptionColumn(),
        BarColumn(bar_width=28 if wide else 6),
        MofNCompleteColumn(),
        *([_RateColumn()] if wide else []),
        _LeftColumn(elapsed_when_finished=True),
    ]
    return [*columns, _FieldsColumn(columns)]


def _format_fields(fields: dict[str, object]) -> str:
    """`loss 0.31  accuracy 0.92`."""
    return "  ".join(f"{name.replace('_', ' ')} {_format_number(value)}" for name, value in fields.items())


def _format_number(value: object) -> str:
    """A fraction with three digits, a whole number with all."""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
