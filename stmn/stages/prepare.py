"""prepare: pack videos into a data set of frames and flow."""

from collections import deque
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from stmn import registry
from stmn.errors import DataError, UsageError, count_of
from stmn.options.prepare import PrepareOptions
from stmn.registry.options import build
from stmn.runtime.files import real_path
from stmn.runtime.names import has_slash, name_problem
from stmn.stages.base import Context, Result, Stage
from stmn.stages.prepare_notes import find_small, print_list_notes, print_short_videos
from stmn.stages.video_jobs import Rate, check_workers, count_skipped, run_video_jobs
from stmn.workspace import Input, Run, Workspace, read_run

if TYPE_CHECKING:
    from stmn.datasets.base import Dataset, VideoEntry
    from stmn.store.format.header import Header


class Prepare(Stage[PrepareOptions]):
    """Fills a store with every video of a data set, except those that are in it already."""

    options = PrepareOptions
    always = True
    several_devices = True

    def check_options(self, options: PrepareOptions) -> None:
        """Refuse options that the flow plugin does not take."""
        if options.flow_options or registry.find("flow", options.flow).package != registry.BUILT_IN:
            from stmn.flow.estimator import check_estimator

            check_estimator(options.flow, options.flow_options)

    def complete(self, options: PrepareOptions, workspace: Workspace, inputs: dict[str, list[Input]]) -> PrepareOptions:
        """Fill in the data set, from the header of a CSV list, and the short side of ready pictures."""
        given = options.model_fields_set
        if options.is_list and "dataset" not in given:
            from stmn.datasets.table import dataset_of

            options = options.model_copy(update={"dataset": dataset_of(Path(options.videos or "."))})
        if "short_side" not in given and registry.load("dataset", options.dataset).has_pictures:
            dataset = create_dataset(options, root_of(options, _folder_of(options, workspace)))
            options = options.model_copy(update={"short_side": dataset.short_side()})
        return options

    def label(self, options: PrepareOptions) -> str:
        """The name of the set."""
        return options.set_name

    def find_run(self, options: PrepareOptions, workspace: Workspace) -> Run:
        """Its run, in the folder of the prepared set."""
        path = _folder_of(options, workspace)
        return read_run(path) or Run(path)

    def plugins(self, options: PrepareOptions) -> list[dict[str, str]]:
        """The data set and the flow."""
        return [registry.find("dataset", options.dataset).identity, registry.find("flow", options.flow).identity]

    def check(self, options: PrepareOptions, context: Context) -> None:
        """Refuse, before anything is written, what can't be prepared into this folder."""
        _take_inventory(options, context.out)
        self.check_options(options)
        if context.device != "auto":
            from stmn.flow.backend import check_devices

            check_devices(context.device, here=not options.cluster)
        check_workers(options, context)

    def run(self, options: PrepareOptions, context: Context) -> Result:
        """Prepare every video of the data set that is not in the store yet.

        Raises:
            DataError: more videos than `allow_failures` were skipped; the others are in the store nevertheless.
        """
        (context.out / "shards").mkdir(parents=True, exist_ok=True)
        return _fill_store(options, context)


def _folder_of(options: PrepareOptions, workspace: Workspace) -> Path:
    """The folder of the prepared set. Raises `UsageError` if its name can't be a folder's."""
    name = options.out or options.set_name
    path = workspace.data_dir(name)
    if fault := name_problem(real_path(path).name if has_slash(name) else name):
        command = workspace.command("prepare", "VIDEOS", "NAME")
        raise UsageError(f"prepared set '{name}': {fault}; choose another name: {command}")
    return path


def root_of(options: PrepareOptions, folder: Path) -> Path:
    """The folder or list of the videos; a data set that renders its own keeps them beside the shards in `folder`."""
    if options.videos is None:
        return real_path(folder) / "videos"
    if options.is_list:  # resolve only its folder: a link to a list keeps its own name, and so its extension
        return real_path(options.videos.parent) / options.videos.name
    return real_path(options.videos)


def create_dataset(options: PrepareOptions, root: Path) -> "Dataset":
    """Build the data set plugin. Raises `UsageError` if it doesn't take its options."""
    plugin = registry.load("dataset", options.dataset)
    if options.videos is None and not plugin.makes_videos:
        raise UsageError(
            f"data set '{options.dataset}' needs a folder of videos: stmn prepare VIDEOS NAME, or "
            "stmn run RECIPE --data-root VIDEOS"
        )
    dataset: Dataset = build("dataset", options.dataset, options.dataset_options, root)
    return dataset


