"""Write docs/reference/commands.md and recipes.md from the command line and the options models.

    python docs/make_reference.py

`tests/docs/test_reference.py` fails while the pages are not what this writes.
"""

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from typer.models import ArgumentInfo, OptionInfo

from stmn.cli.main import COMMANDS
from stmn.cli.stage_command import COMMON, stage_app
from stmn.options import MODELS, options_of
from stmn.options.base import DataOptions, Option

FOLDER = Path(__file__).parent / "reference"
MADE = "<!-- Made by docs/make_reference.py; do not edit. -->"

COMMANDS_INTRO = """
Every command with its arguments and options. `stmn COMMAND --help` prints the same. Lists are written with commas or
blanks (`--late-fusion A B`), tables as `KEY=VALUE`. A flag with `--no-` is a switch.
"""

STAGE_INTRO = """
Commands that are also stages of recipes (prepare, train-stream, fuse, evaluate, fuse-idt, export, report) have these
options besides their own:
"""

RECIPES_INTRO = """
A recipe is a TOML file that chains stages:

    [recipe]
    name = "mine"
    about = "one line for `stmn recipes list`"
    seed = 1                 # seed, data and split are defaults of every stage that has such a key
    data = "mine"

    [[stage]]
    id = "videos"
    uses = "prepare"
    dataset = "folder"

    [[stage]]
    id = "motion"            # what later stages call this one's output
    uses = "train-stream"    # the command of the stage; every other key is one of its options
    modality = "flow"

    [[stage]]
    id = "test"
    uses = "evaluate"
    model = "motion"         # the id of an earlier stage, a run's name, or a file

`stmn run RECIPE` runs the stages in order. It skips what is up to date and resumes what was interrupted.
`--data-root` gives the folder of the videos to the recipe's prepare stage, `--data` names another prepared set, and
`--until ID` stops after a stage.

`stmn recipes validate RECIPE` prints every mistake at once, with the nearest key or value.
`stmn recipes show RECIPE --resolved` prints every key of every stage, and whether the stage, the recipe or the default
gave it. A single stage runs with `stmn evaluate --recipe RECIPE --stage ID`; flags win over the recipe's keys.

The recipes that come with `stmn`:
"""

KEYS_INTRO = """
The keys of each kind of stage. They are the flags of the command, with underscores instead of hyphens. *Stage* in the
second column means the id of an earlier stage, the name of a run, or a file.
"""


def main() -> None:
    """Write both pages."""
    for name, text in pages().items():
        (FOLDER / name).write_text(text)


def pages() -> dict[str, str]:
    """File name -> content."""
    return {"commands.md": commands_page(), "recipes.md": recipes_page()}


def commands_page() -> str:
    """Every command with its parameters."""
    blocks = ["# Commands", MADE, COMMANDS_INTRO.strip()]
    blocks += ["## Options of every stage", STAGE_INTRO.strip(), table(HEAD, map(common_row, COMMON.items()))]
    for name, (module, line) in COMMANDS.items():
        blocks.append(f"## stmn {name}")
        found = import_module(module).app if module else stage_app(name)
        if found.registered_callback or len(found.registered_commands) > 1:
            blocks.append(line)
            for info in found.registered_commands:
                inner = info.name or info.callback.__name__.rstrip("_")
                blocks += [f"### stmn {name} {inner}", *command_blocks(f"{name} {inner}", info.callback, info.help)]
        else:
            [info] = found.registered_commands
            blocks += command_blocks(name, info.callback, info.help)
    return "\n\n".join(blocks) + "\n"


HEAD = ("option", "default", "meaning")


def command_blocks(name: str, callback: Any, help_text: str | None) -> Iterator[str]:
    """What a command does, how it is called, and its parameters."""
    yield (help_text or inspect.getdoc(callback) or "").strip()
    parameters = [p for p in parameters_of(callback) if not p.hidden]
    arguments = [p.usage for p in parameters if p.argument]
    yield "    " + " ".join(["stmn", name, *arguments, "[OPTIONS]"])
    own = [p for p in parameters if name not in MODELS or p.name not in COMMON]
    yield table(HEAD, (p.row for p in own)) if own else "It has no options."
    if name in MODELS:
        yield "And the [options of every stage](#options-of-every-stage)."


