"""`stmn`: one command a verb. A command's code, and torch, are imported when it runs, so `stmn --help` is quick."""

import os
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from stmn.runtime.version import __version__

#: commands that torchrun's processes do together; of any other the first does all
TOGETHER = ("train-stream", "fuse", "evaluate", "run")

#: command -> (module with `app`, or "" for a stage's verb; its line in the help)
COMMANDS: dict[str, tuple[str, str]] = {
    "prepare": ("", "Videos to a packed data set of frames and optical flow."),
    "data": ("stmn.cli.data", "Look at a prepared set: numbers, checks, pictures, files."),
    "train-stream": ("", "Train one stream: appearance (rgb) or motion (flow)."),
    "fuse": ("", "Tie two streams by gates and temporal filters, and train them end to end."),
    "evaluate": ("", "Test a model, fully convolutional in space and time."),
    "fuse-idt": ("", "Average network scores with an SVM's on hand-crafted features."),
    "export": ("", "A model to one file of another format, checked against the network."),
    "scores": ("stmn.cli.scores", "Show, convert, compare and fuse scores files."),
    "compare": ("stmn.cli.compare", "Evaluations of the same videos side by side: one table, one page."),
    "report": ("", "One HTML page of what was run and how well it did."),
    "run": ("stmn.cli.run", "Run all stages of a recipe."),
    "predict": ("stmn.cli.predict", "Classify video files with a model."),
    "recipes": ("stmn.cli.recipes", "List, show, check and copy recipes."),
    "plugins": ("stmn.cli.plugins", "List what can be named in options and recipes."),
    "nets": ("stmn.cli.nets", "Show a network: stages, gates, temporal layers, costs; a picture."),
    "weights": ("stmn.cli.weights", "Fetch ImageNet weights, to start streams from."),
    "doctor": ("stmn.cli.doctor", "Versions, device, decoder, compiler, and what each command lacks."),
}


class LazyGroup(TyperGroup):
    """Knows the commands' names and help lines; imports a command when it is called."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a value that can't be read is told in one line, as every other mistake."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            typer.secho(f"error: {error.format_message()}", fg="red", err=True)
            raise typer.Exit(error.exit_code) from error

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The real command in place of the stub that the help shows."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in COMMANDS:
            from stmn.runtime import torchrun

            if torchrun.size() > 1 and name not in TOGETHER:
                if torchrun.rank():
                    raise typer.Exit
                typer.echo(f"torchrun: {name} can't be shared; one process does it all", err=True)
            module, _ = COMMANDS[name]
            if module:
                found = import_module(module).app
            else:
                from stmn.cli.stage_command import stage_app

                found = stage_app(name)
            command = typer.main.get_command(found)
            command.name = name
        return name, command, rest


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Two-stream video action recognition: appearance and motion ResNets, tied by gates and temporal filters.",
    epilog="Start with: stmn run recipes/demo.toml   |   Docs: README.md",
)


@app.callback(invoke_without_command=True)
def root(
    version: bool = typer.Option(False, "--version", help="Show the version and exit.", is_eager=True),
) -> None:
    """Options of `stmn` itself."""
    if version:
        typer.echo(f"stmn {__version__}")
        raise typer.Exit


def stub() -> None:
    """Stands for a command in the list of commands."""


for _name, (_module, _help) in COMMANDS.items():
    app.command(_name, help=_help)(stub)


def main() -> None:
    """The entry point of the console script."""
    # Waiting threads of torch's OpenMP spin by default. Where another program wants the cores too, that makes training
    # up to 15 times slower. It has to be said before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except KeyboardInterrupt:  # before a command began
        raise SystemExit(130) from None
