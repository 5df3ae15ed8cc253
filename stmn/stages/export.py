"""export: a model to one file of another format, checked against the network."""

from stmn import registry
from stmn.errors import UsageError
from stmn.options.export import ExportOptions
from stmn.stages.base import Context, Result, Stage, fill_newest
from stmn.workspace import Input, Run, Workspace


class Export(Stage[ExportOptions]):
    """Writes `model.onnx`, or what the exporter's suffix says."""

    options = ExportOptions

    def complete(self, options: ExportOptions, workspace: Workspace, inputs: dict[str, list[Input]]) -> ExportOptions:
        """Fill in the workspace's newest model."""
        return fill_newest(options, "model", workspace, inputs)

    def label(self, options: ExportOptions) -> str:
        """`export-onnx`."""
        return f"export-{options.format}"

    def plugins(self, options: ExportOptions) -> list[dict[str, str]]:
        """The exporter."""
        return [registry.find("exporter", options.format).identity]

    def check(self, options: ExportOptions, context: Context) -> None:
        """Refuse a precision that the exporter can't write."""
        known = getattr(registry.load("exporter", options.format), "precisions", ("float32",))
        if options.precision not in known:
            raise UsageError(f"exporter '{options.format}' can't write {options.precision}, only {', '.join(known)}")

    def run(self, options: ExportOptions, context: Context) -> Result:
        """Write the file under a temporary name, compare its outputs with the network's, then rename it."""
        from stmn.exporting.base import TOLERANCES, check_parity, example_inputs
        from stmn.nets.checkpoint import load_checkpoint
        from stmn.runtime.files import atomic_write

        source = context.inputs["model"][0]
        network, description = load_checkpoint(source.path)
        exporter = registry.load("exporter", options.format)()
        path = context.out / f"model{exporter.suffix}"
        with atomic_write(path) as temporary:
            more = {} if options.precision == "float32" else {"precision": options.precision}
            exporter.write(network, description, example_inputs(network, description, 2, 3), temporary, **more)
            tolerance = TOLERANCES[options.precision]
            difference = check_parity(network, description, exporter.runner(temporary), tolerance)
        what = "" if options.precision == "float32" else f"in {options.precision}, "
        context.progress.say(f"{source.label} -> {path}: {what}outputs agree to {difference:.1e}")
        return Result(
            outputs={"export": path.name},
            values={"of": source.name, "relative_difference": difference, "bytes": path.stat().st_size},
        )

    def deliver(self, options: ExportOptions, run: Run) -> None:
        """Copy the file."""
        import shutil

        from stmn.runtime.files import atomic_write, remove_leftovers

        if options.copy_to:
            remove_leftovers(options.copy_to.parent, options.copy_to.name)
            with atomic_write(options.copy_to) as temporary:
                shutil.copyfile(run.output("export"), temporary)
