"""`stmn plugins`: what can be named in options and recipes."""

import json
from typing import Annotated

import typer

from stmn.cli.guard import guarded

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="List plugins.")


@app.callback()
def root() -> None:
    """What can be named in options and recipes."""


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
    check: Annotated[bool, typer.Option("--check", help="import each, and say which are broken")] = False,
) -> None:
    """List all plugins by kind, with their packages. Nothing is imported without --check."""
    from stmn import registry
    from stmn.errors import PluginError

    with guarded():
        rows = []
        for kind in registry.KINDS:
            for plugin in registry.plugins(kind):
                row = dict(plugin.identity)
                if check:
                    try:
                        plugin.load()
                        row["state"] = "fine"
                    except PluginError as error:
                        row["state"] = str(error)
                rows.append(row)
        if as_json:
            typer.echo(json.dumps(rows, indent=1))
            return
        for row in rows:
            state = f"  {row['state']}" if check else ""
            typer.echo(f"{row['kind']:<10} {row['name']:<20} {row['package']} {row['version']}{state}")
