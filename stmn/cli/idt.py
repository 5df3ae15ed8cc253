"""`stmn idt`: the steps of improved dense trajectories, and the tracks of a video as a picture."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from stmn.cli.app import command, make_app
from stmn.cli.parameters import Overwrite, check_new
from stmn.cli.stage_command import add_stage
from stmn.errors import count_of

app = make_app("Improved dense trajectories, step by step; show the tracks of a video.")

for _step in ("extract", "fit", "encode", "score"):
    add_stage(app, f"idt-{_step}", _step)


@command(app, examples=("stmn idt show clip.avi", "stmn idt show clip.avi --out tracks.mp4 --flow tvl1"))
def show(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="the video file")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="PNG (one frame) or MP4 (all frames) to write [default: a PNG named after the video]"
        ),
    ] = None,
    frame: Annotated[int | None, typer.Option(help="number of the frame, from 0 [default: the middle]", min=0)] = None,
    camera: Annotated[bool, typer.Option("--camera/--no-camera", help="remove camera motion")] = True,
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="boxes around people, whose motion is not the camera's: per line a frame's number, then left, top, "
            "right, bottom and confidence of each box"
        ),
    ] = None,
    flow: Annotated[str, typer.Option(help="farneback, or another flow plugin")] = "farneback",
    warp: Annotated[
        Literal["analytic", "recompute"],
        typer.Option(
            help="how flow is freed of camera motion: analytic moves its end points back, recompute computes it again"
        ),
    ] = "analytic",
    features: Annotated[
        Literal["orb", "sift", "akaze"], typer.Option(help="local features that find the camera's motion")
    ] = "orb",
    scale: Annotated[float, typer.Option(help="resize frames by this first", min=0.05, max=4)] = 1.0,
    force: Overwrite = False,
) -> None:
    """Draw the tracks of a video: a green tail, a red point where the track is.

    A PNG shows the tracks that pass one frame, beside those that would be kept if camera motion were not removed. Only
    tracks of the finest scale are drawn; all are counted.
    """
    from stmn.errors import UsageError
    from stmn.trajectories.boxes import read_boxes
    from stmn.trajectories.parameters import TrackParameters
    from stmn.trajectories.show import write_film, write_picture

    path = out or Path(f"{video.stem}.png")
    kind = path.suffix.lower()
    if kind not in (".png", ".mp4"):
        raise UsageError(f"{path}: the name must end in .png (one frame) or .mp4 (all frames)")
    if kind == ".mp4" and frame is not None:
        raise UsageError("--frame is for a PNG; an MP4 shows all frames")
    if flow == "stored":
        raise UsageError("--flow stored needs a prepared set; a video file has no stored flow")
    check_new(path, force)
    parameters = TrackParameters(flow=flow, warp=warp, camera=camera, features=features, scale=scale)
    around = read_boxes(boxes) if boxes else {}
    if kind == ".mp4":
        typer.echo(f"{path}: {count_of(write_film(video, path, parameters, around), 'track')}")
        return
    shown = write_picture(video, path, parameters, around, frame)
    beside = "" if shown.all is None else f", {shown.all} if camera motion is not removed"
    typer.echo(f"{path}: frame {shown.frame} of {shown.frames}, {count_of(shown.tracks, 'track')}{beside}")
