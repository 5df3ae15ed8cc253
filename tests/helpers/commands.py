"""How tests call `stmn`: in this process where only its answer matters, as a process where signals or imports do."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from click.testing import Result
from typer.testing import CliRunner

from stmn.cli.main import app

STMN = Path(sys.executable).with_name("stmn")


def call(*arguments: object) -> Result:
    """Run a command here; `exit_code`, `stdout` and `stderr` are its answer. Any traceback fails the test."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert ": a bug of stmn; --debug" not in result.stderr, result.stderr
    return result


def over(command: Sequence[object], *more: object) -> list[str]:
    """A command with more arguments; flags that it has already are replaced, as none may be given twice."""
    flags = {str(argument) for argument in more if str(argument).startswith("--")}
    kept, replaced = [], False
    for argument in map(str, command):
        replaced = argument in flags if argument.startswith("--") else replaced
        kept += [] if replaced else [argument]
    return kept + list(map(str, more))


def errors_of(result: Result | subprocess.CompletedProcess) -> list[str]:
    """The lines of standard error that say `error: ...`."""
    return [line.removeprefix("error: ") for line in result.stderr.splitlines() if line.startswith("error: ")]


def start(*arguments: object, **options: object) -> subprocess.Popen:
    """Start a command as a process that leads a group of its own, as a terminal does."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"} | options.pop("env", {})
    return subprocess.Popen(
        [STMN, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env=environment, preexec_fn=listen, **options,
    )  # fmt: skip


def listen() -> None:
    """Hear Ctrl-C again, where the tests themselves run in the background of a shell that turned it off."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def write_recipe(path: Path, head: str, *stages: str) -> Path:
    """A recipe file of a [recipe] table and [[stage]] tables."""
    path.write_text("\n".join([f"[recipe]\n{head}", *(f"[[stage]]\n{stage}" for stage in stages)]) + "\n")
    return path
