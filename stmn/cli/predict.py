"""`stmn predict MODEL VIDEO...`: the classes of videos, along time too, and what the network looked at."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stmn.cli.guard import guarded

if TYPE_CHECKING:
    from stmn.cli.display import Display
    from stmn.prediction.api import Model, Prediction
    from stmn.prediction.follow import Asked
    from stmn.prediction.timeline import Timeline
    from stmn.video.source import Source

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(
    epilog="Examples:  stmn predict fused clip.mp4 --overlay seen.mp4   |   stmn predict model.safetensors 0"
    "   |   cat film.avi | stmn predict fused - --window 2 --timeline film.csv"
)
def predict(
    model: Annotated[str, typer.Argument(help="a model file that stmn wrote, a run's name or its folder")],
    videos: Annotated[
        list[str],
        typer.Argument(help="files, folders, a camera's number (0), addresses (rtsp://, http://, ...), - for stdin"),
    ],
    top: Annotated[int, typer.Option(help="classes to show", min=1)] = 5,
    stream: Annotated[
        Literal["appearance", "motion", "fused"] | None,
        typer.Option(help="whose scores count, where a model has several outputs (default: their mean)"),
    ] = None,
    window: Annotated[
        float | None, typer.Option(help="classify windows of so many seconds (default where windows are needed: 2)")
    ] = None,
    step: Annotated[
        float | None, typer.Option(help="seconds from one window to the next (default: a quarter of a window)")
    ] = None,
    timeline: Annotated[Path | None, typer.Option(help="write what is said of each window to OUT.csv")] = None,
    overlay: Annotated[
        Path | None, typer.Option(help="write OUT.mp4: frame and running prediction, flow, and gate map")
    ] = None,
    gate_stage: Annotated[
        Literal["conv2", "conv3", "conv4", "conv5"] | None,
        typer.Option(help="the stage whose gate the overlay maps (default: the deepest that is fine enough)"),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help="chunks, spread evenly (default: 25 of a video, 5 of a window)", min=1)
    ] = None,
    flips: Annotated[bool, typer.Option(help="mirrors too, where the training data allowed them")] = True,
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", help="where runs are looked for by name", show_default=".")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda", show_default="auto")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line and video (or window)")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
) -> None:
    """Decode, compute flow, classify. Nothing but the model file is needed."""
    with guarded(debug):
        from stmn.cli.display import Display
        from stmn.errors import DataError, UsageError
        from stmn.settings import load_settings

        for flag, value in (("--window", window), ("--step", step)):
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{flag} {value:g}: write seconds above 0")
        settings = load_settings(workspace=workspace, device=device)
        from stmn.prediction.api import find_videos, load
        from stmn.prediction.follow import Asked
        from stmn.prediction.timeline import writing_timeline
        from stmn.recipe.networks import find_model

        asked = Asked(frames, flips, window, step, timeline, overlay, gate_stage)
        found = list(find_videos(videos))
        asked.check(found)
        speaker = Speaker(load(find_model(model, settings.workspace), settings.device, stream), top, as_json, Display())
        failed = 0
        with ExitStack() as stack:
            table = stack.enter_context(writing_timeline(timeline, speaker.model.classes)) if timeline else None
            for video in found:
                try:
                    speaker.speak(video, asked, table)
                except DataError as error:
                    failed += 1
                    if failed == len(found):  # then there is no timeline either
                        raise
                    if table:
                        table.drop()
                    typer.secho(f"error: {error}", fg="red", err=True)
                if table:
                    table.keep()
        if failed:
            raise typer.Exit(1)


class Speaker:
    """Prints what a model says of videos."""

    def __init__(self, model: "Model", top: int, as_json: bool, display: "Display") -> None:
        self.model, self.top, self.as_json, self.display = model, top, as_json, display

    def speak(self, video: "Source", asked: "Asked", table: "Timeline | None") -> None:
        """Classify a video and print a line; of windows one each, where they go nowhere else."""
        from stmn.prediction.follow import Mean, expected_windows, whole, windows
        from stmn.video.source import live

        endless = live(video)
        if not asked.slides and not endless:
            self.tell(video.name, self.model.ranked(whole(self.model, video, asked, self.display)))
            return
        shown = asked.shows_windows or endless
        mean = Mean()
        with ExitStack() as stack:
            quiet = shown or self.as_json
            task = None if quiet else self.display.task(video.name, expected_windows(video, asked), "windows")
            bar = stack.enter_context(task) if task else None
            for window in windows(self.model, video, asked, self.display, endless):
                mean.add(window)
                ranked = self.model.ranked(window.scores)
                if table:
                    table.add(video.name, window, ranked)
                if shown:
                    self.tell(video.name, ranked, (window.start, window.end))
                if bar:
                    bar.advance(1)
        self.tell(video.name, self.model.ranked(mean.scores), windows=mean.count)

    def tell(
        self, name: str, ranked: "Sequence[Prediction]", span: tuple[float, float] | None = None, windows: int = 0
    ) -> None:
        """One line: the best classes of a video, of a span of it, or on the mean of its windows."""
        best = ranked[: self.top]
        if self.as_json:
            times = {"start_s": round(span[0], 3), "end_s": round(span[1], 3)} if span else {}
            count = {"windows": windows} if windows else {}
            scores = {p.class_name: round(p.score, 6) for p in best}
            line = json.dumps({"video": name, **times, **count, "scores": scores}, ensure_ascii=False)
        else:
            when = f" {span[0]:.2f} to {span[1]:.2f} s" if span else ""
            what = f" (mean of {windows} windows)" if windows > 1 else ""
            line = f"{name}{when}: " + ", ".join(f"{p.class_name} {100 * p.score:.1f} %" for p in best) + what
        print(line, flush=True)  # a stream's lines as they come
