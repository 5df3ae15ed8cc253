"""`stmn data`: info, check, extract, show. What a prepared set holds, and whether it is right."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stmn.cli.guard import guarded

if TYPE_CHECKING:
    from stmn.store.format.read import Store

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Look at a prepared set: numbers, checks, pictures, files.",
)

DataArgument = Annotated[
    str | None,
    typer.Argument(metavar="DATA", help="name of the set, or its folder", show_default="the workspace's only one"),
]
WorkspaceOption = Annotated[Path | None, typer.Option("--workspace", "-w", help="folder with data/", show_default=".")]
JsonOption = Annotated[bool, typer.Option("--json", help="one JSON object, for machines")]
ForceOption = Annotated[bool, typer.Option("--force", help="replace what is there already")]
DebugOption = Annotated[bool, typer.Option("--debug", help="show tracebacks")]


@app.callback()
def root() -> None:
    """What a prepared set holds, and whether it is right."""


@app.command(epilog="Examples:  stmn data info   |   stmn data info ucf101 --fields 0 --json")
def info(
    data: DataArgument = None,
    workspace: WorkspaceOption = None,
    fields: Annotated[int, typer.Option(help="flow fields to measure, spread over the set (0: all)", min=0)] = 500,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Classes, splits, videos, sizes; how the set was made; statistics of its flow."""
    with guarded(debug), opened(data, workspace, "stmn data info NAME") as store:
        from stmn.cli.data_info import lines
        from stmn.cli.display import Display
        from stmn.store.inspect.statistics import describe_set

        found = describe_set(store, fields, Display(as_json))
        if as_json:
            typer.echo(json.dumps(found, indent=1))
            return
        for label, text in lines(found):
            typer.echo(f"{label:<12} {text}")


