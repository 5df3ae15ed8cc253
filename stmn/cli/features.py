"""`stmn features MODEL VIDEO... --out FILE`: pooled features of videos, window by window."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stmn.cli.app import command, make_app
from stmn.cli.each_video import end_with, for_each
from stmn.cli.parameters import DeviceName, Overwrite, WorkspacePath, check_new
from stmn.errors import count_of

if TYPE_CHECKING:
    from stmn.prediction.api import Model, Source

app = make_app()


@command(
    app,
    examples=(
        "stmn features fused ~/videos --out features.safetensors",
        "stmn features fused film.mp4 --window 2 --step 0.5 --out film.npz",
        "stmn features hf://ada/gates ~/videos --whole --out features.npz",
    ),
)
def features(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="a run's name or folder, a model file, or hf://user/name")
    ],
    videos: Annotated[list[str], typer.Argument(metavar="VIDEO...", help="files, folders, addresses, - for stdin")],
    out: Annotated[Path, typer.Option(help="write the features of all videos: FILE.safetensors or .npz")],
    window: Annotated[float | None, typer.Option(help="seconds of a window [default: 1]")] = None,
    step: Annotated[float | None, typer.Option(help="seconds from one window to the next [default: window]")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="one row for each whole video, in place of windows")] = False,
    stream: Annotated[
        Literal["appearance", "motion"] | None, typer.Option(help="the stream to use [default: all]")
    ] = None,
    chunks: Annotated[
        int | None, typer.Option(help="chunks per window or video [default: 5 per window, 25 per video]", min=1)
    ] = None,
    flips: Annotated[
        bool,
        typer.Option(help="average over mirrored frames, if training allowed mirroring and it keeps all classes"),
    ] = True,
    allow_damage: Annotated[
        float, typer.Option(help="refuse a video if damage costs more than this fraction of its frames", min=0, max=1)
    ] = 0.05,
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option(help="precision of convolutions; averages are float32")
    ] = "float32",
    allow_failures: Annotated[int, typer.Option(help="exit with 0 if at most this many videos fail", min=0)] = 0,
    workspace: WorkspacePath = None,
    device: DeviceName = None,
    force: Overwrite = False,
) -> None:
    """Compute features of videos, window by window: what a network's classifiers read."""
    from importlib.metadata import version

    from stmn.cli.display import Display
    from stmn.errors import UsageError
    from stmn.prediction.api import find_videos, load_model
    from stmn.prediction.features import FEATURE_SUFFIXES
    from stmn.prediction.options import check_output, check_seconds
    from stmn.settings import load_settings
    from stmn.workspace import Workspace

    display = Display()
    found = list(find_videos(videos, display))
    check_output("--out", out, FEATURE_SUFFIXES, found)
    check_seconds("--window", window)
    check_seconds("--step", step)
    if whole and (window or step):
        raise UsageError("--whole has no windows: leave out --window and --step")
    length = None if whole else window or 1.0
    _check_videos(found)
    check_new(out, force)
    settings = load_settings(workspace=workspace, device=device)
    loaded = load_model(Workspace(settings.workspace).find_model(model), settings.device, stream, precision)
    loaded.check_inside("features")
    about = {
        "model": model, "classes": loaded.classes, "window": length, "step": step or length,
        "chunks": chunks, "precision": precision, "stmn": version("stmn"),
    }  # fmt: skip
    options = {
        "length": length, "step": step, "chunks": chunks, "flips": flips, "allow_damage": allow_damage,
        "progress": display,
    }  # fmt: skip
    failed = _write(out, found, loaded, about, options, display)
    end_with(failed, len(found), allow_failures, [f"out: {out}"] if failed < len(found) else [], "read")


def _write(
    out: Path, found: "list[Source]", model: "Model", about: dict[str, Any], options: dict[str, Any], display: Any
) -> int:
    """Write the features of all videos; return how many failed. If all did, no file is written."""
    from contextlib import ExitStack, suppress

    from stmn.errors import DataError
    from stmn.prediction.api import MeasuredApart, measure_video
    from stmn.prediction.features import write_features

    failed = 0
    with suppress(_NoneLeft), ExitStack() as stack:
        file = stack.enter_context(write_features(out, about))
        apart = stack.enter_context(MeasuredApart()) if len(found) > 1 else None
        task = stack.enter_context(display.task("features", len(found), "videos"))

        def compute(video: "Source") -> None:
            # decode apart first: a decoder that crashes costs only this video; whole videos are measured anyway
            if apart and video.kind == "file" and options["length"] is not None:
                apart(video, model.description.preparation.fps, options["allow_damage"])
            count = 0
            for window in model.features(video, **options, measure=apart or measure_video):
                file.add(window)
                count += 1
            if not count:
                raise DataError(f"{video.name}: no window of it has two frames, and this model reads flow")
            file.commit(video.name)
            task.advance(1, windows=file.count)

        def fail(video: "Source", error: str) -> None:
            file.fail(video.name, error)
            task.advance(1, windows=file.count)

        failed = for_each(found, compute, fail)
        if failed == len(found):
            raise _NoneLeft
        sizes = ", ".join(f"{width:,} of {name}" for name, width in file.widths.items())
        display.say(f"{count_of(file.count, 'window')} of {count_of(len(file.videos), 'video')}: {sizes}")
    return failed


class _NoneLeft(Exception):
    """No video could be read."""


def _check_videos(found: "list[Source]") -> None:
    """Refuse endless streams, and names that would stand for two videos in the file."""
    from stmn.errors import UsageError
    from stmn.prediction.api import is_live

    names: set[str] = set()
    for video in found:
        if is_live(video):
            raise UsageError(f"{video.name}: has no end, and features are written at the end: name a file")
        if video.name in names:
            raise UsageError(f"{video.name}: is named twice: a file of features has each video once")
        names.add(video.name)