class Parameter:
    """An argument or an option of a command, as the help describes it."""

    def __init__(self, name: str, annotation: Any, default: Any) -> None:
        self.name = name
        kind, info = split_annotation(annotation)
        self.argument = isinstance(info, ArgumentInfo)
        self.hidden = bool(info.hidden)
        self.kind, self.many = kind, get_origin(kind) is list
        self.required = default in (inspect.Parameter.empty, ...)
        self.help, self.default = split_help(info.help or "", shown_default(default, info.show_default))
        given = (info.default, *(info.param_decls or ()))  # inside Annotated, Typer takes the first name for a default
        self.declared = [text for text in given if isinstance(text, str) and text.startswith("-")]
        self.metavar = info.metavar

    @property
    def usage(self) -> str:
        """`VIDEO...`, `[DATA]`."""
        name = self.metavar or self.name.rstrip("_").upper()
        name = name if name.startswith("[") or not self.many else f"{name}..."
        return name if self.required or name.startswith("[") else f"[{name}]"

    @property
    def row(self) -> tuple[str, str, str]:
        """A row of the table."""
        if self.argument:
            return f"`{self.metavar or self.name.rstrip('_').upper()}`", self.default, self.help
        names = self.declared or [f"--{self.name.replace('_', '-')}"]
        if self.kind is bool and not self.declared:
            names = [f"{names[0]}/--no-{names[0][2:]}"]
        value = "" if self.kind is bool else f" {value_of(self.kind)}"
        return f"`{', '.join(names)}{value}`", "required" if self.required else self.default, self.help


def parameters_of(callback: Any) -> list[Parameter]:
    """The parameters of a command's function."""
    signature = inspect.signature(callback, eval_str=True)
    return [Parameter(p.name, p.annotation, p.default) for p in signature.parameters.values()]


def split_annotation(annotation: Any) -> tuple[Any, Any]:
    """The type of a parameter without None, and what Typer is told of it."""
    info: Any = typer.Option()
    if get_origin(annotation) is Annotated:
        annotation, info = get_args(annotation)[:2]
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(kind for kind in get_args(annotation) if kind is not NoneType)
    assert isinstance(info, ArgumentInfo | OptionInfo)
    return annotation, info


def split_help(text: str, default: str) -> tuple[str, str]:
    """A help text and the default; `[default: the newest]` at the end of a text is its default."""
    found = re.fullmatch(r"(.*?)\s*\[default: (.*)\]", text, re.DOTALL)
    return (found[1], found[2]) if found else (text, default)


def shown_default(default: Any, shown: bool | str | None) -> str:
    """What the help says of a default; empty for nothing."""
    if isinstance(shown, str):
        return shown if " " in shown or shown in ("yes", "no") else f"`{shown}`"
    if shown is False or default in (None, False, inspect.Parameter.empty, ...):
        return ""
    return "yes" if default is True else f"`{default}`"


def value_of(kind: Any) -> str:
    """How a flag's value is written: `INT`, `a|b|c`."""
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    if get_origin(kind) is list:
        return f"{value_of(get_args(kind)[0])}..."
    return {int: "INT", float: "NUMBER", Path: "PATH"}.get(kind, "TEXT")


def common_row(item: tuple[str, tuple[Any, Any]]) -> tuple[str, str, str]:
    """The row of an option that every stage has."""
    name, (annotation, default) = item
    return Parameter(name, annotation, default).row


def recipes_page() -> str:
    """The format of recipes, and the keys of every stage."""
    from stmn.recipe.load import list_recipes, load_recipe

    rows = []
    for name, path in list_recipes().items():
        recipe = load_recipe(str(path))
        rows.append((f"[`{name}`](../../recipes/{name}.toml)", ", ".join(s.id for s in recipe.stages)))
    blocks = ["# Recipes", MADE, RECIPES_INTRO.strip(), table(("recipe", "stages"), rows), KEYS_INTRO.strip()]
    for verb in MODELS:
        model = options_of(verb)
        blocks += [f"## {verb}", (inspect.getdoc(model) or "").strip()]
        blocks.append(table(("key", "value", "default", "meaning"), map(key_row, model.described().values())))
        if model.renamed:
            blocks.append(
                "Renamed: " + ", ".join(f"`{old}` is now `{new}`" for old, new in model.renamed.items()) + "."
            )
    return "\n\n".join(blocks) + "\n"


def key_row(option: Option) -> tuple[str, str, str, str]:
    """A row of a stage's table."""
    words = {"switch": "true or false", "integer": "integer", "number": "number", "text": "text", "path": "path"}
    value = " ".join(f'`"{choice}"`' for choice in option.choices) or words.get(option.shape, option.shape)
    if option.inputs:
        value = "list of stages" if option.shape == "list" else "stage"
    default = option.default
    if default in (None, {}, []):
        shown = ""
    else:
        shown = f"`{str(default).lower() if isinstance(default, bool) else repr(default).replace(chr(39), chr(34))}`"
    text, shown = split_help(option.help, shown)
    return (
        f"`{option.name}`",
        value,
        shown,
        text + (" (also in `[recipe]`)" if option.name in DataOptions.model_fields else ""),
    )


def table(head: tuple[str, ...], rows: Any) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
