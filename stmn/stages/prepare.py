"""prepare: videos to a packed data set of frames and flow."""

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from stmn import registry
from stmn.errors import DataError, UsageError
from stmn.options.base import StageOptions, option
from stmn.recipe.execute import Context, Made
from stmn.workspace import Run, Workspace, read_run

#: prepare looks at every video each time, and does those that are not in the store yet
ALWAYS = True

#: L of training, unless it is told otherwise
STACK_LENGTH = 10


class Options(StageOptions):
    """Options of `stmn prepare`."""

    videos: Path | None = option(
        None, "folder of videos, or a CSV that lists them (none for data sets that make their own)", argument=True
    )
    out: str | None = option(None, "name of the prepared set (default: that of the folder)", argument=True)
    dataset: str = option(
        "folder", "how videos, classes and splits are found: a data set plugin (of a CSV: what its header says)",
        plugin="dataset",
    )  # fmt: skip
    dataset_options: dict[str, Any] = option({}, "options of the data set plugin, KEY=VALUE")
    short_side: int = option(256, "short side of the stored frames, pixels", ge=16)
    flow: str = option("tvl1", "optical flow: a flow plugin", plugin="flow")
    flow_options: dict[str, Any] = option({}, "options of the flow plugin, KEY=VALUE (tvl1: lambda, theta, tau, ...)")
    bound: float = option(20.0, "flow is clipped to +- this many pixels", gt=0)
    camera_motion: Literal["keep", "subtract"] = option("keep", "subtract each flow field's median motion, or keep it")
    quality: int = option(95, "JPEG quality of frames and flow", ge=1, le=100)
    workers: int = option(0, "worker processes (0: one a core), where there is no --cluster", ge=0, execution=True)
    cluster: str | None = option(
        None, "do it on the workers of this Dask scheduler, tcp://HOST:PORT; they need to see the same folders",
        execution=True,
    )  # fmt: skip
    video_timeout: float = option(600.0, "seconds that one video may take", gt=0, execution=True)
    retry_skipped: bool = option(False, "try all skipped videos again, not only changed ones", execution=True)
    allow_failures: int = option(0, "this many skipped videos are fine", ge=0, execution=True)


def name_of(options: Options) -> str:
    """The name of the set."""
    if options.out:
        return Path(options.out).name
    if options.videos is None:
        return options.dataset
    return options.videos.stem if is_list(options) else options.videos.resolve().name


def is_list(options: Options) -> bool:
    """True when the videos are named by a CSV file."""
    return options.videos is not None and options.videos.suffix.lower() == ".csv"


def complete(options: Options, workspace: Workspace, inputs: dict[str, Any]) -> Options:
    """Fill in what was not given: a CSV's header says its data set, ready pictures have their own short side."""
    given = options.model_fields_set
    if is_list(options) and "dataset" not in given:
        from stmn.datasets.table import dataset_of

        options = options.model_copy(update={"dataset": dataset_of(Path(options.videos or "."))})
    if "short_side" not in given and registry.load("dataset", options.dataset).has_pictures:
        dataset = create_dataset(options, root_of(options, workspace.data_dir(options.out or name_of(options))))
        options = options.model_copy(update={"short_side": dataset.short_side()})
    return options


def root_of(options: Options, folder: Path) -> Path:
    """Where the videos are; a data set that makes its own keeps them beside the shards in `folder`."""
    if options.videos is None:
        return folder.resolve() / "videos"
    if is_list(options):  # a link to a list is a list here
        return options.videos.parent.resolve() / options.videos.name
    return options.videos.resolve()


def label(options: Options) -> str:
    """The set's name."""
    return name_of(options)


def locate(options: Options, workspace: Workspace) -> Run:
    """Its run is the prepared set's own folder."""
    path = workspace.data_dir(options.out or name_of(options))
    return read_run(path) or Run(path)


