"""Lay out help: panels of options, each text beside its flag if that fits, else below it; readable at 80 columns."""

import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text
from typer.core import TyperArgument, TyperGroup

#: wider lines are hard to read
_MAX_WIDTH = 100
#: a longer flag has its text below
_MAX_LABEL = 26
#: columns that a panel adds to the left and right of its content
_BORDER = 4
#: the last panel: flags that many commands have
COMMON = "Common options"
_ARGUMENTS, _OPTIONS, _COMMANDS = "Arguments", "Options", "Commands"

_HELP_FLAG = "print this help"
#: stands for a space at which lines don't break
_GLUE = "\ue000"

#: wrapping needs a console, but uses neither its width nor its file
_ANY_CONSOLE = Console()

#: labels with their texts
_Rows = list[tuple[Text, Text]]

#: type of a value -> its placeholder in the help
_METAVARS: dict[Any, str] = {int: "N", float: "NUMBER", Path: "PATH"}


def help_text(command: Any, ctx: typer.Context) -> str:
    """The help of a command: usage, description, panels of commands or options, examples.

    Args:
        command: a `TyperCommand` or `TyperGroup`. Its `epilog` holds the examples, one per line.

    Returns:
        lines that fit the terminal, at most 100 characters long, with colours if standard output shows them.
    """
    console = Console(highlight=False)
    width = min(console.width, _MAX_WIDTH)
    parts: list[Text | Panel] = [Text.assemble(("Usage: ", "bold"), _usage(command, ctx)), Text()]
    if command.help:
        parts += [*_wrap(_styled(command.help), width), Text()]
    for panels in (_command_panels(command, ctx), _parameter_panels(command, ctx)):
        labels = [label.cell_len for rows in panels.values() for label, _ in rows]
        column = max((length for length in labels if length <= _MAX_LABEL), default=0) + 2
        parts += [_panel(title, rows, column, width) for title, rows in panels.items()]
    if command.epilog:
        parts += [Text(), Text("Examples", style="bold"), *(Text(f"  {line}") for line in command.epilog.splitlines())]
    with console.capture() as capture:
        for part in parts:
            console.print(part, soft_wrap=isinstance(part, Text))
    return capture.get()


def _usage(command: Any, ctx: typer.Context) -> str:
    """`stmn predict [OPTIONS] MODEL VIDEO...`."""
    pieces = [ctx.command_path, "[OPTIONS]"]
    if isinstance(command, TyperGroup):
        return " ".join([*pieces, "COMMAND ..."])
    for param in command.get_params(ctx):
        if isinstance(param, TyperArgument):
            name = _argument_name(param)
            pieces.append(name if param.required or name.startswith("[") else f"[{name}]")
    return " ".join(pieces)


def _command_panels(command: Any, ctx: typer.Context) -> dict[str, _Rows]:
    """Title -> names of a group's commands, each with its line of help."""
    panels: dict[str, _Rows] = defaultdict(list)
    if isinstance(command, TyperGroup):
        for name in command.list_commands(ctx):
            found: Any = command.get_command(ctx, name)
            line = (found.help or "").split("\n\n")[0]
            panels[found.rich_help_panel or _COMMANDS].append((Text(name, style="bold cyan"), _styled(line)))
    return panels


def _parameter_panels(command: Any, ctx: typer.Context) -> dict[str, _Rows]:
    """Title -> labels and texts of arguments and options. Arguments come first, the common options last."""
    panels: dict[str, _Rows] = {_ARGUMENTS: []}
    common: _Rows = []
    own = _OPTIONS if isinstance(command, TyperGroup) else COMMON
    types = _types_of(command)
    for param in command.get_params(ctx):
        if getattr(param, "hidden", False):
            continue
        kind = types.get(param.name, str)
        text = _parameter_text(param, get_args(kind) if get_origin(kind) is Literal else ())
        if isinstance(param, TyperArgument):
            panels[_ARGUMENTS].append((Text(_argument_name(param), style="bold cyan"), text))
            continue
        title = own if param.name == "help" else getattr(param, "rich_help_panel", None) or _OPTIONS
        rows = common if title == COMMON else panels.setdefault(title, [])
        rows.append((_option_label(param, kind), text))
    return {title: rows for title, rows in {**panels, COMMON: common}.items() if rows}


