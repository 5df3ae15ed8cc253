"""Find the source of improved dense trajectories: the videos of a prepared set, its stored frames, or text files."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from stmn import registry
from stmn.errors import DataError, UsageError, describe_mistake
from stmn.options.idt import IdtExtractOptions
from stmn.options.prepare import PrepareOptions
from stmn.runtime.files import real_path
from stmn.stages.prepare import create_dataset, root_of
from stmn.workspace import read_run

if TYPE_CHECKING:
    from stmn.datasets.base import Dataset, VideoEntry
    from stmn.idt.source import TrackSource
    from stmn.idt.trajectories.parameters import TrackParameters
    from stmn.store.format.read import Store, StoredVideo


def make_parameters(options: IdtExtractOptions) -> "TrackParameters":
    """The parameters of the tracks. Raises `UsageError` if an option doesn't fit."""
    from stmn.idt.trajectories.parameters import TrackParameters

    try:
        return TrackParameters(
            flow=options.flow,
            flow_options=options.flow_options,
            warp=options.warp,
            camera=options.camera,
            scale=options.scale,
            features=options.local_features,
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"idt: {f'{where}: ' if where else ''}{describe_mistake(first)}") from error


def check_options(options: IdtExtractOptions) -> None:
    """Refuse options that contradict each other or need what isn't installed. Raises `StmnError`."""
    if options.tracks is not None:
        if not options.tracks.is_dir():
            raise DataError(f"{options.tracks}: no such folder of tracks")
        return
    make_parameters(options)
    if options.flow == "stored" and options.from_ == "videos":
        raise UsageError("--flow stored follows the flow of the set, so it tracks in its frames: --from store")
    if options.boxes is not None and not options.boxes.is_dir():
        raise DataError(f"{options.boxes}: no such folder of boxes")
    if options.flow not in ("stored", "farneback"):
        from stmn.flow.estimator import check_estimator

        check_estimator(options.flow, options.flow_options)
    from stmn.idt.trajectories.pyramid import load_opencv

    load_opencv()


def find_source(options: IdtExtractOptions, folder: Path) -> "TrackSource":
    """The source of the tracks of the prepared set in `folder`.

    Raises:
        DataError: The videos are no longer there.
        UsageError: The options contradict each other.
    """
    from stmn.idt.source import TrackSource
    from stmn.store.format.header import read_header

    header, parameters = read_header(folder), make_parameters(options)
    source = TrackSource(real_path(folder), "text", parameters, header.dataset["name"], real_path(folder))
    if options.tracks is not None:
        return replace(source, tracks=real_path(options.tracks))
    boxes = real_path(options.boxes) if options.boxes else None
    source = replace(source, kind="store", short_side=options.short_side, boxes=boxes)
    pictures = registry.load("dataset", header.dataset["name"]).has_pictures
    if options.from_ == "videos" and pictures:
        raise UsageError(f"{folder}: was imported as pictures, so there are no videos to read: --from store")
    if options.from_ == "store" or options.flow == "stored" or pictures:
        return source
    dataset = _find_dataset(folder)
    source = replace(source, kind="videos", fps=header.preparation.fps)
    return replace(source, root=dataset.root, dataset_options=_prepared_with(folder).dataset_options)


def list_videos(options: IdtExtractOptions, source: "TrackSource", store: "Store") -> "dict[str, VideoEntry]":
    """Id -> readable video of a set, as the data set lists it, or as the store does.

    Raises:
        DataError: None of them is there any more.
    """
    from stmn.datasets.base import VideoEntry

    def as_entry(video: "StoredVideo") -> VideoEntry:
        return VideoEntry(video.id, Path(video.id), video.class_name, video.group)

    stored = {video.id: as_entry(video) for video in store.videos.values() if video.status == "ok"}
    if source.kind != "videos":
        return stored
    there = {entry.id: entry for entry in _find_dataset(store.folder).videos()}
    found = {video_id: there.get(video_id, entry) for video_id, entry in stored.items()}
    gone = [video_id for video_id in found if video_id not in there]
    if len(gone) == len(found):
        raise DataError(_gone(store.folder, source.root))
    return found


def _prepared_with(folder: Path) -> PrepareOptions:
    """The options that a set was prepared with. Raises `DataError` if its record is gone."""
    run = read_run(folder)
    try:
        return PrepareOptions(**(run.record["options"] if run else {}))
    except (ValidationError, KeyError) as error:
        raise DataError(
            f"{folder}: has no record of where its videos are; --from store tracks in its frames"
        ) from error


def _find_dataset(folder: Path) -> "Dataset":
    """The data set of a prepared set, at its videos' present folder. Raises `DataError` if they are gone."""
    run, options = read_run(folder), _prepared_with(folder)
    root: Any = run.results.get("root") if run else None
    root = Path(root) if root else root_of(options, folder)
    if not root.exists():
        raise DataError(_gone(folder, root))
    try:
        return create_dataset(options, root)
    except DataError as error:
        raise DataError(_gone(folder, root)) from error


def _gone(folder: Path, root: Path) -> str:
    """A message that videos are missing, and what to do."""
    return f"{root}: the videos of {folder.name} are no longer there; --from store tracks in the stored frames"
