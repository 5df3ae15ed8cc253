"""`stmn data`: info, check, extract, show. What a prepared set holds, and whether it is sound."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stmn.cli.app import command, make_app
from stmn.cli.console import answer, answer_json, say
from stmn.cli.parameters import Json, Overwrite, WorkspacePath, check_new, open_workspace
from stmn.errors import count_of

if TYPE_CHECKING:
    from stmn.store.format.read import Store

app = make_app("Inspect a prepared data set: numbers, checks, pictures, files.")

_SetName = Annotated[
    str | None, typer.Argument(metavar="NAME", help="name or folder of the set [default: the only one]")
]


@command(app, examples=("stmn data info", "stmn data info ucf101 --fields 0 --json"))
def info(
    name: _SetName = None,
    fields: Annotated[int, typer.Option(help="flow fields to measure, spread over the set; 0: all", min=0)] = 500,
    workspace: WorkspacePath = None,
    as_json: Json = False,
) -> None:
    """Print classes, splits, videos and sizes of a set, how it was made, and statistics of its flow."""
    from stmn.cli.data_info import describe
    from stmn.cli.display import Display
    from stmn.store.inspect.statistics import describe_set

    with _open_set(name, workspace, "stmn data info NAME") as store:
        found = describe_set(store, fields, Display(as_json))
    if as_json:
        answer_json(found, indent=1)
        return
    for label, text in describe(found):
        answer(f"{label:<12} {text}")


@command(app, examples=("stmn data check", "stmn data check ucf101 --workers 8"))
def check(
    name: _SetName = None,
    workers: Annotated[int, typer.Option(help="videos to check at a time; 0: one per core", min=0)] = 0,
    workspace: WorkspacePath = None,
    as_json: Json = False,
) -> None:
    """Decode every record, compare flow with frames and splits with each other. Exit with 1 if there is a problem."""
    from dataclasses import asdict

    import torch

    from stmn.cli.display import Display
    from stmn.runtime.cores import count_cores
    from stmn.store.inspect.check import check_set

    folder = _find_set(name, workspace, "stmn data check NAME")
    torch.set_num_threads(1)  # videos are checked in parallel
    result = check_set(folder, Display(as_json), workers or count_cores())
    if as_json:
        answer_json({"path": str(folder)} | asdict(result), indent=1)
    else:
        for line in result.problems:
            answer(line)
        skipped = f" ({result.skipped} skipped by prepare)" if result.skipped else ""
        answer(
            f"{folder}: {count_of(result.videos, 'video')}{skipped}, {count_of(result.frames, 'frame')}, "
            f"{count_of(result.fields, 'flow field')}; "
            f"flow compared with the frames of {count_of(result.judged, 'video')}; "
            + (count_of(len(result.problems), "problem") if result.problems else "no problems"),
            err=bool(result.problems),
        )
    if result.problems:
        raise typer.Exit(1)


@command(app, examples=("stmn data extract mine frames", "stmn data extract ucf101 clips --as mp4 --video g01_c01"))
def extract(
    places: Annotated[
        list[str], typer.Argument(metavar="[NAME] OUT", help="the set [default: the only one], and the folder to write")
    ],
    form: Annotated[
        Literal["jpeg", "tsn", "mp4", "colour"],
        typer.Option(
            "--as",
            help="jpeg: jpegs_256/VIDEO/frame000001.jpg and tvl1_flow/{u,v}/VIDEO/...; tsn: VIDEO/img_00001.jpg, "
            "flow_x_00001.jpg, flow_y_00001.jpg; mp4: the frames; colour: flow in Middlebury colours, PNG",
        ),
    ] = "jpeg",
    video: Annotated[
        list[str] | None, typer.Option(help="only this video: its id, or a part of it; may be repeated")
    ] = None,
    by_class: Annotated[bool, typer.Option("--by-class", help="put videos into one folder per class")] = False,
    full_colour: Annotated[
        float | None,
        typer.Option(help="pixels per frame shown in full colour [default: chosen per video]", min=0.01),
    ] = None,
    missing: Annotated[bool, typer.Option("--missing", help="keep existing files, write the others")] = False,
    workspace: WorkspacePath = None,
    force: Overwrite = False,
) -> None:
    """Write frames and flow to files. A video's folder or file appears once it is complete."""
    from stmn.cli.display import Display
    from stmn.errors import Interrupted
    from stmn.store.inspect.extract import extract_videos, plan_extractions
    from stmn.store.inspect.lookup import find_video

    name, out = _split_arguments(places, "stmn data extract [NAME] OUT")
    with _open_set(name, workspace, "stmn data extract NAME OUT") as store:
        ok = sorted((v for v in store.videos.values() if v.status == "ok"), key=lambda v: v.id)
        videos = list({v.id: v for v in (find_video(store, text) for text in video)}.values()) if video else ok
        wanted = plan_extractions(store, videos, Path(out), form, by_class)
        if missing:
            wanted = [extraction for extraction in wanted if not extraction.done]
        try:
            frames = extract_videos(store, wanted, form, Display(), force or missing, full_colour)
        except KeyboardInterrupt as error:
            raise Interrupted("interrupted; complete videos are kept, --missing writes the others") from error
    answer(f"{out}: {count_of(len(wanted), 'video')}, {count_of(frames, 'frame')}")


