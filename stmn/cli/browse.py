"""`stmn browse`: a prepared set, a test or a model as pages in a browser."""

import webbrowser
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from stmn.cli.app import command, make_app
from stmn.cli.console import answer, say
from stmn.cli.parameters import WorkspacePath, open_workspace
from stmn.errors import UsageError, count_of

if TYPE_CHECKING:
    from stmn.browse.server import Site
    from stmn.evaluation.scores import Scores
    from stmn.workspace import Run, Workspace

app = make_app()


@command(
    app,
    examples=(
        "stmn browse                      # the prepared set, and its newest test",
        "stmn browse test-fused-1a2b      # the mistakes of a test",
        "stmn browse mine --model fused   # drop clips on the page",
    ),
)
def browse(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA | RUN]", help="a prepared set, or an evaluation by name or folder [default: the only set]"
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="also try this model on clips that you drop on the page")] = None,
    split: Annotated[
        str | None, typer.Option(help="split whose parts are shown [default: that of the evaluation, or 1]")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="port of this machine; 0: any that is free")] = 8765,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="open the page in the browser")] = True,
    workspace: WorkspacePath = None,
) -> None:
    """Look at videos, mistakes and a model in the browser. Only this machine can open the page; Ctrl-C ends it."""
    from stmn.browse.server import Site, serve

    place = open_workspace(workspace)
    site = Site("stmn", "", [])
    with ExitStack() as stack:
        if target or not model or place.prepared():  # a model alone needs no set
            site = _add_set(site, *_find(place, target, split), place, split, stack)
        if model is not None:
            from stmn.browse.clips import Clips
            from stmn.prediction.api import load_model
            from stmn.settings import load_settings

            loaded = load_model(place.find_model(model), load_settings(workspace=workspace).device)
            site = replace(site, clips=stack.enter_context(Clips(loaded)), model=model)
        serve(site, port, lambda address: _announce(address, open_page))


def _add_set(
    site: "Site", data: str, tested: str, scores: "Scores | None", place: "Workspace", split: str | None,
    stack: ExitStack,
) -> "Site":  # fmt: skip
    """Add the videos of a prepared set to a site, with their predictions in a test.

    Raises:
        DataError: the set has no such split.
    """
    from stmn.browse.rows import list_rows
    from stmn.store.format.read import Store
    from stmn.store.inspect.pictures import Pictures

    store = stack.enter_context(Store(place.find_data(data, partial=True)))
    if split is not None:
        store.header.part(split, "test")
    shown = split or (str(scores.protocol.get("split") or "1") if scores else "1")
    rows = list_rows(store, shown, scores)
    classes = {row.video.class_name for row in rows}
    facts = f"{count_of(len(rows), 'video')}, {count_of(len(classes), 'class', 'classes')}, split {shown}"
    facts += f"; predictions of {tested}" if tested else ""
    return replace(site, title=store.header.name, facts=facts, rows=rows, pictures=Pictures(store), tested=tested)


def _announce(address: str, open_page: bool) -> None:
    """Print the address, and open it."""
    answer(address)
    say("only this machine can open it; Ctrl-C ends it")
    if open_page:
        webbrowser.open(address)


def _find(place: "Workspace", target: str | None, split: str | None) -> "tuple[str, str, Scores | None]":
    """The prepared set to show, the name of its test ("" if none), and the test's scores (None if none).

    Raises:
        UsageError: There is neither a set nor an evaluation of that name.
        DataError: There is no set, or there are several and none was named.
    """
    from stmn.evaluation.scores import load_scores
    from stmn.report.sources import find_run

    if target is not None and target not in place.prepared():
        try:
            item = place.find_input(target, "scores")
        except UsageError as error:
            known = ", ".join(place.prepared()) or "none"
            raise UsageError(f"{error}; prepared sets: {known}") from error
        run = find_run(item)
        return _name_of(run, place), item.name, load_scores(item.path)
    data = target or place.find_data(None, "stmn browse NAME", partial=True).name
    run = place.newest("scores", data=data, split=split or "1")
    return data, run.name if run else "", load_scores(run.verified_output("scores")) if run else None


def _name_of(run: "Run | None", place: "Workspace") -> str:
    """The prepared set whose videos a test scored; the only one if the scores don't say."""
    name = run.record.get("data", {}).get("name") if run else None
    if name:
        return str(name)
    return place.find_data(None, "the name of an evaluation of this workspace", partial=True).name
