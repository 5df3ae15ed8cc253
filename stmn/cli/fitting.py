"""Shared by `stmn init` and `stmn train`: their flags, how choices are printed, where the recipe is written."""

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stmn.cli.console import answer
from stmn.cli.dry_run import say_time
from stmn.cli.stage_command import with_options
from stmn.errors import UsageError
from stmn.options.base import build_options
from stmn.options.fitting import FittingOptions

if TYPE_CHECKING:
    from stmn.recipe.fitting import Fitted

_Videos = Annotated[
    Path, typer.Argument(metavar="VIDEOS", help=FittingOptions.described()["videos"].help, show_default=False)
]


def with_fitting_flags(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command's function the flags of `FittingOptions` beside its own; it gets them as `asked`."""

    def run(given: dict[str, Any], **values: Any) -> None:
        function(asked=build_options(FittingOptions, given, function.__name__), **values)

    own = [p for p in inspect.signature(function).parameters.values() if p.name != "asked"]
    run.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    made = with_options(FittingOptions, run)
    videos, *others = inspect.signature(made).parameters.values()
    videos = videos.replace(default=inspect.Parameter.empty, annotation=_Videos)
    made.__signature__ = inspect.Signature([videos, *others])  # type: ignore[attr-defined]
    return made


def name_of(asked: FittingOptions) -> str:
    """The name of the prepared set and the recipe. Raises `UsageError` if it can't be a file's name."""
    from stmn.runtime.files import real_path
    from stmn.runtime.names import name_problem

    path = asked.videos
    name = asked.name or (path.stem if path.is_file() else real_path(path).name)
    if fault := name_problem(name):
        raise UsageError(f"'{name}': {fault}; choose a name with --name NAME")
    return name


def print_choices(fitted: "Fitted") -> None:
    """Print what was found and chosen, one line each, and how long it takes."""
    for note in fitted.clips.notes:
        answer(f"note       {note}")
    for choice in fitted.lines():
        answer(str(choice))
    parts = fitted.duration
    each = [
        f"{word} {say_time(seconds)}"
        for word, seconds in (
            ("prepare", parts.prepare), ("train", parts.train), ("test", parts.test), ("train on all", parts.final),
        )
        if seconds
    ]  # fmt: skip
    answer(f"time       {say_time(parts.seconds):<13} from steps that were measured just now: {', '.join(each)}")


def head_of(command: str, fitted: "Fitted", run: str) -> list[str]:
    """The lines of the comment at the top of a recipe."""
    seconds = fitted.duration.seconds
    return [
        f"Written by {command} for the clips and the machine below. Edit it, and run it with:",
        "",
        f"    {run}",
        "",
        *(str(choice) for choice in fitted.lines()),
        f"estimate   {seconds:.0f} s",
    ]


def check_free(paths: list[Path], force: bool) -> None:
    """Raise `UsageError` if one of the files exists, unless `force`."""
    for path in paths:
        if os.path.lexists(path) and not force:
            raise UsageError(f"{path}: already exists; use --force to overwrite it, or --name NAME for other files")
