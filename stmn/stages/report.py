"""report: one HTML file with the numbers, figures, curves and sample videos of finished evaluations."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stmn.errors import DataError, StmnError
from stmn.options.report import ReportOptions
from stmn.report.sources import RunGraph, find_newest_evaluations, find_rows, find_run, find_unfinished, list_recipes
from stmn.runtime.json_files import read_json
from stmn.stages.base import Context, Result, Stage
from stmn.stages.sources import find_inputs
from stmn.workspace import Input, Workspace, read_run

if TYPE_CHECKING:
    from stmn.evaluation.agreement import Source
    from stmn.report.contents import Contents
    from stmn.report.inside import InsideSection
    from stmn.store.format.header import Header
    from stmn.store.format.read import Store


class Report(Stage[ReportOptions]):
    """Writes `report.html`."""

    options = ReportOptions
    all_splits = True

    def complete(self, options: ReportOptions, workspace: Workspace, inputs: dict[str, list[Input]]) -> ReportOptions:
        """Fill in the evaluations and their data set."""
        if options.evaluations is None and "evaluations" not in inputs:
            return _fill_newest_evaluations(options, workspace)
        if options.data is not None:
            return options
        found = find_inputs(options, "evaluations", workspace, inputs)
        names = {name for item in found if (name := _read_data_set(item)) in workspace.prepared()}
        return options.model_copy(update={"data": names.pop()}) if len(names) == 1 else options

    def label(self, options: ReportOptions) -> str:
        """`report`."""
        return "report"

    def check(self, options: ReportOptions, context: Context) -> None:
        """Refuse evaluations of another data set, split or list of classes, and a missing extra."""
        from stmn.report.page import check_extra
        from stmn.store.format.header import read_header

        check_extra()
        _find_sources(context.inputs["evaluations"], options, read_header(context.data))

    def run(self, options: ReportOptions, context: Context) -> Result:
        """Write the page."""
        from stmn.evaluation.agreement import find_changes
        from stmn.report.contents import Contents, describe_stage, load_all_splits, load_evaluations, load_trainings
        from stmn.report.notes import find_warnings
        from stmn.report.report_page import write_report
        from stmn.report.words import describe_splits
        from stmn.store.format.read import Store

        graph = RunGraph(context.workspace.runs())
        with Store(context.data) as store:
            given = context.inputs["evaluations"]
            one_split = [item for item in given if _holds_scores(item)]
            evaluations = load_evaluations(one_split, graph, _find_sources(given, options, store.header))
            all_splits = load_all_splits([item for item in given if item not in one_split], graph)
            changed = [line for e in evaluations if (line := find_changes(e.scores, e.label, store))]
            led = graph.find_upstream(run for item in given if (run := find_run(item)))
            prepared, own = read_run(context.data), read_run(context.out)
            used = {run.record["data"].get("fingerprint") for run in led if "data" in run.record}
            splits = list(dict.fromkeys(e.source.split for e in evaluations))
            contents = Contents(
                title=options.title or f"Action recognition on {store.header.name}, {describe_splits(splits)}",
                splits=splits,
                evaluations=evaluations,
                all_splits=all_splits,
                table=_load_table(context, store.header.name),
                trainings=load_trainings(led),
                stages=[describe_stage(run, context.workspace.root) for run in ([prepared] if prepared else []) + led],
                warnings=[*find_warnings(evaluations, same_data=used <= {store.fingerprint}), *changed],
                recipes=list_recipes(led),
                fingerprint=own.record.get("fingerprint", "") if own else "",
                samples=options.samples,
            )
            contents = replace(contents, inside=_look_inside(contents, options.inside, graph, store, context))
            write_report(context.out / "report.html", contents, store)
        context.progress.say(f"report: {context.out / 'report.html'}")
        table = [
            {"name": e.label} | {key: e.metrics[key] for key in ("accuracy", "interval", "videos")} for e in evaluations
        ]
        table += [
            {"name": a.label} | {key: a.metrics[key] for key in ("accuracy", "interval", "splits")} for a in all_splits
        ]
        return Result(outputs={"report": "report.html"}, values={"table": table})


def _look_inside(
    contents: "Contents", videos: int, graph: RunGraph, store: "Store", context: Context
) -> "InsideSection | None":
    """Look inside the page's main network, on videos that it was tested on; None if it has no gates."""
    from stmn.report.gate_pictures import draw_gates
    from stmn.report.inside import InsideSection
    from stmn.stages.inside import look_at_model

    main = contents.main
    if not videos or main is None or main.role != "fused":
        return None
    tested = [run for run in graph.runs if run.record.get("fingerprint") in main.tested and run.makes("model")]
    if len(tested) != 1 or tested[0].record.get("options", {}).get("fusion") == "none":
        return None
    known = [video for i in main.scores.ids if (video := store.videos.get(i)) and video.status == "ok"]
    try:
        path = tested[0].verified_output("model")
        found = look_at_model(path, store, lambda given: known, videos, context.device, context.workspace)
    except StmnError as error:
        context.progress.say(f"{error}; the page is made without a look inside")
        return None
    return InsideSection(main.label, found, draw_gates(found.maps, store))


