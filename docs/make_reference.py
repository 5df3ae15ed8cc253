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
from typer.models import ArgumentInfo, CommandInfo

from stmn.cli.help import COMMON
from stmn.cli.main import COMMANDS
from stmn.cli.stage_command import stage_app
from stmn.options import MODELS, options_of
from stmn.options.base import DataOptions, Option

FOLDER = Path(__file__).parent / "reference"
MADE = "<!-- Made by docs/make_reference.py; do not edit. -->"

COMMANDS_INTRO = """
Every command with its arguments and options. `stmn COMMAND --help` prints the same. Lists are written with commas or
blanks (`--late-fusion A B`), tables as `KEY=VALUE`.
"""

COMMON_INTRO = """
Most commands have some of these; each command's section says which.
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
`--until ID` stops after a stage. `--set motion.steps=100` changes a key of one stage, `--set steps=100` that of all
stages that have it, `--set sweep.seed=[0]` a key of `[sweep]`; a changed stage is another run.

A recipe writes in the workspace alone: the name of a set is a name, not a path, and what leads out of the workspace
(`copy_to`, `cluster`) is a flag that a person types. It reads what it names, anywhere; `--dry-run` shows what that is.

## A sweep

A table `[sweep]` varies seeds, splits and options, and compares what comes of it in one table:

    [sweep]
    seed = [0, 1, 2, 3, 4]           # every stage that has a seed and doesn't set it itself
    split = "all"                    # every split of the prepared set; or a list
    against = "test-motion"          # the row that the others are compared with

    [sweep.fused]                    # options of one stage, by its id: lists are crossed
    fusion = ["multiply", "add"]
    temporal_init = ["centre", "average"]

Options that can't be crossed freely are named combinations, each a variant with a label:

    [[sweep.fused]]
    label = "direct +"
    fusion = "add"
    site = "direct"

    [[sweep.fused]]
    label = "residual x"
    fusion = "multiply"
    site = "residual"

Each combination is an instance of its stage, with an id such as `fused[fusion=add, seed=1, split=3]`. A stage depends
on its own options, on seed and split, and on whatever the stages depend on that its inputs name, and on nothing else: a
stream is trained once for all fusions. In a sweep, stages name their inputs. `seed` and `split` of `[sweep]` win over
those of `[recipe]`, and a stage's own over both. A sweep makes at most 1,000 stages.

If the splits are folds, each test gets one more instance, `test[seed=1, split=all]`, which
[joins](../guides/testing.md#folds) its folds; `stream_weights = "folds"` is chosen there. `split = "all"` needs the
prepared set: `stmn run` prepares it first, and `--dry-run` says that the number of splits is not known before.

The last stage that tests is followed by a stage `table` of all of them, unless the recipe has one of its own. A row is
a stage with its swept options, without seed and split: `test-fused[fusion=add, temporal_init=centre]`. `against` may
also name a stage or a model that only one row is of. A report shows the table, and the evaluations of the first seed.
Rows are of test videos. If all stages of a recipe test with `part = "validation"`, rows are of the videos that training
held out: options can be compared without test videos (`recipes/trials/small_options.toml` does).
[Several trainings in one table](../guides/testing.md#several-trainings-in-one-table) says what is in it.

A training that fails, because it diverges for example, doesn't stop the others. What follows from it is left out, and
the last lines say what failed; `stmn run` again does only what is missing.

`--until ID` stops after the last instance of a stage, and a single instance runs with
`stmn fuse --recipe RECIPE --stage 'fused[fusion=add, seed=1, split=3]'`.

## Check and copy

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
    sections: list[str] = []
    common: dict[tuple[str, ...], None] = {}
    for name, about in COMMANDS.items():
        app = import_module(about.module).app if about.module else stage_app(name)
        sections += [f"## stmn {name}", *([about.help] if app.registered_callback else [])]
        for info in app.registered_commands:
            called = f"{name} {info.name or info.callback.__name__.rstrip('_')}" if app.registered_callback else name
            sections += [f"### stmn {called}"] if app.registered_callback else []
            parameters = parameters_of(info.callback)
            common |= dict.fromkeys(p.row for p in parameters if p.panel == COMMON)
            sections += command_blocks(called, info, parameters)
    head = ["# Commands", MADE, COMMANDS_INTRO.strip(), "## Common options", COMMON_INTRO.strip()]
    return "\n\n".join([*head, table(HEAD, sorted(common)), *sections]) + "\n"


HEAD = ("option", "default", "meaning")


def command_blocks(name: str, info: CommandInfo, parameters: list["Parameter"]) -> Iterator[str]:
    """What a command does, how it is called, its parameters, and examples."""
    assert info.callback is not None
    yield inspect.getdoc(info.callback) or ""
    yield "    " + " ".join(["stmn", name, "[OPTIONS]", *(p.usage for p in parameters if p.argument)])
    own = [p for p in parameters if p.panel != COMMON]
    if own:
        yield table(HEAD, (p.row for p in sorted(own, key=lambda p: not p.argument)))
    shared = ", ".join(f"`{p.flag}`" for p in parameters if p.panel == COMMON)
    yield f"[Common options](#common-options): {shared}."
    if info.epilog:
        yield "Examples:"
        yield "\n".join(f"    {line}" for line in info.epilog.splitlines())


class Parameter:
    """An argument or an option of a command, as the help describes it."""

    def __init__(self, name: str, annotation: Any, default: Any) -> None:
        kind, info = split_annotation(annotation)
        self.argument = isinstance(info, ArgumentInfo)
        self.kind, self.panel, self.hidden = kind, info.rich_help_panel, bool(info.hidden)
        self.required = default in (inspect.Parameter.empty, ...)
        self.help, self.default = split_help(info.help or "", shown_default(default, info.show_default))
        given = (info.default, *(info.param_decls or ()))  # inside Annotated, Typer takes the first name for a default
        declared = [text for text in given if isinstance(text, str) and text.startswith("-")]
        plain = name.replace("_", "-")
        names = declared or [f"--{plain}/--no-{plain}" if kind is bool else f"--{plain}"]
        # as in the help, only a switch that is on shows how to turn it off
        self.names = [n if self.default == "yes" else n.partition("/")[0] for n in names]
        self.metavar = info.metavar or (name.upper() if self.argument else METAVARS.get(kind, "TEXT"))
        if get_origin(kind) is Literal:
            self.metavar = "|".join(get_args(kind))

    @property
    def flag(self) -> str:
        """`--workspace`."""
        return max(self.names, key=len).partition("/")[0]

    @property
    def usage(self) -> str:
        """`VIDEOS...`, `[DATA]`."""
        name = (
            self.metavar
            if self.metavar.startswith("[") or self.metavar.endswith("...") or get_origin(self.kind) is not list
            else f"{self.metavar}..."
        )
        return name if self.required or name.startswith("[") else f"[{name}]"

    @property
    def row(self) -> tuple[str, str, str]:
        """A row of the table."""
        if self.argument:
            return f"`{self.metavar}`", self.default, self.help
        names = ", ".join(sorted(self.names, key=len))
        value = "" if self.kind is bool else f" {self.metavar}"
        return f"`{names}{value}`", "required" if self.required else self.default, self.help


METAVARS = {int: "N", float: "NUMBER", Path: "PATH"}


def parameters_of(callback: Any) -> list[Parameter]:
    """The parameters of a command's function, without hidden ones."""
    signature = inspect.signature(callback, eval_str=True)
    found = [Parameter(p.name, p.annotation, p.default) for p in signature.parameters.values()]
    return [parameter for parameter in found if not parameter.hidden]


