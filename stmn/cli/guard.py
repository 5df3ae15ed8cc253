"""Errors become one line and an exit code."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from stmn.errors import StmnError
from stmn.runtime import torchrun


@contextmanager
def guarded(debug: bool = False) -> Iterator[None]:
    """Print a `StmnError`'s lines and exit with its code; a traceback only with `debug`."""
    try:
        yield
    except StmnError as error:
        if debug:
            traceback.print_exc()
        for line in str(error).splitlines() if tells() else ():
            typer.secho(f"error: {line}", fg="red", err=True)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        if debug:
            traceback.print_exc()
        if tells():
            typer.secho("interrupted; what was finished is kept, the same command goes on from there", err=True)
        raise typer.Exit(130) from error
    except BrokenPipeError as error:  # the reader of our output is gone: `stmn ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from error
    except OSError as error:
        if debug:
            traceback.print_exc()
        where = f"{error.filename}: " if error.filename else ""
        if tells():
            typer.secho(f"error: {where}{error.strerror or error}", fg="red", err=True)
        raise typer.Exit(1) from error


def tells() -> bool:
    """True in the process that prints an error: under torchrun, what stops one stops all, and the first one tells."""
    if torchrun.size() == 1:
        return True
    from stmn.runtime.ranks import current_ranks

    return current_ranks().reports_error()
