"""`stmn plugins`: what options and recipes can name."""

from typing import TYPE_CHECKING, Annotated

import typer

from stmn.cli.app import command, make_app
from stmn.cli.console import answer, answer_json
from stmn.cli.parameters import Json

if TYPE_CHECKING:
    from stmn.registry import Plugin

app = make_app("List what options and recipes can name.")


@command(app, "list", examples=("stmn plugins list", "stmn plugins list --check"))
def list_(
    check: Annotated[bool, typer.Option("--check", help="import each plugin and report the broken ones")] = False,
    as_json: Json = False,
) -> None:
    """List all plugins by kind, with their packages. Nothing is imported without --check."""
    from stmn import registry

    rows = []
    for kind in registry.KINDS:
        for plugin in registry.plugins(kind):
            row = dict(plugin.identity)
            if check:
                row["state"] = _check(plugin)
            rows.append(row)
    if as_json:
        answer_json(rows, indent=1)
        return
    for row in rows:
        state = f"  {row['state']}" if check else ""
        answer(f"{row['kind']:<10} {row['name']:<20} {row['package']} {row['version']}{state}")


def _check(plugin: "Plugin") -> str:
    """`ok`, or what is wrong."""
    from stmn.errors import PluginError

    try:
        plugin.load()
    except PluginError as error:
        return str(error)
    return "ok"