def _fill_newest_evaluations(options: ReportOptions, workspace: Workspace) -> ReportOptions:
    """Fill in the newest evaluations of the data set and split; after a sweep, those that its own report shows.

    Raises:
        DataError: there are none.
    """
    data = workspace.find_data(options.data).name
    graph = RunGraph(workspace.runs())
    splits = list(dict.fromkeys((options.split or "1", "all")))
    given = [run for split in splits for run in find_newest_evaluations(graph, data, split)]
    if not given:
        begun = find_unfinished(graph, data, splits[0])
        why = f" ({begun.label}: {begun.record.get('status', 'not started')})" if begun else ""
        command = workspace.command("evaluate", data=options.data or data, split=splits[0])
        raise DataError(f"no finished evaluation of data set {data}, split {splits[0]}{why}; make one with: {command}")
    newest = max(given, key=lambda run: run.record.get("started", 0))
    if options.split is None and options.table is None and (rows := find_rows(graph, newest)):
        table, given = rows
        options = options.model_copy(update={"table": str(table.path)})
    return options.model_copy(update={"evaluations": [str(run.path) for run in given]})


def _load_table(context: Context, data: str) -> dict[str, Any] | None:
    """The table of methods, if one was named. Raises `DataError` if it is of another data set, or not a table."""
    item = context.input("table")
    if item is None:
        return None
    table = read_json(item.path)
    if not isinstance(table, dict) or not isinstance(table.get("rows"), list):
        raise DataError(f"{item.label}: is no table of methods; make one with: stmn table")
    if table.get("data") != data:
        raise DataError(f"{item.label}: is of data set {table.get('data')}, not of {data}; name a table of this set")
    return table


def _holds_scores(item: Input) -> bool:
    """True for scores; False for an evaluation of all splits, which has only metrics."""
    return item.path.suffix != ".json"


def _read_data_set(item: Input) -> str:
    """The data set that an evaluation's record names; empty if it names none."""
    from stmn.evaluation.agreement import read_source
    from stmn.evaluation.scores import load_scores

    if _holds_scores(item) and (said := read_source(load_scores(item.path).protocol, item.label).data):
        return said
    record = run.record if (run := find_run(item)) else {}
    return str(record.get("data", {}).get("name") or record.get("options", {}).get("data") or "")


def _find_sources(given: list[Input], options: ReportOptions, header: "Header") -> "list[Source]":
    """The data set, split and part that each scores file is of.

    Raises:
        DataError: one is of another data set, split or list of classes, or an evaluation of all splits is of another
            set.
    """
    from stmn.evaluation.agreement import check_source, refuse_data
    from stmn.evaluation.scores import load_scores

    for item in given:
        if not _holds_scores(item) and (name := _read_data_set(item)) and name != header.name:
            raise refuse_data(item.label, name, header)
    split = None if options.split == "all" else options.split
    return [check_source(load_scores(i.path), i.label, header, split) for i in given if _holds_scores(i)]
