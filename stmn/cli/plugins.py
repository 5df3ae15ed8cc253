"""`stmn plugins`: the plugins that options and recipes can name."""

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stmn.cli.app import command, make_app
from stmn.cli.console import answer, answer_json
from stmn.cli.parameters import Json

if TYPE_CHECKING:
    from stmn.registry import Plugin

app = make_app("List, explain and make plugins.")

#: headings of docstring sections for programmers, which help leaves out
_SECTIONS = re.compile(r"^(?:Args|Attributes|Returns|Raises|Yields):$", re.MULTILINE)
#: kind -> how a plugin is chosen, and how its options are given
_CHOSEN = {
    "backbone": ("train-stream --arch", "--arch-options"),
    "fusion": ("fuse --fusion", "--fusion-options"),
    "injector": ("fuse --injector", "--injector-options"),
    "flow": ("prepare --flow", "--flow-options"),
    "dataset": ("prepare --dataset", "--dataset-options"),
    "exporter": ("export --format", "--format-options"),
    "logger": ("train-stream --logger", "--logger-options"),
    "weights": ("train-stream --weights", ""),
}


@command(app, "list", examples=("stmn plugins list", "stmn plugins list --check"))
def list_(
    check: Annotated[
        bool, typer.Option("--check", help="also check that each keeps its contract; exit 1 if one doesn't")
    ] = False,
    as_json: Json = False,
) -> None:
    """List all plugins by kind, with their packages and states. Those of other packages are imported to try them."""
    rows = _find_rows(check)
    if as_json:
        answer_json(rows, indent=1)
    else:
        for row in rows:
            where = f"{row['package']} {row['version']}"
            answer(f"{row['kind']:<9} {row['name']:<21} {where:<26} API {row['api']:<3} {row['state']}")
            if row["problem"]:
                answer(f"  {row['problem']}")
    if check and any(row["state"] in ("broken", "other API") for row in rows):
        raise typer.Exit(1)


@command(app, "show", examples=("stmn plugins show tvl1", "stmn plugins show blended_multiply"))
def show(
    name: Annotated[str, typer.Argument(help="its name, or PACKAGE:NAME")],
    kind: Annotated[str | None, typer.Option("--kind", help="fusion, injector, ... [default: all]")] = None,
    as_json: Json = False,
) -> None:
    """Explain a plugin: where it is from, how it is chosen, its options with types and defaults."""
    rows = [_explain(plugin) for plugin in _find_named(name, kind)]
    if as_json:
        answer_json(rows, indent=1)
        return
    for number, row in enumerate(rows):
        if number:
            answer("")
        answer(f"{row['kind']} {row['name']} of {row['package']} {row['version']}, API {row['api']}")
        answer(f"  stmn {row['chosen']}")
        for option in row["options"]:
            default = "needed" if option["required"] else f"default {option['default']!r}"
            answer(f"    {option['name']} ({option['type']}, {default})")
            if option["help"]:
                answer(f"      {option['help']}")
        for line in row["docs"].splitlines():
            answer(f"  {line}".rstrip())


@command(app, "new", examples=("stmn plugins new my-gate --kind fusion",))
def new(
    name: Annotated[str, typer.Argument(help="name of the package, such as my-gate")],
    kind: Annotated[
        str, typer.Option("--kind", help="backbone, dataset, exporter, flow, fusion, injector, logger, weights")
    ],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="where its folder is made")] = Path(),
) -> None:
    """Make an installable package with one plugin: the code, a check of its contract, a toy recipe."""
    from stmn.cli.plugins_new import make_package

    folder = make_package(name, kind, to)
    answer(f"made {folder}; next:")
    answer(f"  pip install -e {shlex.quote(str(folder))}")
    answer(f"  python -m pytest {shlex.quote(str(folder / 'tests'))}")
    answer(f"  stmn run {shlex.quote(str(folder / 'recipe.toml'))} --workspace toy")


def _find_rows(check: bool) -> list[dict[str, Any]]:
    """A row for each plugin."""
    from stmn import registry
    from stmn.cli.plugins_probe import UNCHECKED, find_problems

    found = [plugin for kind in registry.KINDS for plugin in registry.installed(kind)]
    states = {plugin: _find_state(plugin) for plugin in found}
    tried = [p for p in found if states[p][0] in ("ok", "shadowed") and (check or p.package != registry.BUILT_IN)]
    for plugin, problem in find_problems(tried, check).items():
        if problem:
            states[plugin] = (states[plugin][0] if problem.startswith(UNCHECKED) else "broken"), problem
    return [
        {"kind": p.kind, "name": p.name, "package": p.package, "version": p.version, "api": p.api}
        | {"state": states[p][0], "problem": states[p][1]}
        for p in found
    ]


def _find_state(plugin: "Plugin") -> tuple[str, str]:
    """The state of a plugin as far as its metadata show, and what to do about it."""
    from stmn import registry
    from stmn.errors import PluginError

    if not registry.is_on(plugin):
        return "off", ""
    try:
        plugin.check_api()
    except PluginError as error:
        return "other API", str(error)
    name = registry.name_of(plugin)
    if name == plugin.name:
        return "ok", ""
    others = [p.package for p in registry.plugins(plugin.kind) if p.name == plugin.name and p != plugin]
    return "shadowed", f"{' and '.join(others)} {'has' if len(others) == 1 else 'have'} this name too: write {name}"


def _find_named(name: str, kind: str | None) -> list["Plugin"]:
    """The plugins with a name, of one kind or of all."""
    from stmn import registry
    from stmn.errors import UsageError, near_match

    if kind is not None and kind not in registry.KINDS:
        raise UsageError(f"--kind {kind}: no such kind{near_match(kind, registry.KINDS)}; {', '.join(registry.KINDS)}")
    plain = name.rpartition(":")[2]
    kinds = [k for k in registry.KINDS if (kind or k) == k and any(p.name == plain for p in registry.installed(k))]
    if not kinds:
        known = sorted({known for k in registry.KINDS if (kind or k) == k for known in registry.names(k)})
        raise UsageError(
            f"no {kind or 'plugin'} is called '{name}'{near_match(plain, known)}; stmn plugins list shows all"
        )
    return [registry.find(k, name) for k in kinds]


def _explain(plugin: "Plugin") -> dict[str, Any]:
    """Import a plugin, and return what `stmn plugins show` prints about it."""
    import inspect

    from stmn import registry
    from stmn.registry.options import list_options

    target = plugin.load()
    options = [
        {"name": o.name, "type": o.type, "default": None if o.required else o.default, "required": o.required}
        | {"help": o.help}
        for o in list_options(plugin.kind, target).values()
    ]
    command, flag = _CHOSEN[plugin.kind]
    chosen = f"{command} {registry.name_of(plugin)}" + (f" {flag} KEY=VALUE,..." if options else "")
    return {
        "kind": plugin.kind, "name": plugin.name, "package": plugin.package, "version": plugin.version,
        "api": plugin.api, "chosen": chosen, "options": options,
        "docs": _SECTIONS.split(inspect.getdoc(getattr(target, "func", target)) or "")[0].strip(),
    }  # fmt: skip
