"""idt-score: train linear SVMs on Fisher vectors, and score videos with them."""

from typing import TYPE_CHECKING, Any

from stmn.options.idt import IdtEncodeOptions, IdtScoreOptions
from stmn.runtime.files import write_json
from stmn.stages.base import Context, Result, Stage
from stmn.stages.idt_lists import fill_split, find_lists
from stmn.stages.idt_source import check_options
from stmn.stages.idt_steps import describe_steps, run_step
from stmn.workspace import Input, Workspace

if TYPE_CHECKING:
    from stmn.evaluation.scores import Scores
    from stmn.store.format.read import Store


class IdtScore(Stage[IdtScoreOptions]):
    """Writes `scores.safetensors` and `metrics.json`."""

    options = IdtScoreOptions
    all_splits = True
    makes = ("scores",)

    def check_options(self, options: IdtScoreOptions) -> None:
        """Refuse options that contradict each other."""
        check_options(options)

    def complete(
        self, options: IdtScoreOptions, workspace: Workspace, inputs: dict[str, list[Input]]
    ) -> IdtScoreOptions:
        """Fill in data set and split."""
        check_options(options)
        return fill_split(options, workspace, inputs)

    def label(self, options: IdtScoreOptions) -> str:
        """`idt-scores`."""
        return "idt-scores"

    def plugins(self, options: IdtScoreOptions) -> list[dict[str, str]]:
        """The plugins and formats that the earlier steps depend on."""
        return describe_steps(options)

    def check(self, options: IdtScoreOptions, context: Context) -> None:
        """Refuse lists that leave nothing to learn from."""
        from stmn.store.format.read import Store

        if options.split == "all":
            return
        with Store(context.data) as store:
            find_lists(options, store, context)

    def run(self, options: IdtScoreOptions, context: Context) -> Result:
        """Score and measure."""
        from stmn.evaluation.metrics import describe_accuracy, measure
        from stmn.store.format.read import Store

        if options.split == "all":
            from stmn.stages.idt_all_splits import score_all_splits

            return score_all_splits(options, context)
        with Store(context.data) as store:
            scores = _score(options, store, context)
            results = measure(scores) | {"protocol": scores.protocol, "of": ["IDT"]}
            if scores.protocol["part"] == "test":
                from stmn.evaluation.baseline import measure_box_shape_baseline

                results["box_shape_baseline"] = measure_box_shape_baseline(store, str(options.split), options.seed)
        scores.save(context.out / "scores.safetensors")
        write_json(context.out / "metrics.json", results)
        context.progress.say(f"IDT: {describe_accuracy(results)}")
        for note in results["notes"]:
            context.progress.say(note)
        return Result({"scores": "scores.safetensors", "metrics": "metrics.json"}, results)


def _score(options: IdtScoreOptions, store: "Store", context: Context) -> "Scores":
    """Train the SVMs, and score videos that they have not seen."""
    from stmn.evaluation.scores import Scores
    from stmn.idt.shards import ShardReader
    from stmn.idt.svm import score_with_svm

    vectors = run_step(IdtEncodeOptions, options, context)
    lists, classes = find_lists(options, store, context), store.header.classes
    if lists.left_out:
        context.progress.say(
            f"SVMs learn from {len(lists.train)} training videos; {lists.left_out} others are scored, or of scored "
            "groups"
        )
    with ShardReader(vectors.path, int(vectors.results["length"])) as reader:
        train = [video for video in lists.train if not reader.reasons.get(video.id, "skipped")]
        scored = [video for video in lists.scored if not reader.reasons.get(video.id, "skipped")]
        empty = sum(not reader.facts(video.id).tracks for video in (*train, *scored))
        if empty:
            context.progress.say(f"{empty} of {len(train) + len(scored)} videos have no tracks; their vectors are zero")
        rows = score_with_svm(
            lambda number: reader.rows(train[number].id)[0],
            [classes.index(video.class_name) for video in train],
            lambda number: reader.rows(scored[number].id)[0],
            len(scored),
            len(classes),
            options.penalty,
        )
    about = _describe(options, vectors.results["codebook"], store) | {
        "part": lists.part,
        "training_videos": len(train),
        "penalty": options.penalty,
    }
    labels, hashes = [classes.index(video.class_name) for video in scored], [video.source_hash for video in scored]
    groups = [video.group or video.id for video in scored]
    return Scores([video.id for video in scored], classes, labels, {"idt": rows}, about, groups, hashes)


def _describe(options: IdtScoreOptions, codebook: dict[str, Any], store: "Store") -> dict[str, Any]:
    """How the scores were made."""
    return {
        "words": f"linear SVMs on Fisher vectors of improved dense trajectories, K = {codebook['gaussians']}",
        "features": "idt",
        "parameters": codebook["parameters"],
        "gaussians": codebook["gaussians"],
        "from": "text" if options.tracks else options.from_,
        "data": store.header.name,
        "data_fingerprint": store.fingerprint,
        "split": str(options.split),
    }
