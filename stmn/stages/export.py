"""export: a model to one file of another format, checked against the network."""

from pathlib import Path
from typing import Any

from stmn import registry
from stmn.options.base import StageOptions, option
from stmn.recipe.execute import Context, Made, with_newest
from stmn.workspace import Workspace


class Options(StageOptions):
    """Options of `stmn export`."""

    model: str | None = option(None, "model to export (default: the workspace's newest)", input="model")
    format: str = option("onnx", "an exporter plugin", plugin="exporter")
    copy_to: Path | None = option(None, "put a copy of the file here", execution=True)


def complete(options: Options, workspace: Workspace, inputs: dict[str, Any]) -> Options:
    """Fill in the workspace's newest model."""
    return with_newest(options, "model", workspace, inputs)


def label(options: Options) -> str:
    """`export-onnx`."""
    return f"export-{options.format}"


def plugins(options: Options) -> list[dict[str, str]]:
    """The exporter."""
    return [registry.find("exporter", options.format).identity]


def run(options: Options, context: Context) -> Made:
    """Write the file under a temporary name, compare its outputs with the network's, then name it."""
    import shutil

    from stmn.exporting.base import check_parity, example_inputs
    from stmn.nets.checkpoint import load_checkpoint
    from stmn.runtime.files import atomic_write

    source = context.inputs["model"][0]
    network, description = load_checkpoint(source.path)
    exporter = registry.load("exporter", options.format)()
    path = context.out / f"model{exporter.suffix}"
    with atomic_write(path) as temporary:
        exporter.write(network, description, example_inputs(network, description, 2, 3), temporary)
        difference = check_parity(network, description, exporter.runner(temporary))
    context.progress.say(f"{source.name} -> {path}: outputs agree to {difference:.1e}")
    if options.copy_to:
        with atomic_write(options.copy_to) as temporary:
            shutil.copyfile(path, temporary)
    return Made(
        outputs={"export": path.name},
        results={"of": source.name, "relative_difference": difference, "bytes": path.stat().st_size},
    )
