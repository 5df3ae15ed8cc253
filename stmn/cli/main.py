"""`stmn` and the list of its commands. A command's code, and torch, are imported only when it runs."""

import codecs
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Any, NamedTuple

import typer

from stmn.cli.app import Group, make_app


class CommandInfo(NamedTuple):
    """A command's entry in `stmn --help`, and its module.

    Attributes:
        panel: the title that it is listed under.
        help: its line of help.
        module: the module with its `app`; empty for a stage, whose command is made from its options.
    """

    panel: str
    help: str
    module: str = ""


COMMANDS: dict[str, CommandInfo] = {
    "prepare": CommandInfo("Data", "Pack videos into a data set of frames and optical flow."),
    "data": CommandInfo("Data", "Inspect a prepared data set: numbers, checks, pictures, files.", "stmn.cli.data"),
    "train": CommandInfo("Train", "Train and test a model on a folder of clips, in one command.", "stmn.cli.train"),
    "init": CommandInfo("Train", "Write a list of clips and a recipe that fit them.", "stmn.cli.init"),
    "train-stream": CommandInfo("Train", "Train one stream: appearance (rgb) or motion (flow)."),
    "fuse": CommandInfo("Train", "Tie two trained streams by gates and temporal filters, and train them end to end."),
    "tune": CommandInfo("Train", "Try values of a training's options, and show which validate best.", "stmn.cli.tune"),
    "run": CommandInfo("Train", "Run all stages of a recipe.", "stmn.cli.run"),
    "recipes": CommandInfo("Train", "List, show, validate and copy recipes.", "stmn.cli.recipes"),
    "weights": CommandInfo("Train", "Download ImageNet weights to start streams from.", "stmn.cli.weights"),
    "evaluate": CommandInfo("Test", "Test a model on the videos of a split."),
    "calibrate": CommandInfo("Test", "Calibrate a model: fit a temperature to its confidence."),
    "table": CommandInfo("Test", "Write one table of methods that were tested several times."),
    "scores": CommandInfo("Test", "Show, convert, compare and fuse scores files.", "stmn.cli.scores"),
    "compare": CommandInfo("Test", "Compare evaluations of the same videos.", "stmn.cli.compare"),
    "fuse-idt": CommandInfo("Test", "Average network scores with those of SVMs on improved dense trajectories."),
    "idt": CommandInfo(
        "Test", "Improved dense trajectories, step by step; show the tracks of a video.", "stmn.cli.idt"
    ),
    "predict": CommandInfo("Ship", "Classify videos with a model.", "stmn.cli.predict"),
    "features": CommandInfo("Ship", "Compute features of videos, window by window.", "stmn.cli.features"),
    "export": CommandInfo("Ship", "Export a model to another format, such as ONNX."),
    "benchmark": CommandInfo("Ship", "Time a model on this machine's CPU.", "stmn.cli.benchmark"),
    "push": CommandInfo("Ship", "Send a model to the hub: weights, card and recipe.", "stmn.cli.push"),
    "report": CommandInfo("Look", "Write one HTML page about what was run and how well it did."),
    "browse": CommandInfo("Look", "Look at videos, mistakes and a model in the browser.", "stmn.cli.browse"),
    "nets": CommandInfo("Look", "Show a network: gates, temporal filters, costs.", "stmn.cli.nets"),
    "plugins": CommandInfo("Look", "List, explain and make plugins.", "stmn.cli.plugins"),
    "doctor": CommandInfo("Look", "Show versions and devices, and what is missing.", "stmn.cli.doctor"),
}

_COMPLETION = {
    "install_completion": "install completion for this shell",
    "show_completion": "print the completion script of this shell",
}


class _LazyGroup(Group):
    """Knows the commands' names and lines of help; imports a command when it is called."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The flags of `stmn` itself."""
        params: list[Any] = super().get_params(ctx)
        for param in params:
            param.help = _COMPLETION.get(param.name, getattr(param, "help", None))
        return params

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The real command in place of the stub that the help shows."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in COMMANDS:
            _leave_to_first_process(name)
            command = typer.main.get_command(_find_app(name))
            command.name = name
        return name, command, rest


def _find_app(name: str) -> typer.Typer:
    """The app of a command."""
    if module := COMMANDS[name].module:
        app: typer.Typer = import_module(module).app
        return app
    from stmn.cli.stage_command import stage_app

    return stage_app(name)


def _leave_to_first_process(name: str) -> None:
    """Under torchrun, if the processes don't run a command together, end all but the first."""
    from stmn.runtime import torchrun

    if torchrun.size() == 1 or name == "run":
        return
    from stmn.cli.console import say
    from stmn.recipe.execute import is_shared

    if not COMMANDS[name].module and is_shared(name):
        return
    if torchrun.rank():
        raise typer.Exit
    say(f"torchrun: {name} can't be shared; one process runs it")


app = make_app(
    "Two-stream video action recognition: appearance and motion ResNets, tied by gates and temporal filters.",
    name="stmn",
    cls=_LazyGroup,
    completion=True,
    examples=("stmn run demo", "stmn fuse --help"),
)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="print the version", is_eager=True)] = False,
) -> None:
    """Options of `stmn` itself."""
    if version:
        from importlib import metadata

        typer.echo(f"stmn {metadata.version('stmn')}")
        raise typer.Exit


def _stub() -> None:
    """Stand for a command in the list of commands."""


for _name, _info in COMMANDS.items():
    app.command(_name, help=_info.help, rich_help_panel=_info.panel)(_stub)


def _print_anything() -> None:
    """Make any name readable and printable: letters that a terminal's encoding lacks become escapes, not errors."""
    if os.name == "posix" and not sys.flags.utf8_mode and codecs.lookup(sys.getfilesystemencoding()).name != "utf-8":
        # names on disk and in lists are UTF-8, whatever the locale says; Python reads this only when it starts
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # the locale C says nothing about the terminal; nearly all are UTF-8
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding="utf-8" if ascii_only else None, errors="backslashreplace")


def main() -> None:
    """The entry point of the console script."""
    # Waiting threads of torch's OpenMP spin by default. If another program needs the cores, that makes training up to
    # 15 times slower. This must be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _print_anything()
    try:
        app()
    except KeyboardInterrupt:  # before a command began
        raise SystemExit(130) from None
