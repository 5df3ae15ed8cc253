"""idt-extract: track points through the videos of a set, and store descriptors of the tracks."""

from typing import Any

from stmn.options.idt import IdtExtractOptions
from stmn.runtime.files import write_json
from stmn.stages.base import Context, Result, Stage
from stmn.stages.idt_shards import fill_shards
from stmn.stages.idt_source import check_options, find_source, list_videos, make_parameters
from stmn.stages.idt_steps import describe_steps
from stmn.stages.video_jobs import check_workers
from stmn.workspace import Input, Run, Workspace

#: the most descriptors that are kept per video: a worker holds up to twice as many, 400 MB
_MOST_PER_VIDEO = 250_000


class IdtExtract(Stage[IdtExtractOptions]):
    """Writes `shards/` with descriptors (float16) and `tracks.json`."""

    options = IdtExtractOptions

    def check_options(self, options: IdtExtractOptions) -> None:
        """Refuse options that contradict each other."""
        check_options(options)

    def complete(
        self, options: IdtExtractOptions, workspace: Workspace, inputs: dict[str, list[Input]]
    ) -> IdtExtractOptions:
        """Fill in where the tracks come from."""
        check_options(options)
        folder = workspace.find_data(options.data)
        source = find_source(options, folder)
        kind = "store" if source.kind == "store" else "videos"
        return options.model_copy(update={"data": folder.name, "from_": kind} if options.tracks is None else {})

    def label(self, options: IdtExtractOptions) -> str:
        """`idt-tracks`."""
        return "idt-tracks"

    def plugins(self, options: IdtExtractOptions) -> list[dict[str, str]]:
        """The flow, and the arithmetic of the tracks."""
        return describe_steps(options)

    def has_more_work(self, options: IdtExtractOptions, run: Run) -> bool:
        """True if skipped videos are to be tried again, and there are any."""
        return options.retry_skipped and bool(run.results.get("skipped"))

    def check(self, options: IdtExtractOptions, context: Context) -> None:
        """Refuse, before anything is written, what can't be tracked."""
        from stmn.store.format.read import Store

        with Store(context.data) as store:
            list_videos(options, find_source(options, context.data), store)
        check_workers(options, context)

    def run(self, options: IdtExtractOptions, context: Context) -> Result:
        """Track every video that is not in the shards yet.

        Raises:
            DataError: more videos than `allow_failures` were skipped.
        """
        from stmn.idt.codebook import WIDTH
        from stmn.idt.shards import ShardReader
        from stmn.idt.work import IdtWorker
        from stmn.store.format.read import Store
        from stmn.store.prepare.jobs import VideoJob

        source = find_source(options, context.data)
        with Store(context.data) as store:
            entries = list_videos(options, source, store)
            jobs = [VideoJob(entry, store.videos[video_id].frames) for video_id, entry in sorted(entries.items())]
        quota = max(min(int(options.keep * 1e9 / (2 * WIDTH * len(jobs))), _MOST_PER_VIDEO), 1)
        worker = IdtWorker(context.out.resolve(), source, quota)
        skipped = fill_shards(jobs, worker, options, context, "tracking", "tracked")
        with ShardReader(context.out) as reader:
            facts = {job.entry.id: reader.facts(job.entry.id) for job in jobs if not reader.reasons[job.entry.id]}
        values: dict[str, Any] = {
            "videos": len(facts),
            "skipped": skipped,
            "tracks": sum(one.tracks for one in facts.values()),
            "kept": sum(one.kept for one in facts.values()),
            "without_tracks": sum(not one.tracks for one in facts.values()),
            "parameters": make_parameters(options).model_dump(mode="json"),
            "from": source.kind,
        }
        context.progress.say(_describe(values))
        write_json(context.out / "tracks.json", values)
        return Result({"tracks": "tracks.json"}, values, ("shards",))


def _describe(values: dict[str, Any]) -> str:
    """The numbers of tracks in one line."""
    line = f"{values['tracks']:,} tracks in {values['videos']:,} videos"
    if values["kept"] < values["tracks"]:
        line += f"; descriptors of {values['kept']:,} are kept (--keep), and encoding tracks the others again"
    if values["without_tracks"]:
        line += f"; {values['without_tracks']:,} videos have none"
    return line
