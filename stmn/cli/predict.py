"""`stmn predict MODEL VIDEO...`: classify videos, also over time, and show what the network looked at."""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stmn.cli.app import command, make_app
from stmn.cli.console import answer, answer_json
from stmn.cli.each_video import end_with, for_each
from stmn.cli.parameters import DeviceName, JsonLines, Overwrite, WorkspacePath, check_new

if TYPE_CHECKING:
    from torch import Tensor

    from stmn.cli.display import Display
    from stmn.prediction.api import ClassScore, MeasuredApart, Model, Source, Window
    from stmn.prediction.options import PredictOptions
    from stmn.prediction.table import PredictionTable
    from stmn.prediction.timeline import Timeline

app = make_app()


@command(
    app,
    examples=(
        "stmn predict fused clip.mp4 --overlay jump.mp4 --explain jump",
        "stmn predict fused ~/videos --out predictions.csv",
        "stmn predict model.safetensors 0",
        "cat film.avi | stmn predict fused - --window 2 --timeline film.csv",
    ),
)
def predict(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="a run's name or folder, a model file, or hf://user/name")
    ],
    videos: Annotated[
        list[str],
        typer.Argument(metavar="VIDEO...", help="files, folders, addresses (rtsp://...), a camera (0), - for stdin"),
    ],
    out: Annotated[Path | None, typer.Option(help="write a table of all videos: FILE.csv, .jsonl or .parquet")] = None,
    top: Annotated[int, typer.Option(help="number of classes to print, and in the table", min=1)] = 5,
    stream: Annotated[
        Literal["appearance", "motion", "fused"] | None,
        typer.Option(help="the stream to use, if the model has several [default: their mean]"),
    ] = None,
    unknown: Annotated[
        str | None,
        typer.Option(
            metavar="THRESHOLD",
            help="call a video or window unknown if no class has this much confidence: a number such as 0.5, or auto "
            "for that of the model's calibration",
        ),
    ] = None,
    window: Annotated[float | None, typer.Option(help="classify windows of this many seconds [default: 2]")] = None,
    step: Annotated[
        float | None, typer.Option(help="seconds from one window to the next [default: window / 4]")
    ] = None,
    timeline: Annotated[Path | None, typer.Option(help="write each window's predictions as CSV")] = None,
    overlay: Annotated[Path | None, typer.Option(help="write an MP4 with predictions, flow and gate map")] = None,
    font: Annotated[
        Path | None, typer.Option(help="font file for the overlay [default: one that has the letters]")
    ] = None,
    gate_part: Annotated[
        Literal["conv2", "conv3", "conv4", "conv5"] | None,
        typer.Option(help="part of the network that the overlay shows [default: by frame size]"),
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option(metavar="CLASS", help="also show in the overlay where each stream finds evidence for a class"),
    ] = None,
    chunks: Annotated[
        int | None, typer.Option(help="chunks per video or window [default: 25 per video, 5 per window]", min=1)
    ] = None,
    flips: Annotated[bool, typer.Option(help="average over mirrored frames, if training allowed mirroring")] = True,
    allow_damage: Annotated[
        float, typer.Option(help="refuse a video if damage costs more than this fraction of its frames", min=0, max=1)
    ] = 0.05,
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"],
        typer.Option(help="precision of convolutions; the classifier and all averages are float32 in each"),
    ] = "float32",
    allow_failures: Annotated[int, typer.Option(help="exit with 0 if at most this many videos fail", min=0)] = 0,
    workspace: WorkspacePath = None,
    device: DeviceName = None,
    force: Overwrite = False,
    as_json: JsonLines = False,
) -> None:
    """Classify videos with a model. Its file says how to prepare frames and flow; nothing else is needed."""
    from stmn.cli.display import Display
    from stmn.prediction.api import find_videos, load_model
    from stmn.prediction.class_map import ClassMap
    from stmn.prediction.options import PredictOptions
    from stmn.settings import load_settings
    from stmn.workspace import Workspace

    display = Display()
    options = PredictOptions(chunks, flips, window, step, out, timeline, overlay, gate_part, allow_damage, explain)
    found = list(find_videos(videos, display))
    options.check(found)
    for path in options.outputs.values():
        check_new(path, force)
    settings = load_settings(workspace=workspace, device=device)
    loaded = load_model(Workspace(settings.workspace).find_model(model), settings.device, stream, precision)
    if explain:
        ClassMap(loaded, explain)  # report a wrong name before anything is read
    options = replace(options, is_unknown=None if unknown is None else loaded.unknown_rule(unknown))
    printer = _Printer(loaded, top, as_json, display, options.is_unknown)
    if overlay:
        _choose_font(font, printer)
    failed = _classify_all(found, printer, options)
    written = [f"{name}: {path}" for name, path in options.outputs.items() if failed < len(found) or name == "out"]
    end_with(failed, len(found), allow_failures, written)


def _classify_all(found: "list[Source]", printer: "_Printer", options: "PredictOptions") -> int:
    """Classify videos, and return how many failed. One that fails doesn't stop the others."""
    from stmn.prediction.api import MeasuredApart
    from stmn.prediction.table import write_predictions
    from stmn.prediction.timeline import write_timeline

    failed, classes = 0, printer.model.classes
    with ExitStack() as outer:
        if options.out:
            printer.table = outer.enter_context(write_predictions(options.out, len(classes), printer.top))
        with suppress(_NoneLeft), ExitStack() as inner:
            if options.timeline:
                printer.timeline = inner.enter_context(write_timeline(options.timeline, classes))
            if len(found) > 1:
                printer.apart = inner.enter_context(MeasuredApart())
            failed = for_each(found, lambda video: printer.classify(video, options), printer.fail)
            if failed == len(found):
                raise _NoneLeft  # then no timeline is written
    return failed


