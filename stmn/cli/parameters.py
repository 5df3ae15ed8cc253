"""The flags that several commands share, written once."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stmn.cli.help import COMMON

if TYPE_CHECKING:
    from stmn.workspace import Workspace


def _flag(*names: str, help: str, metavar: str | None = None) -> typer.models.OptionInfo:
    """A flag in the panel of common options."""
    option: typer.models.OptionInfo = typer.Option(
        *names, help=help, metavar=metavar, show_default=False, rich_help_panel=COMMON
    )
    return option


WorkspacePath = Annotated[
    Path | None, _flag("--workspace", "-w", metavar="PATH", help="folder with data/ and runs/ [default: .]")
]
DeviceName = Annotated[str | None, _flag("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N [default: auto]")]
Json = Annotated[bool, _flag("--json", help="print JSON")]
JsonLines = Annotated[bool, _flag("--json", help="print JSON, one object per line")]
#: for commands that write a file
Overwrite = Annotated[bool, _flag("--force", help="overwrite existing files")]
#: for commands that run stages
Rerun = Annotated[bool, _flag("--force", help="run again even if up to date")]
#: for commands that run stages; the default depends on the command
Wait = Annotated[
    bool | None, _flag("--wait/--no-wait", help="wait for another process that is at work on the same run")
]
Debug = Annotated[bool, _flag("--debug", help="show tracebacks")]


def open_workspace(path: Path | None) -> "Workspace":
    """The workspace of a command.

    Args:
        path: the value of `--workspace`; without it the settings decide.

    Raises:
        UsageError: the settings are wrong.
    """
    from stmn.settings import load_settings
    from stmn.workspace import Workspace

    return Workspace(load_settings(workspace=path).workspace)


def check_new(path: Path, force: bool) -> None:
    """Check that a file may be written.

    Args:
        force: allow overwriting it.

    Raises:
        UsageError: it exists already.
    """
    from stmn.errors import UsageError

    if os.path.lexists(path) and not force:
        raise UsageError(f"{path}: already exists; use --force to overwrite it")