def plugins(options: Options) -> list[dict[str, str]]:
    """The data set and the flow."""
    return [registry.find("dataset", options.dataset).identity, registry.find("flow", options.flow).identity]


def check(options: Options, context: Context) -> None:
    """Refuse, before anything is written, what can't be prepared into this folder."""
    from stmn.runtime.files import exclusive_lock

    inventory(options, context.out)
    if options.flow_options:
        from stmn.flow.estimator import check_estimator

        check_estimator(options.flow, options.flow_options)
    if (context.out / "shards").is_dir():
        with exclusive_lock(context.out / "shards"):
            pass
    if options.cluster:
        from stmn.runtime.cluster import check_cluster

        check_cluster(options.cluster, context.progress.say)


def inventory(options: Options, folder: Path) -> tuple[Any, list[Any], Any]:
    """The data set, its videos, and the header of the set that they make.

    Raises `DataError` when there are no videos and `UsageError` when the folder holds a set that was made otherwise.
    """
    from stmn.store.format.header import Header, Preparation

    dataset = create_dataset(options, root_of(options, folder))
    if dataset.has_pictures and options.camera_motion != "keep":
        raise UsageError(f"data set '{options.dataset}' has flow already; its camera motion can't be subtracted here")
    entries = list(dataset.videos())
    header = Header(
        name=name_of(options),
        dataset=registry.find("dataset", options.dataset).identity,
        dataset_options=options.dataset_options,
        classes=sorted({entry.class_name for entry in entries if entry.class_name}),
        keeps=sorted(dataset.keeps),
        preparation=Preparation(**{name: getattr(options, name) for name in Preparation.model_fields}),
        splits=dataset.splits(),
    )
    check_same(folder, header)
    return dataset, entries, header


def run(options: Options, context: Context) -> Made:
    """Prepare every video of the data set that is not in the store yet.

    Raises `DataError` when more videos than `allow_failures` were skipped; the others are in the store all the same.
    """
    from stmn.runtime.files import exclusive_lock

    shards = context.out / "shards"
    shards.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(shards):
        return fill(options, context)


def fill(options: Options, context: Context) -> Made:
    """Bring the store up to date with the data set."""
    from stmn.store.format.write import recover_videos
    from stmn.store.prepare.sources import refresh_videos
    from stmn.store.prepare.video import PrepareJob, PrepareWorker

    folder = context.out
    dataset, entries, header = inventory(options, folder)
    header.write(folder)

    recover_videos(folder)  # heals what a killed writer left
    refresh_videos(folder, dataset, entries, options.retry_skipped, context.progress.say)
    finished = recover_videos(folder)
    missing = [entry for entry in entries if entry.id not in finished]
    jobs = deque(PrepareJob(entry) for entry in missing)
    setup = PrepareWorker(folder.resolve(), header.preparation, options.dataset, dataset.root, options.dataset_options)
    found = [finished[entry.id] for entry in entries if entry.id in finished]
    skipped = sum(video.status == "skipped" for video in found)
    frames = sum(video.frames for video in found)
    for entry in entries:
        if entry.id in finished:
            tell_video(entry.id, finished[entry.id].frames, finished[entry.id].reason, False, context)
    started, before = time.monotonic(), frames
    with context.progress.task("videos", len(entries), "videos", done=len(entries) - len(missing)) as task:
        for outcome in outcomes(jobs, setup, options, context):
            if outcome.error and outcome.job.failure:
                raise DataError(f"{folder}: can't record that {outcome.job.entry.id!r} was skipped: {outcome.error}")
            if outcome.error:  # its worker died, hung or could not record it: another one records that
                jobs.append(PrepareJob(outcome.job.entry, outcome.error))
                continue
            frames += outcome.result.frames
            if outcome.result.reason:
                skipped += 1
                context.progress.say(f"skipped {outcome.result.entry.id!r}: {outcome.result.reason}")
            tell_video(outcome.result.entry.id, outcome.result.frames, outcome.result.reason, True, context)
            rate = (frames - before) / max(time.monotonic() - started, 1e-9)
            task.advance(**{"frames": frames, "frames/s": rate, "skipped": skipped})
    finished = recover_videos(folder)
    lost = [entry.id for entry in entries if entry.id not in finished]
    if lost:
        elsewhere = "a worker of the cluster writes elsewhere" if options.cluster else "this is a bug"
        raise DataError(f"{folder}: {len(lost)} videos are in no shard, the first is {lost[0]!r}; {elsewhere}")
    skipped = sum(finished[entry.id].status == "skipped" for entry in entries)
    frames = sum(finished[entry.id].frames for entry in entries)
    tell_short([(entry.id, finished[entry.id].frames) for entry in entries], context)
    if skipped > options.allow_failures:
        first = next(entry.id for entry in entries if finished[entry.id].status == "skipped")
        reason = finished[first].reason
        raise DataError(
            f"{folder}: {skipped} of {len(entries)} videos were skipped, the first: {first!r}: {reason} "
            f"(the others are prepared; --allow-failures {skipped} accepts this, --retry-skipped tries them again)"
        )
    counts = {"videos": len(entries), "ok": len(entries) - skipped, "skipped": skipped, "frames": frames}
    return Made(outputs={"data": "dataset.json"}, results=counts)


