"""A stage's command, made from its options model: flags, types, defaults and help are written once, there."""

import inspect
import re
import tomllib
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from typer.core import TyperCommand

from stmn.cli.guard import guarded
from stmn.options.base import StageOptions, mark
from stmn.runtime import torchrun
from stmn.stages import stage

EXAMPLES: dict[str, list[str]] = {
    "prepare": ["stmn prepare ~/videos mine", "stmn prepare ~/UCF101 --dataset ucf101 --workers 8"],
    "train-stream": ["stmn train-stream --modality flow --arch resnet152"],
    "fuse": ["stmn fuse --recipe recipes/final.toml", "stmn fuse --fusion add --injector none"],
    "evaluate": ["stmn evaluate --fully-conv", "stmn evaluate --late-fusion appearance motion --weights 1,3"],
    "fuse-idt": ["stmn fuse-idt --idt-scores idt.safetensors"],
    "export": ["stmn export --format onnx --copy-to model.onnx"],
    "report": ["stmn report"],
}


def stage_app(verb: str) -> typer.Typer:
    """The Typer app of one command."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    module = stage(verb)
    model: type[StageOptions] = module.Options
    epilog = "Examples:  " + "   |   ".join(EXAMPLES[verb])
    command = app.command(verb, cls=command_class(model), help=(module.__doc__ or "").strip(), epilog=epilog)
    command(stage_function(verb, model))
    return app


#: how KEY=VALUE begins, and the commas between two of them
KEY, BETWEEN = re.compile(r"[\w-]+="), re.compile(r",(?=\s*[\w-]+=)")


def command_class(model: type[StageOptions]) -> type[TyperCommand]:
    """A command whose lists and tables may be written with blanks as with commas: `--late-fusion A B`."""
    lists = {flag_of(name) for name, info in model.model_fields.items() if takes(list, info.annotation)}
    tables = {flag_of(name) for name, info in model.model_fields.items() if takes(dict, info.annotation)}

    def goes_on(flag: str, argument: str) -> bool:
        """True for one more value of the flag before it: of a table, one more KEY=VALUE."""
        return (flag in lists and not argument.startswith("-")) or (flag in tables and bool(KEY.match(argument)))

    class Command(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            joined: list[str] = []
            for argument in args:
                if len(joined) > 1 and goes_on(joined[-2], argument):
                    joined[-1] += f",{argument}"
                else:
                    joined.append(argument)
            return super().parse_args(ctx, joined)

    return Command


def flag_of(name: str) -> str:
    """`--late-fusion` of the option `late_fusion`."""
    return f"--{name.replace('_', '-')}"


def takes(kind: type, annotation: Any) -> bool:
    """True for an option whose value is a list, or a table."""
    return any(get_origin(found) is kind for found in (annotation, *get_args(annotation)))


def stage_function(verb: str, model: type[StageOptions]) -> Any:
    """A function with one parameter per option and those that every stage's command has."""

    def command(**values: Any) -> None:
        with guarded(values["debug"]):
            given = {name: values.pop(name) for name in model.model_fields}
            run_stage(verb, model, parse(given, model), **values)

    own = [name for name in model.model_fields if name in model.__annotations__]  # before those it shares with others
    order = own + [name for name in model.model_fields if name not in own]
    parameters = [parameter(name, model.model_fields[name]) for name in order]
    parameters += [
        inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=d, annotation=a) for n, (a, d) in COMMON.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def run_stage(
    verb: str,
    model: type[StageOptions],
    given: dict[str, Any],
    workspace: Path | None,
    device: str | None,
    recipe: str | None,
    stage_id: str | None,
    force: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Plan and run a stage from flags, or from a recipe's stage under flags; print what it made."""
    from stmn.cli.display import Display
    from stmn.options.base import build
    from stmn.recipe.chain import Asked, plan_in_recipe
    from stmn.recipe.execute import execute, plan
    from stmn.recipe.load import load_recipe
    from stmn.settings import load_settings
    from stmn.workspace import Workspace

    settings = load_settings(workspace=workspace, device=device)
    space, display = Workspace(settings.workspace), Display(as_json)
    if recipe:
        chain = load_recipe(recipe)
        chosen = chain.stage(verb, stage_id)
        asked = Asked(settings.defaults, data=given.get("data"), split=given.get("split"))
        planned = plan_in_recipe(chain, chosen, space, display, asked, given)
    else:
        planned = plan(verb, build(model, settings.defaults.get(verb, {}) | given, verb), space)
    try:
        run = execute(planned, space, display, settings.device, force)
    except BaseException:
        if planned.run.record.get("status") in ("failed", "interrupted"):
            display.event(**planned.run.record)
        raise
    if as_json:
        display.event(**run.record)
        return
    if torchrun.rank():
        return
    for kind in run.record["outputs"]:
        typer.echo(f"{kind}: {run.output(kind)}")


def parameter(name: str, info: Any) -> inspect.Parameter:
    """A command-line parameter of an options field; None means not given, so that recipes and settings count."""
    kind, flag = flag_type(info.annotation), flag_of(name)
    default = None if info.default in (None, [], {}) else info.default
    text = info.description or ""
    shown: bool | str = False
    if default is not None:
        shown = ",".join(f"{v:g}" for v in default) if isinstance(default, list) else str(default)
        shown = {"True": "yes", "False": "no"}.get(shown, shown)
    if mark(info, "argument"):
        declared: Any = typer.Argument(help=text, metavar=name.upper(), show_default=shown)
    elif kind is bool:
        declared = typer.Option(f"{flag}/--no-{flag[2:]}", help=text, show_default=shown)
    else:
        declared = typer.Option(flag, help=text, show_default=shown)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, declared]
    )