def _types_of(command: Any) -> dict[str, Any]:
    """Name of each parameter -> its type, without None; for a list, the type of its items."""
    types = {}
    for name, parameter in inspect.signature(command.callback).parameters.items():
        kind = parameter.annotation
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        if get_origin(kind) in (Union, UnionType):
            kind = next(member for member in get_args(kind) if member is not NoneType)
        types[name] = get_args(kind)[0] if get_origin(kind) is list else kind
    return types


def _panel(title: str, rows: _Rows, column: int, width: int) -> Panel:
    """One panel, whose texts begin at `column`."""
    lines = [line for label, text in rows for line in _lines(label, text, column, width - _BORDER)]
    return Panel(Group(*lines), title=Text(title, style="bold"), title_align="left", border_style="dim", width=width)


def _lines(label: Text, text: Text, column: int, width: int) -> Iterator[Text]:
    """A label with its text beside it, or below it if the label is too long."""
    wrapped = _wrap(text, width - column)
    if label.cell_len > column - 2:
        yield label
    else:
        yield Text.assemble(label, " " * (column - label.cell_len), wrapped.pop(0))
    for line in wrapped:
        yield Text.assemble(" " * column, line)


def _wrap(text: Text, width: int) -> list[Text]:
    """Lines of at most `width` characters, without spaces at their ends."""
    lines = list(text.wrap(_ANY_CONSOLE, width)) or [Text()]
    for line in lines:
        line.plain = line.plain.replace(_GLUE, " ")
        line.rstrip()
    return lines


def _argument_name(param: Any) -> str:
    """`MODEL`, or `VIDEO...` if it takes several."""
    name: str = param.metavar or param.name.upper()
    return f"{name}..." if param.nargs == -1 and not param.metavar else name


def _option_label(param: Any, kind: Any) -> Text:
    """`-w, --workspace PATH`; for a switch that is on by default, also the flag that turns it off."""
    label = Text(", ".join(sorted(param.opts, key=len)), style="bold cyan")
    if param.is_flag:
        if param.secondary_opts and _default(param) == "yes":
            label.append(f"/{param.secondary_opts[0]}")
        return label
    metavar = param.metavar or ("CHOICE" if get_origin(kind) is Literal else _METAVARS.get(kind, "TEXT"))
    return label.append(f" {metavar}", style="not bold yellow")


def _parameter_text(param: Any, choices: tuple[str, ...]) -> Text:
    """Its help, choices and default."""
    text = _HELP_FLAG if param.name == "help" else param.help or ""
    text, bracket, own_default = text.partition(" [default:")
    parts = [text, bracket.strip() + own_default]
    if choices:
        parts.insert(1, f"[{', '.join(choices)}]")
    if param.required and not isinstance(param, TyperArgument):
        parts.append("[required]")
    if default := _default(param):
        parts.append(f"[default: {default}]")
    return _styled(" ".join(filter(None, parts)))


def _default(param: Any) -> str:
    """The default as the help shows it; empty to show none."""
    if isinstance(param.show_default, str):
        return param.show_default
    value = param.default
    if not param.show_default or value is None or callable(value) or value == []:
        return ""
    if isinstance(value, bool):
        return ("yes" if value else "no") if param.secondary_opts else ""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _styled(text: str) -> Text:
    """Style a text: flags coloured, choices and defaults dim; short text in brackets stays on one line."""
    text = re.sub(r"\[[^\]]{,30}\]", lambda found: found[0].replace(" ", _GLUE), " ".join(text.split()))
    styled = Text(text.replace("[default: ", f"[default:{_GLUE}"))
    styled.highlight_regex(r"(?<![\w-])--?[a-z][\w-]*", "cyan")
    styled.highlight_regex(r"\[[^\]]+\]", "dim")
    return styled
