"""Make a stage's command from its options model, where flags, types, defaults and help are written once."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from stmn.cli.app import Command, command, make_app
from stmn.cli.console import answer
from stmn.cli.help import COMMON
from stmn.cli.parameters import DeviceName, JsonLines, Rerun, Wait, WorkspacePath
from stmn.errors import UsageError
from stmn.options import options_of
from stmn.options.base import Option, Panel, Shape, StageOptions, build_options
from stmn.runtime.toml_files import parse_toml

_EXAMPLES: dict[str, tuple[str, ...]] = {
    "prepare": ("stmn prepare ~/videos mine", "stmn prepare ~/UCF101 --dataset ucf101 --workers 8"),
    "train-stream": (
        "stmn train-stream --modality flow --arch resnet152",
        "stmn train-stream --recipe final --stage motion --micro-batch 8",
    ),
    "fuse": ("stmn fuse --recipe final", "stmn fuse --fusion add --injector none"),
    "evaluate": ("stmn evaluate fused", "stmn evaluate --late-fusion appearance motion --stream-weights 1,3"),
    "calibrate": ("stmn calibrate fused", "stmn calibrate final --scores test-fused"),
    "fuse-idt": ("stmn fuse-idt --model fused", "stmn fuse-idt --scores test --idt-scores idt.safetensors"),
    "idt-extract": ("stmn idt extract --flow dis", "stmn idt extract --from store --flow stored"),
    "idt-fit": ("stmn idt fit --split 2 --gaussians 64",),
    "idt-encode": ("stmn idt encode --split 2",),
    "idt-score": ("stmn idt score", "stmn idt score --split all"),
    "table": (
        "stmn table test-motion test-fused --against test-motion",
        "stmn table a1 a2 b1 b2 --rows motion,motion,fused,fused --against motion",
    ),
    "export": (
        "stmn export fused --copy-to model.onnx",
        "stmn export fused --format openvino --half",
        "stmn export fused --int8",
    ),
    "report": ("stmn report", "stmn report --split 2 --samples 20"),
}

_PANELS = get_args(Panel)
_TYPES: dict[Shape, Any] = {
    "switch": bool,
    "integer": int,
    "number": float,
    "path": Path,
    "list": list[str],
    "table": list[str],
}
_METAVARS: dict[Shape, str] = {
    "integer": "N",
    "number": "NUMBER",
    "path": "PATH",
    "list": "A,B,...",
    "table": "KEY=VALUE",
}

#: the start of a KEY=VALUE, and the comma between two of them
_KEY, _BETWEEN = re.compile(r"[\w-]+="), re.compile(r",(?=\s*[\w-]+=)")

_RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="RECIPE",
        help="take this stage's options and inputs from a recipe; flags win",
        rich_help_panel="Run",
    ),
]
_StageId = Annotated[
    str | None,
    typer.Option(
        "--stage", metavar="ID", help="stage of the recipe, if it has several of this kind", rich_help_panel="Run"
    ),
]


def stage_app(verb: str) -> typer.Typer:
    """The app of a stage's command."""
    app = make_app()
    add_stage(app, verb, verb)
    return app


def add_stage(app: typer.Typer, verb: str, name: str) -> None:
    """Add a stage's command to an app, under a name."""
    model = options_of(verb)
    command(app, name, examples=_EXAMPLES[verb], cls=command_class(model))(_stage_function(verb, model))


def _stage_function(verb: str, model: type[StageOptions]) -> Any:
    """A function with one parameter per option and those that every stage's command has."""

    def run(
        given: dict[str, Any],
        workspace: WorkspacePath = None,
        device: DeviceName = None,
        recipe: _RecipeName = None,
        stage_id: _StageId = None,
        force: Rerun = False,
        wait: Wait = None,
        as_json: JsonLines = False,
    ) -> None:
        _run_stage(verb, model, given, workspace, device, recipe, stage_id, force, bool(wait), as_json)

    run.__name__, run.__doc__ = verb, model.__doc__
    return with_options(model, run)


def with_options(model: type[StageOptions], function: Callable[..., None]) -> Callable[..., None]:
    """Give a command's function the flags of a model beside its own; it gets those that were given as `given`.

    Flags of the function that have a panel of their own come before those of the model.
    """
    described = model.described()

    def run(**values: Any) -> None:
        given = {name: values.pop(name) for name in described}
        for option in described.values():  # an argument that is a flag too
            if option.argument and option.flagged and (flagged := values.pop(f"{option.name}_flag")) is not None:
                if given[option.name] is not None:
                    raise UsageError(f"{option.name.upper()} and {option.flag} are the same: give one of them")
                given[option.name] = flagged
        function(given=parse_flags(given, model), **values)

    own = [p for p in inspect.signature(function).parameters.values() if p.name != "given"]
    first = [p for p in own if _panel_of(p) not in (None, COMMON, *_PANELS)]
    rest = [p for p in own if p not in first]
    keywords = [p.replace(kind=p.KEYWORD_ONLY) for p in [*first, *list_parameters(model), *rest]]
    run.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    return run


def _panel_of(parameter: inspect.Parameter) -> str | None:
    """The title of the help panel that a parameter names; None if it names none."""
    found: str | None = get_args(parameter.annotation)[1].rich_help_panel
    return found


def list_parameters(model: type[StageOptions]) -> list[inspect.Parameter]:
    """The parameters of a command for all options of a model, in the order of the help's panels."""

    def place(option: Option) -> tuple[int, bool, bool, bool]:
        """Sort key in a panel: data set and split first, then the stage's own options, then shared ones."""
        shared = option.name not in model.__annotations__
        return _PANELS.index(option.panel), not option.data, option.name != "split", shared

    order = sorted(model.described().values(), key=place)
    return [parameter for option in order for parameter in _parameters(option)]


