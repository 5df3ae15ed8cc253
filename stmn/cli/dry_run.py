"""`stmn run RECIPE --dry-run`: what would be done, as a table of 80 columns or as JSON."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from stmn.errors import count_of

if TYPE_CHECKING:
    from rich.table import Table

    from stmn.recipe.chain import Overrides
    from stmn.recipe.content import Recipe
    from stmn.recipe.preview import Preview, StagePreview
    from stmn.workspace import Workspace

#: width of the id column; longer ids are broken
_ID_WIDTH = 32
_STATES = {"up to date": "done", "refused": "refused", "to do": ""}


def show_preview(
    recipe: "Recipe", workspace: "Workspace", overrides: "Overrides", device: str, processes: int, until: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Print what a recipe would do. Exits with 2 if something would stop it."""
    from stmn.cli.console import answer, answer_json, answers, say_error
    from stmn.recipe.preview import describe_preview, preview_recipe

    preview = preview_recipe(recipe, workspace, overrides, device, processes, until)
    if as_json:
        answer_json({"recipe": recipe.name, **describe_preview(preview)})
    else:
        answers().print(_make_table(recipe.name, preview))
        for line in _summarise(preview, workspace.root):
            answer(line)
    for line in preview.refused:
        say_error(line)
    if preview.refused:
        raise typer.Exit(2)


def _make_table(name: str, preview: "Preview") -> "Table":
    """One row per stage, which stands for all its instances in a sweep; long cells break between words."""
    from rich.table import Table

    splits = {stage.split for stage in preview.stages if stage.split}
    data = {stage.data for stage in preview.stages if stage.data}
    title = name + "".join(f" on {one}" for one in data if len(data) == 1)
    title += "".join(f", split {one}" for one in splits if len(splits) == 1)
    table = Table(title=f"{title}: nothing is run", title_justify="left", box=None, pad_edge=False)
    groups: dict[str, list[StagePreview]] = {}
    for stage in preview.stages:
        groups.setdefault(stage.of or stage.id, []).append(stage)
    longest = max(map(len, groups), default=0)
    table.add_column("stage", width=max(len("stage"), min(longest, _ID_WIDTH)), overflow="fold")
    table.add_column("what", overflow="fold")
    for column in ("videos", "M", "GMACs", "time"):
        table.add_column(column, justify="right", no_wrap=True)
    for stages in groups.values():
        stage, count = stages[0], len(stages)
        words = [_say_what(one, len(splits) > 1 and count == 1) for one in stages]
        if count > 1:
            words = list(dict.fromkeys(_name_tables(text, preview) for text in words))
        what = words[0] + (", ..." if len(words) > 1 else "")
        table.add_row(
            stage.of or stage.id,
            f"{count} x {what}" if count > 1 else what,
            _say_videos(stage),
            f"{stage.parameters / 1e6:.1f}" if stage.parameters else "",
            f"{stage.multiply_adds / 1e9:.2f}" if stage.multiply_adds else "",
            _say_state(stages),
        )
    return table


def _name_tables(text: str, preview: "Preview") -> str:
    """Replace ids of a sweep's instances in a text by the ids of their tables."""
    for stage in preview.stages:
        if stage.of and stage.id in text:
            text = text.replace(stage.id, stage.of)
    return text


def _say_state(stages: "list[StagePreview]") -> str:
    """`done`, `12 done`, `refused`, or the time that the instances still to run will take."""
    states = {stage.state for stage in stages}
    if len(states) == 1 and (word := _STATES[states.pop()]):
        return word
    if any(stage.state == "refused" for stage in stages):
        return _STATES["refused"]
    seconds = [stage.seconds for stage in stages if stage.state == "to do" and stage.seconds is not None]
    done = sum(stage.state == "up to date" for stage in stages)
    return ", ".join(word for word in (f"{done} done" if done else "", say_time(sum(seconds) or None)) if word)


def _say_what(stage: "StagePreview", with_split: bool) -> str:
    """`resnet50 rgb from imagenet; split 1; 60 passes`."""
    parts = [stage.what + (f" from {stage.weights}" if stage.weights else "")]
    if with_split and stage.split and stage.verb != "report":
        parts.append("all splits" if stage.split == "all" else f"split {stage.split}")
    if stage.passes:
        passes = f"{stage.passes:,.0f}" if stage.passes >= 100 else f"{stage.passes:.3g}"
        parts.append(f"{passes} pass{'es' if stage.passes != 1 else ''}")
    return "; ".join(parts)


def _say_videos(stage: "StagePreview") -> str:
    """`8583+954`: videos to learn from, and held out."""
    if stage.videos is None:
        return ""
    return f"{stage.videos}+{stage.held_out}" if stage.held_out else str(stage.videos)


def say_time(seconds: float | None) -> str:
    """`3 d`, `5 h`, `12 min`, or `<1 min`."""
    if seconds is None or seconds == 0:
        return ""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            count = seconds / length
            return f"{count:,.0f} {unit}" if count >= 10 else f"{count:.1f} {unit}"
    return "<1 min"


def _summarise(preview: "Preview", root: Path) -> list[str]:
    """The lines below the table: totals, how the time was estimated, what is not known."""
    done = sum(stage.state == "up to date" for stage in preview.stages)
    lines = [
        "",
        f"{count_of(len(preview.stages), 'stage')}, {done} up to date in {root}.",
        "videos: for training + held out; M: parameters in millions;",
        "GMACs: 10^9 multiply-adds of one chunk of the training size.",
    ]
    if preview.rate:
        together = f" of each of {preview.processes} processes" if preview.processes > 1 else ""
        lines += [
            f"Time: {say_time(preview.seconds)} in all, an estimate: {preview.work:.3g} multiply-adds at the "
            f"{preview.rate:.3g} per",
            f"second{together} that a ResNet-18 reached in training on {preview.device} just now.",
            "Reading, validation and overheads are not in it, and plateau may end earlier.",
        ]
    return lines + preview.notes