def _take_inventory(options: PrepareOptions, folder: Path) -> tuple["Dataset", "list[VideoEntry]", "Header"]:
    """The data set, its videos, and the header of the prepared set.

    Raises `DataError` if there are no videos, and `UsageError` if the folder holds a set prepared with other options.
    """
    from stmn.datasets.folds import choose_folds, make_folds
    from stmn.store.format.header import Folds, Header, Preparation

    dataset = create_dataset(options, root_of(options, folder))
    if dataset.has_pictures and options.camera_motion != "keep":
        raise UsageError(f"data set '{options.dataset}' comes with flow: its camera motion can't be subtracted here")
    if dataset.has_pictures and options.fps:
        raise UsageError(f"data set '{options.dataset}' comes with frames and flow: --fps can't change their rate")
    entries = list(dataset.videos())
    folds = None
    if options.split_by:
        there = [entry for entry in entries if not dataset.lacks(entry)]
        by, count = options.split_by, options.folds
        if by == "auto":
            by, count = choose_folds(there, count)
        splits, folds = make_folds(there, by, count), Folds(by=by, count=count)
    else:
        splits = dataset.splits()
    classes = sorted({entry.class_name for entry in entries if entry.class_name})
    header = Header(
        name=options.set_name,
        dataset=registry.find("dataset", options.dataset).identity,
        dataset_options=options.dataset_options,
        classes=classes,
        keeps=sorted(dataset.keeps - (set() if options.mirror else {"mirror"})),
        mirror_pairs=_pair_classes(classes, options.mirror_pairs),
        preparation=Preparation(**{name: getattr(options, name) for name in Preparation.model_fields}),
        splits=splits,
        folds=folds,
    )
    _check_same(folder, header, dataset.renames)
    return dataset, entries, header


def _pair_classes(classes: list[str], words: dict[str, str]) -> dict[str, str]:
    """Class -> the class that it becomes in a mirror. Raises `UsageError` if words are given and change no class."""
    from stmn.datasets.doubts import find_mirror_pairs

    pairs = find_mirror_pairs(classes, words) if words else []
    if words and not pairs:
        given = ", ".join(f"{one}={other}" for one, other in words.items())
        raise UsageError(f"mirror_pairs = {given}: no two classes change places so; classes: {', '.join(classes)}")
    return dict(pairs) | {other: one for one, other in pairs}


def _check_same(folder: Path, header: "Header", renames: frozenset[str]) -> None:
    """Refuse to mix pictures made in two ways in one set; the options in `renames` may differ.

    Raises `UsageError` that names what differs.
    """
    from stmn.store.format.header import HEADER, read_header

    if not (folder / HEADER).exists():
        return
    there = read_header(folder)
    old, new = (
        h.preparation.model_dump() | {"dataset": h.dataset["name"]} | h.dataset_options for h in (there, header)
    )
    for key in (old | new).keys() - renames:
        if old.get(key) != new.get(key):
            raise UsageError(
                f"{folder}: was prepared with {key} = {old.get(key)!r}, not {new.get(key)!r}; "
                f"choose another name for the new set, or delete that folder"
            )


def _fill_store(options: PrepareOptions, context: Context) -> Result:
    """Bring the store up to date with the data set."""
    from stmn.store.format.write import recover_videos
    from stmn.store.prepare.jobs import VideoJob
    from stmn.store.prepare.sources import move_videos, refresh_videos
    from stmn.store.prepare.video import PrepareWorker

    folder = context.out
    dataset, entries, header = _take_inventory(options, folder)
    header.write(folder)
    print_list_notes(dataset, entries, header, context)
    if header.folds:
        tested = sorted(len(parts["test"]) for parts in header.splits.values())
        kind = "folds" if header.folds.count else "one per group"
        many = f"{tested[0]} to {tested[-1]}" if tested[0] < tested[-1] else f"{tested[0]}"
        context.progress.say(f"splits: {len(tested)}, {kind}; each tests {many} video{'s' * (tested[-1] != 1)}")

    recover_videos(folder)  # repairs what a killed writer left
    if moved := move_videos(folder, dataset, entries):
        before, now = moved[0]
        count = count_of(len(moved), "video has another name", "videos have other names")
        context.progress.say(f"{count} than before, the first: {now!r}, which was {before!r}")
    refresh_videos(folder, dataset, entries, options.retry_skipped, context.progress.say)
    finished = recover_videos(folder)
    _set_apart(sorted(finished.keys() - {entry.id for entry in entries}), header, options, context)
    missing = [entry for entry in entries if entry.id not in finished]
    if "short_side" not in options.model_fields_set and not dataset.has_pictures:
        for line in find_small(missing, options.short_side):
            context.progress.say(line)
    jobs = deque(VideoJob(entry) for entry in missing)
    computed = [] if dataset.has_pictures else missing
    worker = PrepareWorker(
        real_path(folder), header.preparation, options.dataset, dataset.root, options.dataset_options,
        allow_damage=options.allow_damage, devices=_choose_devices(options, computed, context),
        may_use_cpu=context.device == "auto",
    )  # fmt: skip
    found = [finished[entry.id] for entry in entries if entry.id in finished]
    skipped = sum(video.status == "skipped" for video in found)
    for entry in entries:
        if entry.id in finished:
            _report_video(entry.id, finished[entry.id].frames, finished[entry.id].reason, False, context)
    rate = Rate(sum(video.frames for video in found))
    started = nullcontext(worker) if options.cluster else worker.opened(context.progress.say)
    with (
        started as ready,
        context.progress.task("videos", len(entries), "videos", done=len(entries) - len(missing)) as task,
    ):
        for result in run_video_jobs(jobs, ready, options, context):
            if result.reason:
                skipped += 1
                context.progress.say(f"skipped {result.entry.id!r}: {result.reason}")
            if result.note:
                context.progress.say(f"note on {result.entry.id!r}: {result.note}")
            _report_video(result.entry.id, result.frames, result.reason, True, context)
            task.advance(1, **rate.add(result.frames), skipped=skipped)
    return _summarise(options, entries, context)


