"""export: write a model to one file of another format, and check it against the network."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmn import registry
from stmn.errors import DataError, UsageError
from stmn.options.export import ExportOptions
from stmn.registry.options import build, plugin_errors
from stmn.stages.base import Context, Result, Stage, fill_newest
from stmn.workspace import Input, Run, Workspace

if TYPE_CHECKING:
    from stmn.nets.checkpoint import Description


class Export(Stage[ExportOptions]):
    """Writes `model.onnx`, or `model` with another exporter's suffix."""

    options = ExportOptions
    format = 2  # through torch.export

    def check_options(self, options: ExportOptions) -> None:
        """Refuse flags that contradict each other."""
        given = {"--half": "float16"} if options.half else {}
        given |= {"--int8": "int8"} if options.int8 else {}
        given |= {f"--precision {options.precision}": options.precision} if "precision" in options.given() else {}
        if len(set(given.values())) > 1:
            raise UsageError(f"{' and '.join(given)} contradict each other: give one of them")
        if options.example and options.format != "onnx":
            raise UsageError(
                f"--example {options.example}: its program runs ONNX files: leave out --format {options.format}"
            )

    def complete(self, options: ExportOptions, workspace: Workspace, inputs: dict[str, list[Input]]) -> ExportOptions:
        """Fill in the workspace's newest model, and the options that the short flags stand for."""
        self.check_options(options)
        if options.half or options.int8:
            precision = "float16" if options.half else "int8"
            options = options.model_copy(update={"precision": precision, "half": False, "int8": False})
        return fill_newest(options, "model", workspace, inputs)

    def label(self, options: ExportOptions) -> str:
        """`export-onnx`."""
        return f"export-{options.format}"

    def plugins(self, options: ExportOptions) -> list[dict[str, str]]:
        """The exporter."""
        return [registry.find("exporter", options.format).identity]

    def check(self, options: ExportOptions, context: Context) -> None:
        """Refuse options that the exporter doesn't take, and a precision or opset that it can't write."""
        exporter = _make_exporter(options)
        known = getattr(exporter, "precisions", ("float32",))
        if options.precision not in known:
            raise UsageError(f"exporter '{options.format}' can't write {options.precision}, only {', '.join(known)}")
        opsets: Any = getattr(exporter, "opsets", None)
        if options.opset is not None and opsets is None:
            raise UsageError(
                f"opset = {options.opset}: files of exporter '{options.format}' have no opset: leave it out"
            )
        if options.opset is not None and options.opset not in opsets:
            raise UsageError(
                f"opset = {options.opset}: exporter '{options.format}' writes {min(opsets)} to {max(opsets)}"
            )

        if options.example:
            from stmn.nets.checkpoint import read_description

            _check_example(options, read_description(context.inputs["model"][0].path))

    def run(self, options: ExportOptions, context: Context) -> Result:
        """Write the file under a temporary name, compare its outputs with the network's, then rename it."""
        from dataclasses import replace

        from stmn.exporting.base import example_inputs
        from stmn.exporting.load import OWN_SUFFIX
        from stmn.exporting.parity import check_parity, network_runner
        from stmn.nets.checkpoint import load_checkpoint
        from stmn.nets.training_list import write_list
        from stmn.runtime.files import atomic_write
        from stmn.runtime.names import without_folders
        from stmn.stages.export_accuracy import measure_accuracies
        from stmn.stages.export_clips import read_clips

        source = context.inputs["model"][0]
        network, whole = load_checkpoint(source.path)
        description = replace(
            whole,
            trained_on=whole.trained_on.without_lists(),
            training=without_folders(whole.training),
            licence=options.licence or whole.licence,
        )
        exporter, plugin = _make_exporter(options), registry.find("exporter", options.format)
        path = context.out / f"model{exporter.suffix}"
        clips = read_clips(whole, context.workspace, 2)
        calibration = read_clips(whole, context.workspace, options.calibration) if options.precision == "int8" else None
        if calibration and calibration.drawn:
            raise DataError(
                f"export in int8 takes the ranges of features from training videos, and the set of this model, "
                f"'{whole.trained_on.data}', is not in this workspace or has changed: prepare it here, or export "
                f"without --int8"
            )
        with atomic_write(path) as temporary, _companions_removed(exporter, temporary):
            more: dict[str, Any] = {} if options.precision == "float32" else {"precision": options.precision}
            more |= {} if options.opset is None else {"opset": options.opset}
            more |= {} if calibration is None else {"clips": calibration.inputs}
            with plugin_errors(plugin):
                exporter.write(network, description, example_inputs(network, description, 2, 3, 32), temporary, **more)
                run = exporter.runner(temporary)
            difference = check_parity(network, description, run, options.precision, clips.inputs)
            accuracies = None
            if calibration:
                both = {"float32": network_runner(network), "int8": run}
                accuracies = measure_accuracies(whole, context.workspace, both, context.progress)
                del both
            del run  # it may have the file open, and Windows renames no file that is open
            companions = _place_companions(exporter, temporary, path)
        if path.suffix == OWN_SUFFIX and whole.trained_on.videos:  # for tests in this workspace; not in the file
            write_list(path, whole.trained_on.lists)
        what = "" if options.precision == "float32" else f"in {options.precision}, "
        what += f"outputs differ by up to {difference:.1e} of the largest logit, on random input and {clips.words}"
        context.progress.say(f"{source.label} -> {path}: {what}")
        if accuracies:
            context.progress.say(str(accuracies))
        files = [path, *companions]
        return Result(
            outputs={"export": path.name},
            values={
                "of": source.name,
                "relative_difference": difference,
                "compared_on": ["random input", clips.words],
                "bytes": sum(file.stat().st_size for file in files),
                **({"accuracy": accuracies.percent, "accuracy_videos": accuracies.videos} if accuracies else {}),
            },
            files=tuple(file.name for file in companions),
        )

    def find_unchanged(self, options: ExportOptions, run: Run) -> list[str]:
        """`copy_to` if the same files are there, `example` if its folder holds nothing but all or part of it."""
        from stmn.runtime.files import holds_same

        path, kept = run.output("export"), []
        if options.copy_to and all(holds_same(to, made) for made, to in _copies(options, path).items() if to.exists()):
            kept.append("copy_to")
        if options.example:
            from stmn.exporting.example import is_example

            if is_example(path, options.example, _reads_flow(options, path)):
                kept.append("example")
        return kept

    def deliver(self, options: ExportOptions, run: Run) -> None:
        """Write the example, and copy the file and its companions, unless the same ones are there."""
        from stmn.runtime.files import copy_file, remove_leftovers

        path = run.output("export")
        if options.example:
            from stmn.exporting.example import write_example

            write_example(path, options.example, _reads_flow(options, path))
        for source, target in _copies(options, path).items():
            remove_leftovers(target.parent, target.name)
            copy_file(source, target)