def split_annotation(annotation: Any) -> tuple[Any, Any]:
    """The type of a parameter without None, and its Typer declaration."""
    info: Any = typer.Option()
    if get_origin(annotation) is Annotated:
        annotation, info = get_args(annotation)[:2]
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(kind for kind in get_args(annotation) if kind is not NoneType)
    return annotation, info


def split_help(text: str, default: str) -> tuple[str, str]:
    """A help text and the default; `[default: the newest]` at the end of a text is its default."""
    found = re.fullmatch(r"(.*?)\s*\[default: (.*)\]", text, re.DOTALL)
    return (found[1], found[2]) if found else (text, default)


def shown_default(default: Any, shown: bool | str | None) -> str:
    """What the help says of a default; empty for nothing."""
    if isinstance(shown, str):
        return shown if " " in shown or shown in ("yes", "no") else f"`{shown}`"
    if not shown or default in (None, False, inspect.Parameter.empty, ...):
        return ""
    return "yes" if default is True else f"`{default}`"


def recipes_page() -> str:
    """The format of recipes, and the keys of every stage."""
    from stmn.recipe.load import list_recipes, load_recipe

    rows = []
    for name, path in list_recipes().items():
        recipe = load_recipe(str(path))
        stages = ", ".join(s.id for s in recipe.stages) if "/" not in name else f"{len(recipe.stages)} stages"
        rows.append((f"[`{name}`](../../recipes/{name}.toml)", stages))
    blocks = ["# Recipes", MADE, RECIPES_INTRO.strip(), table(("recipe", "stages"), rows), KEYS_INTRO.strip()]
    for verb in MODELS:
        model = options_of(verb)
        blocks += [f"## {verb}", (inspect.getdoc(model) or "").strip()]
        blocks.append(
            table(
                ("key", "value", "default", "meaning"),
                (key_row(o) for o in model.described().values() if not o.command_line_only),
            )
        )
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
        value = " ".join([*(f'`"{word}"`' for word in option.words), value])
    default = option.default
    if default in (None, {}, []):
        shown = ""
    else:
        shown = f"`{str(default).lower() if isinstance(default, bool) else repr(default).replace(chr(39), chr(34))}`"
    text, shown = split_help(option.help, shown)
    return (
        f"`{option.key}`",
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
