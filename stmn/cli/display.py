"""How progress looks: live bars on a terminal, plain lines elsewhere. All of it goes to standard error."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.progress import Task as RichTask
from rich.table import Column
from rich.text import Text

from stmn.runtime import torchrun

#: seconds between plain lines
PLAIN_SECONDS = 10.0
#: seconds that speed and time left are judged by
SPEED_SECONDS = 600.0
#: characters that a line needs with everything in it
WIDE = 120

console = Console()
errors = Console(stderr=True)


def shown(fields: dict[str, object]) -> str:
    """`loss 0.31  accuracy 0.92`."""
    return "  ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in fields.items())


def number(value: object) -> str:
    """Three digits of a fraction, all of a whole number."""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


class RateColumn(ProgressColumn):
    """Units a second."""

    def render(self, task: RichTask) -> Text:
        """`12.3 videos/s`."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {task.fields['unit']}/s" if speed else "", style="progress.data.speed")


def columns(width: int) -> list[ProgressColumn]:
    """What a bar's line shows on a terminal of `width` characters; what matters least gives way first."""
    roomy = width >= WIDE
    shown: list[ProgressColumn] = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=28 if roomy else 6),
        MofNCompleteColumn(table_column=whole()),
    ]
    if roomy:
        shown += [RateColumn(table_column=whole()), TimeElapsedColumn(table_column=whole())]
    # where it gets tight, what stands beside the bar goes on below; the rest keeps its line
    beside = TextColumn("{task.fields[shown]}", table_column=Column())
    return [*shown, TextColumn("left"), TimeRemainingColumn(table_column=whole()), beside]


def whole() -> Column:
    """A column whose text is never broken."""
    return Column(no_wrap=True)


class LiveTask:
    """A bar."""

    def __init__(self, bars: RichProgress, number: TaskID) -> None:
        self.bars, self.number = bars, number
        self.fields: dict[str, object] = {}

    def advance(self, count: int = 1, **fields: object) -> None:
        """Move the bar."""
        self.fields |= fields
        self.bars.update(self.number, advance=count, shown=shown(self.fields))


class PlainTask:
    """A line now and then."""

    def __init__(self, description: str, total: int | None, unit: str, done: int) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = self.first = done
        self.started = self.told = time.monotonic()
        self.fields: dict[str, object] = {}

    def advance(self, count: int = 1, **fields: object) -> None:
        """Count, and tell if it is time."""
        self.done += count
        self.fields |= fields
        if time.monotonic() - self.told > PLAIN_SECONDS:
            self.tell()

    def tell(self) -> None:
        """Print where we are, how fast, and how long it still takes."""
        self.told = time.monotonic()
        rate = (self.done - self.first) / max(self.told - self.started, 1e-9)
        line = f"{self.description}: {self.done}/{self.total or '?'} {self.unit}, {rate:.1f}/s"
        if self.total and rate and self.done < self.total:
            line += f", {(self.total - self.done) / rate:.0f} s left"
        if self.fields:
            line += f", {shown(self.fields)}"
        errors.print(escape(line), soft_wrap=True, highlight=False)


class Display:
    """The command line's `stmn.runtime.progress.Progress`.

    `as_json`: nothing for a person, and every event as one line of JSON on standard output.
    """

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json and not torchrun.rank()  # of torchrun's processes the first one tells
        self.quiet = as_json or bool(torchrun.rank())

    def say(self, line: str) -> None:
        """Print a line, above the bars if there are any."""
        if not self.quiet:
            errors.print(escape(line), soft_wrap=True, highlight=False)

    def event(self, **fields: object) -> None:
        """Print a line of JSON for a machine; a person sees the bars."""
        if self.as_json:
            print(json.dumps(fields), flush=True)

    @contextmanager
    def task(self, description: str, total: int | None, unit: str, done: int = 0) -> Iterator[LiveTask | PlainTask]:
        """A bar on a terminal, lines elsewhere."""
        if not errors.is_terminal or self.quiet:
            plain = PlainTask(description, total, unit, done)
            if self.quiet:
                plain.told = float("inf")
            yield plain
            if not self.quiet:
                plain.tell()
            return
        # speed over minutes: a single video may take longer than the 30 s that rich would look back
        with RichProgress(*columns(errors.width), console=errors, speed_estimate_period=SPEED_SECONDS) as bars:
            number = bars.add_task(description, total=total, completed=done, unit=unit, shown="")
            yield LiveTask(bars, number)