def _run_stage(
    verb: str,
    model: type[StageOptions],
    given: dict[str, Any],
    workspace: Path | None,
    device: str | None,
    recipe: str | None,
    stage_id: str | None,
    force: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Plan and run a stage from flags, or from a recipe's stage that flags override; print its outputs."""
    from stmn.cli.display import Display
    from stmn.recipe.chain import Overrides, plan_in_recipe, try_expand
    from stmn.recipe.execute import execute
    from stmn.recipe.load import load_recipe
    from stmn.recipe.plan import plan_stage
    from stmn.runtime import torchrun
    from stmn.settings import load_settings
    from stmn.workspace import Workspace

    settings = load_settings(workspace=workspace, device=device)
    space, display = Workspace(settings.workspace), Display(as_json)
    about: dict[str, Any] = {}
    if recipe:
        overrides = Overrides(settings.defaults, data=given.get("data"), split=given.get("split"))
        chain, _ = try_expand(load_recipe(recipe), space, overrides)
        chosen = chain.stage(verb, stage_id)
        about = {"recipe": chain.name, "stage": chosen.id}
        plan = plan_in_recipe(chain, chosen, space, display, overrides, given)
    else:
        plan = plan_stage(verb, build_options(model, settings.defaults.get(verb, {}) | given, verb), space)
    try:
        run = execute(plan, space, display, settings.device, force, wait, **about)
    except BaseException:
        if plan.run.record.get("status") in ("failed", "interrupted"):
            display.event(**plan.run.record)
        raise
    if as_json:
        display.event(**run.record)
    elif not torchrun.rank():
        stage = f" ({run.record['stage']})" if run.record.get("stage") else ""
        for kind in run.record["outputs"]:
            answer(f"{kind}{stage}: {run.output(kind)}")


def command_class(model: type[StageOptions]) -> type[Command]:
    """A command class that takes spaces as well as commas in lists and tables: `--late-fusion A B`."""
    lists = {option.flag for option in model.described().values() if option.shape == "list"}
    tables = {option.flag for option in model.described().values() if option.shape == "table"}

    renamed = {f"--{old.replace('_', '-')}": model.described()[new].flag for old, new in model.renamed.items()}

    def continues(flag: str, argument: str) -> bool:
        """True if an argument is another value of the flag before it; for a table, another KEY=VALUE."""
        if argument.startswith("-"):
            return False
        return flag in lists or (flag in tables and bool(_KEY.match(argument)))

    class StageCommand(Command):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            joined: list[str] = []
            for argument in args:
                if new := renamed.get(argument.partition("=")[0]):
                    raise typer.BadParameter(f"{argument} is called {new} now", ctx=ctx)
                flag, _, begun = joined[-1].partition("=") if joined else ("", "", "")
                if (len(joined) > 1 and continues(joined[-2], argument)) or (begun and continues(flag, argument)):
                    joined[-1] += f",{argument}"
                else:
                    joined.append(argument)
            return super().parse_args(ctx, joined)

    return StageCommand


def _parameters(option: Option) -> list[inspect.Parameter]:
    """The parameters of an option: argument, flag, or both. None: not given, so recipe and settings decide."""
    found = []
    metavar = _METAVARS.get(option.shape, "NAME" if option.plugin or option.data or option.inputs else None)
    look: dict[str, Any] = {"help": option.help, "show_default": _shown_default(option)}
    if option.argument:
        found.append(_parameter(option.name, option, typer.Argument(metavar=option.name.upper(), **look)))
    if option.flagged:
        name = f"{option.name}_flag" if option.argument else option.name
        flag = f"{option.flag}/--no-{option.flag[2:]}" if option.shape == "switch" else option.flag
        look |= {"metavar": metavar, "rich_help_panel": option.panel, "hidden": option.argument}
        found.append(_parameter(name, option, typer.Option(flag, **look)))
    return found


def _parameter(name: str, option: Option, declared: Any) -> inspect.Parameter:
    """One parameter of a command."""
    kind = Literal[option.choices] if option.shape == "choice" else _TYPES.get(option.shape, str)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, declared]
    )


def _shown_default(option: Option) -> bool | str:
    """The default as the help shows it; False to show none."""
    if option.default in (None, [], {}):
        return False
    if isinstance(option.default, bool):
        return "yes" if option.default else "no"
    values = option.default if isinstance(option.default, list) else [option.default]
    return ",".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def parse_flags(values: dict[str, Any], model: type[StageOptions]) -> dict[str, Any]:
    """The flags that were given, with lists and tables split at commas, and the VALUE of KEY=VALUE read as TOML."""
    given = {}
    for name, value in values.items():
        option = model.described()[name]
        if value is None or value == []:
            continue
        if option.shape == "list":
            value = [item.strip() for text in value for item in text.split(",") if item.strip()]
        elif option.shape == "table":
            items = [item.strip() for text in value for item in _BETWEEN.split(text)]
            wrong = [item for item in items if not _KEY.match(item)]
            if wrong:
                raise UsageError(f"{option.flag} {wrong[0]}: write KEY=VALUE")
            pairs = [item.split("=", 1) for item in items]
            keys = [key for key, _ in pairs]
            if twice := next((key for key in keys if keys.count(key) > 1), None):
                raise UsageError(f"{option.flag} {twice}=...: is given twice: give it once")
            value = {key: _toml_value(text) for key, text in pairs}
        given[name] = value
    return given


def _toml_value(text: str) -> Any:
    """Read a number, boolean or list as TOML; anything else is text."""
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text