def _copies(options: ExportOptions, path: Path) -> dict[Path, Path]:
    """Exported file -> path of its copy; companions come first."""
    if options.copy_to is None:
        return {}
    endings = getattr(_make_exporter(options), "companions", ())
    return {path.with_suffix(ending): options.copy_to.with_suffix(ending) for ending in endings} | {
        path: options.copy_to
    }


def _make_exporter(options: ExportOptions) -> Any:
    """Build the exporter with its options. Raises `StmnError` if it can't be imported or doesn't take them."""
    return build("exporter", options.format, options.format_options)


def _check_example(options: ExportOptions, description: "Description") -> bool:
    """True if an example needs flow. Raises `UsageError` if its program can't compute that flow."""
    reads_flow = any(stream.modality == "flow" for stream in description.network.streams)
    if reads_flow and description.preparation.flow != "tvl1":
        raise UsageError(
            f"--example {options.example}: its program computes TV-L1 flow, and this model reads that of "
            f"'{description.preparation.flow}'"
        )
    return reads_flow


def _reads_flow(options: ExportOptions, path: Path) -> bool:
    """True if the example of an ONNX file needs flow. Raises `UsageError` as `_check_example` does."""
    from stmn.exporting.onnx import OnnxExporter

    return _check_example(options, OnnxExporter().read(path))


@contextmanager
def _companions_removed(exporter: Any, temporary: Path) -> Iterator[None]:
    """When the block ends, remove temporary companions that were not renamed."""
    try:
        yield
    finally:
        for ending in getattr(exporter, "companions", ()):
            temporary.with_suffix(ending).unlink(missing_ok=True)


def _place_companions(exporter: Any, temporary: Path, path: Path) -> list[Path]:
    """Rename the companions of a checked file to their final names; the caller renames the file itself last."""
    placed = []
    for ending in getattr(exporter, "companions", ()):
        temporary.with_suffix(ending).replace(path.with_suffix(ending))
        placed.append(path.with_suffix(ending))
    return placed
