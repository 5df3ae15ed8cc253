"""idt-encode: a Fisher vector for each video of a split."""

import shutil
from pathlib import Path

from stmn.options.idt import IdtEncodeOptions, IdtExtractOptions, IdtFitOptions
from stmn.runtime.files import atomic_write, file_digest, write_json
from stmn.stages.base import Context, Result, Stage
from stmn.stages.idt_lists import fill_split, find_lists
from stmn.stages.idt_shards import fill_shards
from stmn.stages.idt_source import check_options, list_videos
from stmn.stages.idt_steps import describe_steps, run_step, source_of
from stmn.stages.video_jobs import check_workers
from stmn.workspace import Input, Run, Workspace


class IdtEncode(Stage[IdtEncodeOptions]):
    """Writes `shards/` with Fisher vectors (float16) and `vectors.json`."""

    options = IdtEncodeOptions

    def check_options(self, options: IdtEncodeOptions) -> None:
        """Refuse options that contradict each other."""
        check_options(options)

    def complete(
        self, options: IdtEncodeOptions, workspace: Workspace, inputs: dict[str, list[Input]]
    ) -> IdtEncodeOptions:
        """Fill in data set and split."""
        check_options(options)
        return fill_split(options, workspace, inputs)

    def label(self, options: IdtEncodeOptions) -> str:
        """`idt-vectors`."""
        return "idt-vectors"

    def plugins(self, options: IdtEncodeOptions) -> list[dict[str, str]]:
        """The plugins and formats that the earlier steps depend on."""
        return describe_steps(options)

    def has_more_work(self, options: IdtEncodeOptions, run: Run) -> bool:
        """True if skipped videos are to be tried again, and there are any."""
        return options.retry_skipped and bool(run.results.get("skipped"))

    def check(self, options: IdtEncodeOptions, context: Context) -> None:
        """Refuse a cluster that can't be reached."""
        check_workers(options, context)

    def run(self, options: IdtEncodeOptions, context: Context) -> Result:
        """Encode the training and the scored videos that are not encoded yet.

        Raises:
            DataError: more videos than `allow_failures` were skipped.
        """
        from stmn.idt.codebook import load_codebook
        from stmn.idt.shards import ShardReader
        from stmn.idt.work import IdtWorker
        from stmn.store.format.read import Store
        from stmn.store.prepare.jobs import VideoJob

        codebook = run_step(IdtFitOptions, options, context).output("codebook").resolve()
        tracks = run_step(IdtExtractOptions, options, context).path.resolve()
        source = source_of(options, context)
        with Store(context.data) as store, ShardReader(tracks) as reader:
            lists, entries = find_lists(options, store, context), list_videos(options, source, store)
            videos = {video.id: video.frames for video in (*lists.train, *lists.scored)}
            jobs = [
                VideoJob(entries[video_id], frames)
                for video_id, frames in videos.items()
                if not reader.reasons[video_id]
            ]
        _drop_vectors_of_another(codebook, context.out)
        worker = IdtWorker(context.out.resolve(), source, codebook=codebook, kept=tracks)
        skipped = fill_shards(jobs, worker, options, context, "encoding", "encoded")
        about = load_codebook(codebook)
        values = {"videos": len(jobs) - skipped, "skipped": skipped, "length": about.length, "codebook": about.about}
        write_json(context.out / "vectors.json", values)
        return Result({"vectors": "vectors.json"}, values, ("shards",))


def _drop_vectors_of_another(codebook: Path, folder: Path) -> None:
    """Remove a folder's Fisher vectors if they were made with another codebook, and note the present one."""
    note, digest = folder / "codebook.txt", file_digest(codebook)
    if note.exists() and note.read_text(encoding="utf-8") != digest:
        shutil.rmtree(folder / "shards", ignore_errors=True)
    with atomic_write(note) as temporary:
        temporary.write_text(digest, encoding="utf-8")