def flag_type(annotation: Any) -> Any:
    """The type that a flag is read as: lists and tables are read as text and parsed here."""
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(a for a in get_args(annotation) if a is not NoneType)
    if get_origin(annotation) is list:
        return str
    if get_origin(annotation) is dict:
        return list[str]
    if get_origin(annotation) is Literal or annotation in (bool, int, float, Path):
        return annotation
    return str


def parse(values: dict[str, Any], model: type[StageOptions]) -> dict[str, Any]:
    """The flags that were given, lists and tables split at commas and KEY=VALUE read as TOML values."""
    from stmn.errors import UsageError

    given = {}
    for name, value in values.items():
        if value is None or value == []:
            continue
        annotation = str(model.model_fields[name].annotation)
        if "list[" in annotation:
            value = [item.strip() for item in value.split(",") if item.strip()]
        elif annotation.startswith("dict["):
            items = [item.strip() for text in value for item in BETWEEN.split(text)]
            wrong = [item for item in items if not KEY.match(item)]
            if wrong:
                raise UsageError(f"{flag_of(name)} {wrong[0]}: write KEY=VALUE")
            value = {k: toml_value(v) for k, v in (item.split("=", 1) for item in items)}
        given[name] = value
    return given


def toml_value(text: str) -> Any:
    """A number, truth value or list as TOML writes it; anything else is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


#: parameters of every stage's command: name -> (annotation, default)
COMMON: dict[str, tuple[Any, Any]] = {
    "workspace": (
        Annotated[
            Path | None,
            typer.Option("--workspace", "-w", help="folder with data/ and runs/", show_default="."),
        ],
        None,
    ),
    "device": (
        Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda", show_default="auto")],
        None,
    ),
    "recipe": (
        Annotated[
            str | None,
            typer.Option(
                "--recipe", help="take this stage's options and inputs from a recipe; flags win", show_default=False
            ),
        ],
        None,
    ),
    "stage_id": (
        Annotated[
            str | None,
            typer.Option(
                "--stage", help="which stage of the recipe, where it has several of this kind", show_default=False
            ),
        ],
        None,
    ),
    "force": (Annotated[bool, typer.Option("--force", help="do it again even when up to date")], False),
    "as_json": (
        Annotated[
            bool, typer.Option("--json", help="print lines of JSON and nothing else; the last is the run's record")
        ],
        False,
    ),
    "debug": (Annotated[bool, typer.Option("--debug", help="show tracebacks")], False),
}
