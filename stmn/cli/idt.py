"""`stmn idt`: the steps of improved dense trajectories, and the tracks of a video as a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stmn.cli.app import command, make_app
from stmn.cli.console import answer
from stmn.cli.parameters import Overwrite, check_new
from stmn.cli.stage_command import add_stage
from stmn.errors import count_of

if TYPE_CHECKING:
    from stmn.idt.trajectories.parameters import TrackParameters

app = make_app("Improved dense trajectories, step by step; show the tracks of a video.")

for _step in ("extract", "fit", "encode", "score"):
    add_stage(app, f"idt-{_step}", _step)


_Video = Annotated[Path, typer.Argument(metavar="VIDEO", help="the video file")]
_Camera = Annotated[bool, typer.Option("--camera/--no-camera", help="remove the camera's motion from flow and tracks")]
_Boxes = Annotated[
    Path | None,
    typer.Option(
        help="boxes around people, whose motion is not the camera's: per line a frame's number, then left, top, right, "
        "bottom and confidence of each box"
    ),
]
_FlowName = Annotated[str, typer.Option("--flow", help="farneback, or another flow plugin")]
_Warp = Annotated[
    Literal["analytic", "recompute"],
    typer.Option(help="how it is removed from flow: by arithmetic, or by computing flow again on the moved frame"),
]
_LocalFeatures = Annotated[
    Literal["orb", "sift", "akaze"], typer.Option(help="local features that find the camera's motion")
]
_Scale = Annotated[float, typer.Option(help="resize frames by this factor first", min=0.05, max=4)]


@command(app, examples=("stmn idt show clip.avi", "stmn idt show clip.avi --out tracks.mp4 --flow tvl1"))
def show(
    video: _Video,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="PNG (one frame) or MP4 (all frames) to write [default: a PNG named after the video]"
        ),
    ] = None,
    frame: Annotated[int | None, typer.Option(help="number of the frame, from 0 [default: the middle]", min=0)] = None,
    camera: _Camera = True,
    boxes: _Boxes = None,
    flow: _FlowName = "farneback",
    warp: _Warp = "analytic",
    local_features: _LocalFeatures = "orb",
    scale: _Scale = 1.0,
    force: Overwrite = False,
) -> None:
    """Draw the tracks of a video: a green tail, a red point where the track is.

    A PNG shows the tracks that pass one frame, beside those that would be kept if camera motion were not removed. Only
    tracks of the finest scale are drawn; all are counted.
    """
    from stmn.errors import UsageError
    from stmn.idt.trajectories.boxes import read_boxes
    from stmn.idt.trajectories.show import write_film, write_picture

    path = out or Path(f"{video.stem}.png")
    kind = path.suffix.lower()
    if kind not in (".png", ".mp4"):
        raise UsageError(f"{path}: the name must end in .png (one frame) or .mp4 (all frames)")
    if kind == ".mp4" and frame is not None:
        raise UsageError("--frame is for a PNG; an MP4 shows all frames")
    check_new(path, force)
    parameters = _parameters(flow, warp, camera, local_features, scale)
    around = read_boxes(boxes) if boxes else {}
    if kind == ".mp4":
        answer(f"{path}: {count_of(write_film(video, path, parameters, around), 'track')}")
        return
    shown = write_picture(video, path, parameters, around, frame)
    beside = "" if shown.all is None else f", {shown.all} if camera motion is not removed"
    answer(f"{path}: frame {shown.frame} of {shown.frames}, {count_of(shown.tracks, 'track')}{beside}")


@command(app, examples=("stmn idt track clip.avi --out clip.txt.gz",))
def track(
    video: _Video,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="file to write, .txt or .txt.gz [default: VIDEO.txt.gz, named after the video]"
        ),
    ] = None,
    camera: _Camera = True,
    boxes: _Boxes = None,
    flow: _FlowName = "farneback",
    warp: _Warp = "analytic",
    local_features: _LocalFeatures = "orb",
    scale: _Scale = 1.0,
    force: Overwrite = False,
) -> None:
    """Write the tracks of a video as text, a track of 436 numbers per line, as the original program does."""
    from stmn.idt.trajectories.boxes import read_boxes
    from stmn.idt.trajectories.extract import track_video
    from stmn.idt.trajectories.tracks import write_tracks

    path = out or Path(f"{video.stem}.txt.gz")
    check_new(path, force)
    parameters = _parameters(flow, warp, camera, local_features, scale)
    tracks = track_video(video, parameters, read_boxes(boxes) if boxes else None)
    write_tracks(path, tracks)
    answer(f"{path}: {count_of(len(tracks), 'track')}")


def _parameters(flow: str, warp: str, camera: bool, local_features: str, scale: float) -> "TrackParameters":
    """The parameters of the tracks. Raises `UsageError` for stored flow, which a video file does not have."""
    from stmn.errors import UsageError
    from stmn.idt.trajectories.parameters import TrackParameters

    if flow == "stored":
        raise UsageError("--flow stored needs a prepared set; a video file has no stored flow")
    return TrackParameters.model_validate(
        {"flow": flow, "warp": warp, "camera": camera, "features": local_features, "scale": scale}
    )
