"""Turn errors into one line and an exit code."""

import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from stmn.cli.console import say, say_error
from stmn.errors import Interrupted, StmnError, describe_mistake, near_match
from stmn.registry import describe_unexpected
from stmn.runtime import torchrun
from stmn.runtime.memory import find_shortage
from stmn.runtime.notices import notices_to


@contextmanager
def guarded(debug: bool = False) -> Iterator[None]:
    """Turn errors into lines on standard error and an exit code.

    Args:
        debug: also print the traceback.

    Raises:
        typer.Exit: in place of the error.
    """
    try:
        with notices_to(_say_notice), _no_early_end():
            yield
    except StmnError as error:
        if debug:
            traceback.print_exc()
        if _reports(error):
            say_error(*error.lines)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        if debug:
            traceback.print_exc()
        if _reports(error):
            say("interrupted; finished work is kept, run the same command to resume")
        raise typer.Exit(130) from error
    except BrokenPipeError as error:  # the reader of our output is gone: `stmn ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, typer.Exit | typer.Abort):
            raise
        if debug:
            traceback.print_exc()
        shortage = find_shortage(error)
        advice = f"{shortage}: close other programs, or run this where there is more"
        if _reports(error):
            say_error(describe_unexpected(error) if shortage is None else advice)
        raise typer.Exit(1) from error
    except OSError as error:
        if debug:
            traceback.print_exc()
        where = f"{error.filename}: " if error.filename else ""
        if _reports(error):
            say_error(f"{where}{error.strerror or error}")
        raise typer.Exit(1) from error
    except typer.TyperException:
        raise
    except BaseException as error:
        if debug:
            traceback.print_exc()
        if _reports(error):
            say_error(describe_unexpected(error))
        raise typer.Exit(1) from error


@contextmanager
def _no_early_end() -> Iterator[None]:
    """Make `os._exit` in this process a failure: a plugin that calls it would end the command as if it were done."""
    own, leave = os.getpid(), os._exit

    def end(status: int) -> NoReturn:
        if os.getpid() == own:
            say_error(f"os._exit({status}) was called, by a plugin or a library, before the command was done")
            status = status or 1
        leave(status)

    os._exit = end
    try:
        yield
    finally:
        os._exit = leave


def _say_notice(line: str) -> None:
    """Print a notice; under torchrun, only in the first process."""
    if not torchrun.rank():
        say(line)


def report_usage_error(error: typer.TyperException) -> None:
    """Print the mistake in a command line, in one line; or, for a command without arguments, its help."""
    if torchrun.rank():
        return
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message())
    else:
        say_error(_describe(error))


def _describe(error: typer.TyperException) -> str:
    """The error's message, with the nearest command, flag or choice."""
    from pydantic import ValidationError

    message = " ".join(error.format_message().split()).removesuffix(".")
    message = re.sub("^Invalid value: (?=--)", "", message)  # the message names the flag already
    if isinstance(error.__cause__, ValidationError):  # raised by Typer's own check of types
        first = error.__cause__.errors()[0]
        value = "" if first["type"] == "value_error" else f"{first['input']!r} "  # its message names the value
        message = f"{message.partition(': ')[0]}: {value}{describe_mistake(first).removesuffix('.')}"
    if options := getattr(error, "possibilities", None):
        message = f"{getattr(error, 'message', message)} (did you mean '{options[0]}'?)"
    elif found := re.fullmatch(r"(.*)\. Did you mean (.*)\?", message):
        message = f"{found[1]} (did you mean {found[2]}?)"
    elif found := re.search(r"'([^']*)' is not one of ('.*')$", message):
        message += near_match(found[1], re.findall(r"'([^']*)'", found[2]))
    elif ctx := getattr(error, "ctx", None):
        message += f" (see {ctx.command_path} --help)"
    return message[:1].lower() + message[1:]


def _reports(error: BaseException) -> bool:
    """True in the process that prints an error. Under torchrun it stops all, and the first to see it prints it."""
    if torchrun.size() == 1:
        return True
    from stmn.runtime.ranks import current_ranks

    return current_ranks().reports_error(all_know=isinstance(error, Interrupted))