def _choose_devices(options: PrepareOptions, videos: "list[VideoEntry]", context: Context) -> tuple[str, ...]:
    """The devices on which owners compute flow. If there are none, print that each worker's CPU does."""
    if not videos:
        return ()
    from stmn.flow.backend import choose_owned, describe_flow

    if options.cluster:
        devices = choose_owned(context.device, options.flow, len(videos), here=False)
        context.progress.say(f"flow: {options.flow} on {' and '.join(devices) or 'the CPU'} of each Dask worker")
        return tuple(devices)
    from stmn.runtime.workers import warm_up

    warm_up()
    if not (devices := choose_owned(context.device, options.flow, len(videos))):
        context.progress.say(f"flow: {describe_flow(options.flow, 'cpu')}")
    return tuple(devices)


def _set_apart(gone: list[str], header: "Header", options: PrepareOptions, context: Context) -> None:
    """Hide, or drop, prepared videos that are no longer listed."""
    if not gone:
        return
    count = count_of(len(gone), "prepared video is", "prepared videos are")
    found = f"{count} not in the data set any more, the first: {gone[0]!r}"
    if options.drop_gone:
        from stmn.store.prepare.sources import drop_videos

        drop_videos(context.out, gone)
        context.progress.say(f"{found}; dropped")
        return
    header.model_copy(update={"gone": gone}).write(context.out)
    context.progress.say(f"{found}; set apart, and deleted with --drop-gone")


def _summarise(options: PrepareOptions, entries: "list[VideoEntry]", context: Context) -> Result:
    """Count what is in the store. Raises `DataError` if a video is missing or too many were skipped."""
    from stmn.store.format.write import recover_videos

    folder = context.out
    finished = recover_videos(folder)
    lost = [entry.id for entry in entries if entry.id not in finished]
    if lost:
        elsewhere = "a worker of the cluster writes elsewhere" if options.cluster else "this is a bug"
        raise DataError(
            f"{folder}: {count_of(len(lost), 'video is', 'videos are')} in no shard, the first: {lost[0]!r}; "
            f"{elsewhere}"
        )
    print_short_videos([(entry.id, finished[entry.id].frames) for entry in entries], context)
    skipped = count_skipped(
        {entry.id: finished[entry.id].reason for entry in entries}, folder, options.allow_failures, "prepared"
    )
    for line in _find_trouble(folder):
        context.progress.say(line)
    frames = sum(finished[entry.id].frames for entry in entries)
    counts = {"videos": len(entries), "ok": len(entries) - skipped, "skipped": skipped, "frames": frames}
    root = {} if options.videos is None else {"root": str(root_of(options, folder))}  # for stages that read the videos
    return Result(outputs={"data": "dataset.json"}, values=counts | root, files=("shards",))


def _find_trouble(folder: Path) -> list[str]:
    """A line for each split that trains and tests on the same file under two names, and one if rates differ."""
    from stmn.store.format.read import Store
    from stmn.store.inspect.copies import find_copies
    from stmn.store.inspect.rates import describe_rates

    with Store(folder) as store:
        copies = list(find_copies(store))
        if copies:
            copies[-1] += "; stmn data check also finds copies that were encoded again"
        return [*copies, *describe_rates(store)]


def _report_video(video_id: str, frames: int, reason: str, new: bool, context: Context) -> None:
    """Report the outcome of a video as an event; `new` if this run prepared it."""
    context.progress.event(video=video_id, status="skipped" if reason else "ok", frames=frames, reason=reason, new=new)