@app.command(epilog="Examples:  stmn data check   |   stmn data check ucf101 --workers 8")
def check(
    data: DataArgument = None,
    workspace: WorkspaceOption = None,
    workers: Annotated[int, typer.Option(help="videos checked at a time (0: one a core)", min=0)] = 0,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Decode every record, count, compare flow with the frames and splits with each other; exit 1 on any problem."""
    with guarded(debug):
        from dataclasses import asdict

        import torch

        from stmn.cli.display import Display
        from stmn.runtime.workers import count_cores
        from stmn.store.inspect.check import check_set

        folder = find(data, workspace, "stmn data check NAME")
        torch.set_num_threads(1)  # parallelism is over videos
        result = check_set(folder, Display(as_json), workers or count_cores())
        if as_json:
            typer.echo(json.dumps({"path": str(folder)} | asdict(result), indent=1))
        else:
            for line in result.problems:
                typer.echo(line)
            skipped = f" ({result.skipped} skipped when it was prepared)" if result.skipped else ""
            typer.echo(
                f"{folder}: {result.videos} videos{skipped}, {result.frames:,} frames, {result.fields:,} flow fields; "
                f"flow held against the frames of {result.judged} videos; "
                + (f"{len(result.problems)} problems" if result.problems else "no problems"),
                err=bool(result.problems),
            )
        if result.problems:
            raise typer.Exit(1)


@app.command(epilog="Examples:  stmn data extract frames   |   stmn data extract ucf101 clips --as mp4 --video g01_c01")
def extract(
    places: Annotated[
        list[str], typer.Argument(metavar="[DATA] OUT", help="the set (name or folder), and the folder to write")
    ],
    workspace: WorkspaceOption = None,
    form: Annotated[
        Literal["jpeg", "tsn", "mp4", "colour"],
        typer.Option(
            "--as",
            help="jpeg: jpegs_256/VIDEO/frame000001.jpg and tvl1_flow/{u,v}/VIDEO/...; tsn: VIDEO/img_00001.jpg, "
            "flow_x_00001.jpg, flow_y_00001.jpg; mp4: the frames; colour: flow as Middlebury colours, PNG",
        ),
    ] = "jpeg",
    video: Annotated[
        list[str] | None, typer.Option(help="only this video (a part of its id is enough); may be repeated")
    ] = None,
    by_class: Annotated[bool, typer.Option("--by-class", help="a folder for each class above the videos")] = False,
    full_colour: Annotated[
        float | None,
        typer.Option(
            help="pixels a frame that colours show in full strength", min=0.01, show_default="each video's own"
        ),
    ] = None,
    force: ForceOption = False,
    missing: Annotated[bool, typer.Option("--missing", help="leave what is there, write the rest")] = False,
    debug: DebugOption = False,
) -> None:
    """Frames and flow back to files. A video's folder, or file, appears when it is whole."""
    with guarded(debug):
        from stmn.cli.display import Display
        from stmn.errors import Interrupted, UsageError
        from stmn.store.inspect.extract import extract_videos, plan_extractions
        from stmn.store.inspect.lookup import find_video

        if len(places) > 2:
            raise UsageError(f"too many arguments: {' '.join(places)}; write: stmn data extract [DATA] OUT")
        out = Path(places[-1])
        with opened(places[0] if len(places) == 2 else None, workspace, "stmn data extract NAME OUT") as store:
            ok = sorted((v for v in store.videos.values() if v.status == "ok"), key=lambda v: v.id)
            videos = list({v.id: v for v in (find_video(store, text) for text in video)}.values()) if video else ok
            wanted = plan_extractions(store, videos, out, form, by_class)
            if missing:
                wanted = [extraction for extraction in wanted if not extraction.done]
            try:
                frames = extract_videos(store, wanted, form, Display(), force or missing, full_colour)
            except KeyboardInterrupt as error:
                raise Interrupted("stopped; videos that are whole stay: --missing writes the others") from error
            typer.echo(f"{out}: {len(wanted)} videos, {frames:,} frames")


@app.command(epilog="Examples:  stmn data show g01_c01   |   stmn data show wave/a.mp4 -o a.png --columns 8")
def show(
    video: Annotated[str, typer.Argument(help="id of the video; a part of it is enough where no other has it")],
    data: Annotated[
        str | None,
        typer.Option(help="name of the set, or its folder", show_default="the workspace's only one"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="PNG file", show_default="named after the video")
    ] = None,
    columns: Annotated[int, typer.Option(help="moments of the video", min=1, max=40)] = 6,
    workspace: WorkspaceOption = None,
    force: ForceOption = False,
    debug: DebugOption = False,
) -> None:
    """One picture: frames across the video, flow in colour, u and v beneath."""
    with guarded(debug), opened(data, workspace, "--data NAME") as store:
        from stmn.errors import UsageError
        from stmn.store.inspect.extract import file_name
        from stmn.store.inspect.lookup import find_video
        from stmn.store.inspect.sheet import write_sheet

        found = find_video(store, video)
        path = output or Path(f"{file_name(found.id)}.png")
        if path.is_dir():
            raise UsageError(f"{path}: is a folder; name a PNG file")
        if path.exists() and not force:
            raise UsageError(f"{path}: is there already; --force replaces it")
        write_sheet(store, found, path, columns)
        typer.echo(str(path))


def find(data: str | None, workspace: Path | None, choose: str) -> Path:
    """The folder of a set; says so when `prepare` was not content with it. Raises `DataError`."""
    from stmn.settings import load_settings
    from stmn.workspace import Workspace, read_run

    folder = Workspace(load_settings(workspace=workspace).workspace).find_data(data, choose, partial=True)
    run = read_run(folder)
    if run is not None and run.record.get("status") == "failed":
        typer.secho(f"note: prepare ended with an error: {run.record.get('error')}", err=True)
    return folder


@contextmanager
def opened(data: str | None, workspace: Path | None, choose: str) -> Iterator["Store"]:
    """A set, open for reading."""
    from stmn.store.format.read import Store

    with Store(find(data, workspace, choose)) as store:
        yield store
