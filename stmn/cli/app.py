"""Make a command: its help, its errors, and the flags that every command has."""

import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from textwrap import shorten
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from stmn.cli.help import help_text
from stmn.cli.parameters import Debug

_Function = TypeVar("_Function", bound=Callable[..., None])


class Command(TyperCommand):
    """A command with our help. It refuses a flag that is given twice, as one of the two would be ignored."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for parameter in order:
            if isinstance(parameter, TyperOption) and not parameter.multiple and order.count(parameter) > 1:
                raise typer.BadParameter(f"{max(parameter.opts, key=len)} is given twice: give it once", ctx=ctx)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        formatter.write(help_text(self, ctx))

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """The possible completions, each with a line of help for shells that show it."""
        return _shorten_help(super().shell_complete(ctx, incomplete))


class Group(TyperGroup):
    """A group of commands with our help, whose errors are one line."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        formatter.write(help_text(self, ctx))

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """The possible completions, each with a line of help for shells that show it."""
        return _shorten_help(super().shell_complete(ctx, incomplete))

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run; a mistake in the command line is one line on standard error."""
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except typer.TyperException as error:
            if not standalone_mode:
                raise
            from stmn.cli.guard import report_usage_error

            report_usage_error(error)
            sys.exit(error.exit_code)
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else 0)


def make_app(
    help: str | None = None,
    *,
    name: str | None = None,
    cls: type[Group] = Group,
    completion: bool = False,
    examples: tuple[str, ...] = (),
) -> typer.Typer:
    """Make a Typer app with our settings.

    Args:
        help: what a group of commands is for; an app of a single command has none.
        name: what the usage line calls it.
        cls: its class.
        completion: add `--install-completion` and `--show-completion`.
        examples: command lines, shown one per line.
    """
    app = typer.Typer(
        name=name,
        cls=cls,
        help=help,
        epilog="\n".join(examples) or None,
        no_args_is_help=True,
        add_completion=completion,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        # Typer's own messages ignore NO_COLOR
        context_settings={
            "help_option_names": ["-h", "--help"],
            "color": False if os.environ.get("NO_COLOR") else None,
        },
    )
    if help:
        app.callback()(_nothing)  # with a callback, a group of one command still needs that command's name
    return app


def command(
    app: typer.Typer, name: str | None = None, *, examples: tuple[str, ...] = (), cls: type[Command] = Command
) -> Callable[[_Function], _Function]:
    """A decorator that registers a function as a command, with `--debug` and one-line errors.

    The function's docstring is the help, its parameters are the arguments and flags.

    Args:
        app: the app of the command, or of its group.
        name: the command's name, if not that of the function.
        examples: command lines, shown one per line.
        cls: the command's class.
    """

    def register(function: _Function) -> _Function:
        def run(debug: bool, **values: Any) -> None:
            from stmn.cli.console import answers_alone
            from stmn.cli.guard import guarded
            from stmn.settings import load_settings

            with guarded(debug), answers_alone() if values.get("as_json") else nullcontext():
                load_settings()  # a mistake in the settings is an error even if this command doesn't need them
                function(**values)

        signature = inspect.signature(function)
        debug = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug)
        keywords = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values()]
        parameters = [*keywords, debug]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        app.command(name, cls=cls, epilog="\n".join(examples) or None)(run)
        return function

    return register


def _shorten_help(items: list[Any]) -> list[Any]:
    """Cut the help of completions to a line, and drop text in brackets, which Typer would read as markup."""
    for item in items:
        item.help = shorten(re.sub(r"\[[^\]]*\]", "", item.help or ""), 60, placeholder="...")
    return items


def _nothing() -> None:
    """Do nothing: the callback of a group."""