class _NoneLeft(Exception):
    """No video could be classified."""


def _choose_font(font: Path | None, printer: "_Printer") -> None:
    """Set the font of the overlay, and say so if no font has all letters of the class names."""
    from stmn.errors import count_of
    from stmn.runtime.fonts import choose_font, count_missing, find_font

    if font:
        choose_font(font)
    # a font is chosen for each name
    lacking = [name for name in printer.model.classes if count_missing(find_font(name, 10), name)]
    if lacking:
        printer.display.say(
            f"no font here has all letters of {count_of(len(lacking), 'class name')}, such as {lacking[0]!r}; name one "
            "with --font"
        )


class _Printer:
    """Classifies videos, prints the predictions, and puts them into the tables."""

    timeline: "Timeline | None" = None
    table: "PredictionTable | None" = None
    #: decodes each of many videos apart first, so that a decoder that crashes costs only its video
    apart: "MeasuredApart | None" = None

    def __init__(
        self, model: "Model", top: int, as_json: bool, display: "Display", rule: "Callable[[Tensor], bool] | None"
    ) -> None:
        self.model, self.top, self.as_json, self.display, self.unknown_rule = model, top, as_json, display, rule

    def is_unknown(self, outputs: "Tensor") -> bool:
        """True if (outputs, classes) logits are of no known class; always False without `--unknown`."""
        return self.unknown_rule is not None and self.unknown_rule(outputs)

    def classify(self, video: "Source", options: "PredictOptions") -> None:
        """Classify a video, print its line (one per window, if no file takes the windows), and keep its rows."""
        self.print_video(video, options)
        self.commit()

    def print_video(self, video: "Source", options: "PredictOptions") -> None:
        """Classify a video and print."""
        import torch

        from stmn.prediction.api import CHUNKS, is_live, measure_video
        from stmn.prediction.follow import RunningMean, expected_windows, follow_windows
        from stmn.prediction.notes import NoteTaker

        notes = NoteTaker(self.display, video.name)
        endless = is_live(video)
        if not options.uses_windows and not endless:
            whole = self.model.classify(
                video, options.chunks or CHUNKS, options.flips, notes, options.allow_damage, self.apart or measure_video
            )
            outputs = torch.stack(whole.logits)
            unknown = self.is_unknown(outputs)
            if self.table:
                self.table.add(video.name, whole.ranked, 0, whole.seconds, whole.frames, notes.taken, unknown)
            self.print_line(video.name, outputs)
            return
        if self.apart and video.kind == "file":
            self.apart(video, self.model.description.preparation.fps, options.allow_damage)
        print_windows = options.prints_windows or endless
        mean, last = RunningMean(), None  # a row is written after the next window, when all notes about it are known
        with ExitStack() as stack:
            total = bar = None
            if not (print_windows or self.as_json):
                total = expected_windows(self.model, video, options)
                bar = stack.enter_context(self.display.task(video.name, total, "windows"))
            for window in follow_windows(self.model, video, options, notes, endless):
                mean.add(window)
                ranked = self.model.rank(window.logits)
                if self.timeline:
                    self.timeline.add(video.name, window, ranked, self.is_unknown(window.outputs))
                self.add_row(video, last)
                last = window, ranked, notes.take()
                if print_windows:
                    self.print_line(video.name, window.outputs, (window.start, window.end))
                if bar and (total is None or mean.count <= total):  # the header may announce too few
                    bar.advance(1)
        if last:
            self.add_row(video, (*last[:2], last[2] + notes.take()))  # with the notes made at the end of the video
        self.print_line(video.name, mean.outputs, windows=mean.count)

    def add_row(self, video: "Source", found: "tuple[Window, list[ClassScore], list[str]] | None") -> None:
        """Add a window to the table, with its classes and the notes about it."""
        if self.table and found:
            window, ranked, notes = found
            unknown = self.is_unknown(window.outputs)
            self.table.add(video.name, ranked, window.start, window.end, window.frames, notes, unknown)

    def fail(self, video: "Source", error: str) -> None:
        """Remove a video's rows from the tables, and add one that says why it can't be classified."""
        if self.timeline:
            self.timeline.roll_back()
        if self.table:
            self.table.fail(video.name, error)
        self.commit()

    def commit(self) -> None:
        """Commit the rows that the tables hold."""
        for rows in (self.timeline, self.table):
            if rows:
                rows.commit()

    def print_line(
        self, name: str, outputs: "Tensor", span: tuple[float, float] | None = None, windows: int = 0
    ) -> None:
        """Print the best classes of a video, of one window (`span`), or of the mean of its windows."""
        best, unknown = self.model.rank(outputs.mean(dim=0))[: self.top], self.is_unknown(outputs)
        if self.as_json:
            times = {"start_s": round(span[0], 3), "end_s": round(span[1], 3)} if span else {}
            count = {"windows": windows} if windows else {}
            scores = {found.class_name: round(found.score, 6) for found in best}
            known = {} if self.unknown_rule is None else {"unknown": unknown}
            answer_json({"video": name, **times, **count, **known, "scores": scores}, letters=True)
        else:
            when = f" {span[0]:.2f} to {span[1]:.2f} s" if span else ""
            what = f" (mean of {windows} windows)" if windows > 1 else ""
            classes = ", ".join(f"{found.class_name} {100 * found.score:.1f} %" for found in best)
            answer(f"{name}{when}: {f'unknown ({classes})' if unknown else classes}{what}")
