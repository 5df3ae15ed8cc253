"""idt-fit: fit PCA and Gaussians to descriptors of a split's training videos."""

from typing import TYPE_CHECKING

from stmn.options.idt import IdtExtractOptions, IdtFitOptions
from stmn.stages.base import Context, Result, Stage
from stmn.stages.idt_lists import fill_split, find_lists
from stmn.stages.idt_source import check_options, make_parameters
from stmn.stages.idt_steps import describe_steps, run_step
from stmn.workspace import Input, Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stmn.idt.shards import ShardReader


class IdtFit(Stage[IdtFitOptions]):
    """Writes `codebook.safetensors`."""

    options = IdtFitOptions

    def check_options(self, options: IdtFitOptions) -> None:
        """Refuse options that contradict each other."""
        check_options(options)

    def complete(self, options: IdtFitOptions, workspace: Workspace, inputs: dict[str, list[Input]]) -> IdtFitOptions:
        """Fill in data set and split."""
        check_options(options)
        return fill_split(options, workspace, inputs)

    def label(self, options: IdtFitOptions) -> str:
        """`idt-codebook`."""
        return "idt-codebook"

    def plugins(self, options: IdtFitOptions) -> list[dict[str, str]]:
        """The plugins and formats that the earlier steps depend on."""
        return describe_steps(options)

    def check(self, options: IdtFitOptions, context: Context) -> None:
        """Refuse lists that leave nothing to learn from."""
        from stmn.store.format.read import Store

        with Store(context.data) as store:
            find_lists(options, store, context)

    def run(self, options: IdtFitOptions, context: Context) -> Result:
        """Fit.

        Raises:
            DataError: the training videos have too few tracks.
        """
        from stmn.idt.fit import SAMPLES, choose_gaussians, fit_codebook
        from stmn.idt.shards import ShardReader
        from stmn.store.format.read import Store

        tracks = run_step(IdtExtractOptions, options, context)
        with Store(context.data) as store, ShardReader(tracks.path) as reader:
            videos = [video.id for video in find_lists(options, store, context).train if not reader.reasons[video.id]]
            gaussians = options.gaussians or choose_gaussians(len(videos))
            rows = _sample(reader, videos, options.samples or SAMPLES * gaussians, options.seed)
            about = {
                "parameters": make_parameters(options).model_dump(mode="json"),
                "gaussians": gaussians,
                "videos": len(videos),
                "descriptors": len(rows),
                "seed": options.seed,
                "data": store.header.name,
                "split": options.split,
            }
        context.progress.say(
            f"PCA and {gaussians} Gaussians per descriptor from {len(rows):,} tracks of {len(videos)} training videos"
        )
        with context.progress.task("fitting", 4, "descriptors") as task:
            codebook = fit_codebook(rows, gaussians, about, options.seed, lambda _: task.advance())
        codebook.save(context.out / "codebook.safetensors")
        return Result({"codebook": "codebook.safetensors"}, about)


def _sample(reader: "ShardReader", videos: list[str], count: int, seed: int) -> "NDArray[np.float16]":
    """Draw (N, 396) descriptors, N <= `count`, in equal shares of the videos; one that has fewer gives all it has."""
    import numpy as np

    from stmn.idt.codebook import WIDTH

    kept = np.array([reader.facts(video_id).kept for video_id in videos])
    draws = np.random.default_rng(seed)
    parts = [np.zeros((0, WIDTH), np.float16)]
    for video_id, share in zip(videos, _share(kept, count), strict=True):
        rows = reader.rows(video_id)
        parts.append(rows[np.sort(draws.choice(len(rows), share, replace=False))])
    return np.concatenate(parts)


def _share(kept: "NDArray[np.int64]", count: int) -> "list[int]":
    """How many descriptors to take from each video, `count` in all if there are as many."""
    import numpy as np

    order, left = np.argsort(kept, kind="stable"), count
    shares = np.zeros(len(kept), int)
    for place, number in enumerate(order):  # those with the fewest first: the rest of their share goes to the others
        shares[number] = min(int(kept[number]), left // (len(kept) - place))
        left -= shares[number]
    found: list[int] = shares.tolist()
    return found
