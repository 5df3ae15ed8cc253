"""A stage's command, made from its options model: flags, types, defaults and help are written once, there."""

import inspect
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from stmn.cli.guard import guarded
from stmn.options import options_of
from stmn.options.base import Option, StageOptions
from stmn.runtime import torchrun

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
    model = options_of(verb)
    epilog = "Examples:  " + "   |   ".join(EXAMPLES[verb])
    command = app.command(verb, cls=_command_class(model), help=(model.__doc__ or "").strip(), epilog=epilog)
    command(_stage_function(verb, model))
    return app


#: how KEY=VALUE begins, and the commas between two of them
KEY, BETWEEN = re.compile(r"[\w-]+="), re.compile(r",(?=\s*[\w-]+=)")


def _command_class(model: type[StageOptions]) -> type[TyperCommand]:
    """A command whose lists and tables may be written with blanks as well as commas: `--late-fusion A B`."""
    lists = {option.flag for option in model.described().values() if option.shape == "list"}
    tables = {option.flag for option in model.described().values() if option.shape == "table"}

    def continues(flag: str, argument: str) -> bool:
        """True for one more value of the flag before it: of a table, one more KEY=VALUE."""
        return (flag in lists and not argument.startswith("-")) or (flag in tables and bool(KEY.match(argument)))

    class Command(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            joined: list[str] = []
            for argument in args:
                if len(joined) > 1 and continues(joined[-2], argument):
                    joined[-1] += f",{argument}"
                else:
                    joined.append(argument)
            return super().parse_args(ctx, joined)

    return Command


def _stage_function(verb: str, model: type[StageOptions]) -> Any:
    """A function with one parameter per option and those that every stage's command has."""

    def command(**values: Any) -> None:
        with guarded(values["debug"]):
            given = {name: values.pop(name) for name in model.model_fields}
            for option in model.described().values():  # an argument that is a flag too
                if option.argument and option.flagged:
                    flagged = values.pop(f"{option.name}_flag")
                    given[option.name] = given[option.name] if flagged is None else flagged
            run_stage(verb, model, parse(given, model), **values)

    own = [name for name in model.model_fields if name in model.__annotations__]  # before those it shares with others
    order = own + [name for name in model.model_fields if name not in own]
    parameters = [parameter for name in order for parameter in _parameters(model.described()[name])]
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
    from stmn.options.base import build_options
    from stmn.recipe.chain import Overrides, plan_in_recipe
    from stmn.recipe.execute import execute
    from stmn.recipe.load import load_recipe
    from stmn.recipe.plan import plan_stage
    from stmn.settings import load_settings
    from stmn.workspace import Workspace

    settings = load_settings(workspace=workspace, device=device)
    space, display = Workspace(settings.workspace), Display(as_json)
    if recipe:
        chain = load_recipe(recipe)
        chosen = chain.stage(verb, stage_id)
        overrides = Overrides(settings.defaults, data=given.get("data"), split=given.get("split"))
        plan = plan_in_recipe(chain, chosen, space, display, overrides, given)
    else:
        plan = plan_stage(verb, build_options(model, settings.defaults.get(verb, {}) | given, verb), space)
    try:
        run = execute(plan, space, display, settings.device, force)
    except BaseException:
        if plan.run.record.get("status") in ("failed", "interrupted"):
            display.event(**plan.run.record)
        raise
    if as_json:
        display.event(**run.record)
        return
    if torchrun.rank():
        return
    for kind in run.record["outputs"]:
        typer.echo(f"{kind}: {run.output(kind)}")


def _parameters(option: Option) -> list[inspect.Parameter]:
    """The parameters of an option: argument, flag, or both. None means not given: then recipes and settings count."""
    found = []
    shown = _shown_default(option)
    if option.argument:
        declared: Any = typer.Argument(help=option.help, metavar=option.name.upper(), show_default=shown)
        found.append(_parameter(option.name, option, declared))
    if option.flagged and option.shape == "switch":
        declared = typer.Option(f"{option.flag}/--no-{option.flag[2:]}", help=option.help, show_default=shown)
        found.append(_parameter(option.name, option, declared))
    elif option.flagged:
        declared = typer.Option(option.flag, help=option.help, show_default=shown, hidden=option.argument)
        found.append(_parameter(f"{option.name}_flag" if option.argument else option.name, option, declared))
    return found


def _parameter(name: str, option: Option, declared: Any) -> inspect.Parameter:
    """One parameter of a command."""
    kinds: dict[str, Any] = {"switch": bool, "integer": int, "number": float, "path": Path, "table": list[str]}
    kind = Literal[option.choices] if option.shape == "choice" else kinds.get(option.shape, str)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, declared]
    )


def _shown_default(option: Option) -> bool | str:
    """What the help says of a default; False for nothing."""
    if option.default in (None, [], {}):
        return False
    if isinstance(option.default, list):
        return ",".join(f"{value:g}" for value in option.default)
    return {"True": "yes", "False": "no"}.get(str(option.default), str(option.default))


def parse(values: dict[str, Any], model: type[StageOptions]) -> dict[str, Any]:
    """The flags that were given, lists and tables split at commas and KEY=VALUE read as TOML values."""
    from stmn.errors import UsageError

    given = {}
    for name, value in values.items():
        option = model.described()[name]
        if value is None or value == []:
            continue
        if option.shape == "list":
            value = [item.strip() for item in value.split(",") if item.strip()]
        elif option.shape == "table":
            items = [item.strip() for text in value for item in BETWEEN.split(text)]
            wrong = [item for item in items if not KEY.match(item)]
            if wrong:
                raise UsageError(f"{option.flag} {wrong[0]}: write KEY=VALUE")
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