@command(app, examples=("stmn data show mine g01_c01", "stmn data show mine wave/a.mp4 -o a.png --columns 8"))
def show(
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME] VIDEO", help="the set [default: the only one], and a video: its id or a part of it"
        ),
    ],
    data: Annotated[str | None, typer.Option(hidden=True)] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="PNG file to write [default: named after the video]")
    ] = None,
    columns: Annotated[int, typer.Option(help="moments of the video to show", min=1, max=40)] = 6,
    font: Annotated[
        Path | None, typer.Option(help="font file for the text [default: one that has the letters]")
    ] = None,
    workspace: WorkspacePath = None,
    force: Overwrite = False,
) -> None:
    """Draw one picture of a video: frames from its start to its end, with flow in colour, u and v below them."""
    from stmn.errors import UsageError
    from stmn.store.inspect.extract import file_name
    from stmn.store.inspect.lookup import find_video
    from stmn.store.inspect.sheet import write_sheet

    if font:
        from stmn.runtime.fonts import choose_font

        choose_font(font)
    name, video = _split_arguments(places, "stmn data show [NAME] VIDEO")
    with _open_set(name or data, workspace, "stmn data show NAME VIDEO") as store:
        found = find_video(store, video)
        path = output or Path(f"{file_name(found.id)}.png")
        if path.is_dir():
            raise UsageError(f"{path}: is a folder; name a PNG file")
        check_new(path, force)
        write_sheet(store, found, path, columns)
    answer(str(path))


def _split_arguments(places: list[str], usage: str) -> tuple[str | None, str]:
    """The name of a set, if it was given, and the last argument. Raises `UsageError` if there are more."""
    from stmn.errors import UsageError

    if len(places) > 2:
        raise UsageError(f"too many arguments: {' '.join(places)}; write: {usage}")
    return (places[0] if len(places) == 2 else None), places[-1]


def _find_set(name: str | None, workspace: Path | None, choose: str) -> Path:
    """The folder of a set, with a notice if its `prepare` ended with an error. Raises `DataError`."""
    from stmn.workspace import read_run

    folder = open_workspace(workspace).find_data(name, choose, partial=True)
    run = read_run(folder)
    if run is not None and run.record.get("status") == "failed":
        say(f"note: prepare ended with an error: {run.record.get('error')}")
    return folder


@contextmanager
def _open_set(name: str | None, workspace: Path | None, choose: str) -> Iterator["Store"]:
    """A set, open for reading."""
    from stmn.store.format.read import Store

    with Store(_find_set(name, workspace, choose)) as store:
        yield store