def tell_short(frames: list[tuple[str, int]], context: Context) -> None:
    """Say which of the videos, (id, frames), are too short for a stack of the usual length; they are kept."""
    short = [(video_id, count) for video_id, count in frames if 0 < count <= STACK_LENGTH]
    if short:
        context.progress.say(
            f"{len(short)} of {len(frames)} videos are too short for a whole stack of {STACK_LENGTH} flow fields, the "
            f"first: {short[0][0]!r} ({short[0][1]} frames); they are kept, their first and last field repeated"
        )


def tell_video(video_id: str, frames: int, reason: str, new: bool, context: Context) -> None:
    """Tell a machine what became of a video; `new` when this run prepared it."""
    context.progress.event(video=video_id, status="skipped" if reason else "ok", frames=frames, reason=reason, new=new)


def outcomes(jobs: deque[Any], setup: Any, options: Options, context: Context) -> Iterator[Any]:
    """What becomes of the jobs, done by processes of this machine or by a cluster."""
    if options.cluster:
        from stmn.runtime.cluster import run_on_cluster

        folder = str(context.out.resolve())
        return run_on_cluster(jobs, setup.on, options.cluster, folder, options.video_timeout, context.progress.say)
    from stmn.runtime.workers import count_cores, run_jobs

    return run_jobs(jobs, setup, options.workers or count_cores(), options.video_timeout)


def create_dataset(options: Options, root: Path) -> Any:
    """The data set plugin, built. Raises `UsageError` when it does not take its options."""
    plugin = registry.load("dataset", options.dataset)
    if options.videos is None and not plugin.makes_videos:
        raise UsageError(
            f"data set '{options.dataset}' needs a folder of videos: stmn prepare VIDEOS NAME, or "
            "stmn run RECIPE --data-root VIDEOS"
        )
    try:
        return plugin(root, **options.dataset_options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"data set '{options.dataset}': {error}") from error


def check_same(folder: Path, header: Any) -> None:
    """Refuse to mix pictures made in two ways in one set. Raises `UsageError` naming what differs."""
    from stmn.store.format.header import HEADER, read_header

    if not (folder / HEADER).exists():
        return
    there = read_header(folder)
    old = there.preparation.model_dump() | {"dataset": there.dataset["name"]} | there.dataset_options
    new = header.preparation.model_dump() | {"dataset": header.dataset["name"]} | header.dataset_options
    for key in old | new:
        if old.get(key) != new.get(key):
            raise UsageError(
                f"{folder}: was prepared with {key} = {old.get(key)!r}, not {new.get(key)!r}; "
                f"give the new set another name, or delete that folder"
            )
