"""report: one HTML file with the numbers, figures, curves and sample videos of finished evaluations."""

from stmn.errors import DataError
from stmn.options.report import ReportOptions
from stmn.report.sources import RunGraph, find_newest_evaluations, find_run, find_unfinished, list_recipes
from stmn.stages.base import Context, Result, Stage
from stmn.stages.sources import find_inputs
from stmn.workspace import Input, Workspace, read_run


class Report(Stage[ReportOptions]):
    """Writes `report.html`."""

    options = ReportOptions
    all_splits = True

    def complete(self, options: ReportOptions, workspace: Workspace, inputs: dict[str, list[Input]]) -> ReportOptions:
        """Fill in the evaluations and their data set."""
        if options.evaluations is None and "evaluations" not in inputs:
            return _fill_newest_evaluations(options, workspace)
        found = find_inputs(options, "evaluations", workspace, inputs)
        _check_split(found, options.split)
        if options.data is not None:
            return options
        records = [run.record for item in found if (run := find_run(item))]
        names = {record.get("options", {}).get("data") or record.get("data", {}).get("name") for record in records}
        return options.model_copy(update={"data": names.pop()}) if len(names) == 1 else options

    def label(self, options: ReportOptions) -> str:
        """`report`."""
        return "report"

    def check(self, options: ReportOptions, context: Context) -> None:
        """Raise `MissingExtra` without matplotlib or jinja2."""
        from stmn.report.page import check_extra

        check_extra()

    def run(self, options: ReportOptions, context: Context) -> Result:
        """Write the page.

        Raises:
            DataError: evaluations belong to another data set or know different classes.
        """
        from stmn.evaluation.agreement import check_data, find_changes
        from stmn.report.contents import Contents, describe_stage, load_all_splits, load_evaluations, load_trainings
        from stmn.report.notes import find_warnings
        from stmn.report.report_page import write_report
        from stmn.store.format.read import Store

        graph = RunGraph(context.workspace.runs())
        with Store(context.data) as store:
            given = context.inputs["evaluations"]
            one_split = [item for item in given if item.path.suffix != ".json"]
            evaluations = load_evaluations(one_split, graph)
            all_splits = load_all_splits([item for item in given if item not in one_split], graph)
            changed: list[str] = []
            for item, evaluation in zip(one_split, evaluations, strict=True):
                check_data(evaluation.scores, item.name, store.header)
                changed += [line] if (line := find_changes(evaluation.scores, evaluation.label, store)) else []
            led = graph.find_upstream(run for item in given if (run := find_run(item)))
            prepared, own = read_run(context.data), read_run(context.out)
            used = {run.record["data"].get("fingerprint") for run in led if "data" in run.record}
            splits = dict.fromkeys(str(e.scores.protocol.get("split") or options.split or "1") for e in evaluations)
            split = ", ".join(splits) or "all"
            contents = Contents(
                title=options.title or f"Action recognition on {store.header.name}, {_split_words(split)}",
                split=split,
                evaluations=evaluations,
                all_splits=all_splits,
                trainings=load_trainings(led),
                stages=[describe_stage(run, context.workspace.root) for run in ([prepared] if prepared else []) + led],
                warnings=[*find_warnings(evaluations, same_data=used <= {store.fingerprint}), *changed],
                recipes=list_recipes(led),
                fingerprint=own.record.get("fingerprint", "") if own else "",
                samples=options.samples,
            )
            write_report(context.out / "report.html", contents, store)
        context.progress.say(f"report: {context.out / 'report.html'}")
        table = [
            {"name": e.label} | {key: e.metrics[key] for key in ("accuracy", "interval", "videos")} for e in evaluations
        ]
        table += [
            {"name": a.label} | {key: a.metrics[key] for key in ("accuracy", "interval", "splits")} for a in all_splits
        ]
        return Result(outputs={"report": "report.html"}, values={"table": table})


def _fill_newest_evaluations(options: ReportOptions, workspace: Workspace) -> ReportOptions:
    """Options with the newest evaluations of the data set and split. Raises `DataError` if there are none."""
    data = workspace.find_data(options.data).name
    graph = RunGraph(workspace.runs())
    splits = list(dict.fromkeys((options.split or "1", "all")))
    given = [run for split in splits for run in find_newest_evaluations(graph, data, split)]
    if not given:
        begun = find_unfinished(graph, data, splits[0])
        why = f" ({begun.label}: {begun.record.get('status', 'not started')})" if begun else ""
        raise DataError(
            f"no finished evaluation of data set {data}, split {splits[0]}{why}; make one with: stmn evaluate"
        )
    return options.model_copy(update={"evaluations": [str(run.path) for run in given]})


def _split_words(split: str) -> str:
    """`split 1`, `all splits`."""
    return "all splits" if split == "all" else f"split {split}"


def _check_split(found: list[Input], split: str | None) -> None:
    """Raise `DataError` if an evaluation that was named is of another split than was asked for."""
    from stmn.evaluation.agreement import read_source
    from stmn.evaluation.scores import load_scores

    if split in (None, "all"):
        return
    for item in found:
        own = read_source(load_scores(item.path).protocol, item.label).split if item.path.suffix != ".json" else ""
        if own and own != split:
            raise DataError(f"{item.label}: is of split {own}, not {split}; leave it out, or leave --split out")
