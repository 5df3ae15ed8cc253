"""The `[sweep]` table of a recipe: what is varied, and the row of the results that others are compared with.

[sweep]
seed = [0, 1, 2]                 # every stage that has a seed; split likewise, or split = "all"
against = "test-motion"          # the row that the others are compared with

[sweep.fused]                    # options of one stage: lists are crossed
fusion = ["multiply", "add"]

[[sweep.fused]]                  # or variants, each with a label and its options
label = "direct +"
fusion = "add"
site = "direct"
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from stmn.errors import near_match
from stmn.options.base import DataOptions, StageOptions, find_outside, format_value, mistakes
from stmn.stages.base import find_unknown_plugins

#: keys of [recipe] that can be swept
SHARED = ("seed", "split")
#: more than anyone writes by hand, and few enough to be checked in seconds
MOST_STAGES = 1000
#: the value of `split` that stands for every split of the prepared set
ALL = "all"

#: a stage's options model, and its values without the sweep
Known = tuple[type[StageOptions], dict[str, Any]]


@dataclass(frozen=True)
class Axis:
    """One thing that is varied.

    Attributes:
        name: `seed`, `split`, an option (`fusion`, or `fused.lr` if several stages vary their `lr`), or the id of a
            stage that has variants.
        stage: the id of the stage whose options these are; empty if all stages that have the option share them.
        values: label of each value in ids -> the options that it sets.
        variants: its values are named combinations of options.
    """

    name: str
    stage: str
    values: dict[str, dict[str, Any]]
    variants: bool = False

    def describe(self, label: str) -> str:
        """A value as it stands in an id: `fusion=add`, or the label of a variant."""
        return label if self.variants else f"{self.name}={label}"


@dataclass(frozen=True)
class Sweep:
    """A `[sweep]` table without mistakes.

    Attributes:
        axes: the axes of stages in the order of the file, then seed, then split.
        against: the row of the table that others are compared with; None for no comparison.
        all_splits: the split axis is all splits of the prepared set, which are not known yet.
    """

    axes: list[Axis] = field(default_factory=list)
    against: str | None = None
    all_splits: bool = False

    @property
    def over_splits(self) -> bool:
        """True if splits are varied."""
        return self.all_splits or any(axis.name == "split" for axis in self.axes)


def read_sweep(table: Any, stages: Mapping[str, Known]) -> tuple[Sweep | None, list[str]]:
    """Check a `[sweep]` table.

    Args:
        table: the table as the file has it; None if it has none.
        stages: the recipe's stages by id.

    Returns:
        The sweep, None if there is none or it is wrong; and its mistakes, one line each.
    """
    if table is None:
        return None, []
    if not isinstance(table, dict):
        return None, ["[sweep] is not a table"]
    wrong: list[str] = []
    axes: list[Axis] = []
    for key, value in table.items():
        if key == "against":
            wrong += [] if isinstance(value, str) and value else ["[sweep] against: must be the name of a row"]
        elif isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
            if key not in stages:
                wrong.append(f"[sweep.{key}] no stage has this id{near_match(key, stages)}")
                continue
            known = stages[key]
            found, errors = (
                _read_options(key, value, *known) if isinstance(value, dict) else _read_variants(key, value, *known)
            )
            axes += found
            wrong += errors
        elif key not in SHARED:
            near = near_match(key, ("against", *SHARED, *stages))
            hint = f"; options of a stage go into [sweep.{key}]" if key in stages else ""
            wrong.append(f"[sweep] unknown key '{key}'{near}{hint}")
    for key in SHARED:
        value = table.get(key)
        if value is None or isinstance(value, dict) or (key == "split" and value == ALL):
            continue
        if not any(key in model.model_fields for model, _ in stages.values()):
            wrong.append(f"[sweep] {key}: no stage has this option")
        hint = ', or "all"' if key == "split" else ""
        values, errors = _read_list("[sweep]", key, value, DataOptions, {}, hint)
        wrong += errors
        axes.append(Axis(key, "", values))
    counts = [axis.name for axis in axes]
    axes = [
        Axis(f"{axis.stage}.{axis.name}", axis.stage, axis.values) if counts.count(axis.name) > 1 else axis
        for axis in axes
    ]
    return (None if wrong else Sweep(axes, table.get("against"), table.get("split") == ALL)), wrong


def _read_options(
    stage_id: str, table: dict[str, Any], model: type[StageOptions], given: dict[str, Any]
) -> tuple[list[Axis], list[str]]:
    """The axes of a stage whose lists are crossed, and their mistakes."""
    where, axes, wrong = f"[sweep.{stage_id}]", list[Axis](), list[str]()
    for key, value in table.items():
        if lines := find_unknown(where, key, model):
            wrong += lines
            continue
        values, errors = _read_list(where, key, value, model, given)
        wrong += errors
        axes.append(Axis(key, stage_id, values))
    return axes, wrong


def _read_list(
    where: str, key: str, value: Any, model: type[StageOptions], given: dict[str, Any], or_else: str = ""
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Label -> the option with that value, and the mistakes in them."""
    if not isinstance(value, list) or not value:
        what = "is an empty list" if value == [] else f"must be a list of values{or_else}"
        return {}, [f"{where} {key} = {format_value(value)}: {what}"]
    if len(value) > MOST_STAGES:
        return {}, [f"{where} {key}: has {len(value):,} values; a sweep makes {MOST_STAGES:,} stages at most"]
    wrong = [line for item in value for line in find_mistakes(where, {key: item}, model, given)]
    values: dict[str, dict[str, Any]] = {}
    for item in value:
        label = item if isinstance(item, str) else format_value(item)
        if label in values:
            wrong.append(f"{where} {key}: has {format_value(item)} twice")
        values[label] = {key: item}
    return values, wrong


def _read_variants(
    stage_id: str, tables: list[Any], model: type[StageOptions], given: dict[str, Any]
) -> tuple[list[Axis], list[str]]:
    """The axis of a stage that has variants, and their mistakes."""
    values: dict[str, dict[str, Any]] = {}
    wrong: list[str] = []
    if len(tables) > MOST_STAGES:
        return [], [f"[[sweep.{stage_id}]] {len(tables):,} variants; a sweep makes {MOST_STAGES:,} stages at most"]
    for number, table in enumerate(tables, 1):
        where = f"[[sweep.{stage_id}]] {number}"
        if not isinstance(table, dict):
            wrong.append(f"{where}: is not a table")
            continue
        options = dict(table)
        label = options.pop("label", None)
        if not isinstance(label, str) or not label.strip():
            wrong.append(f'{where}: needs a name of its own: label = "..."')
            continue
        where = f"{where} ('{label}')"
        if label in values:
            wrong.append(f"{where}: another variant has this label")
        if twin := next((other for other, those in values.items() if those == options), None):
            wrong.append(f"{where}: has the same options as '{twin}'")
        unknown = [line for key in options for line in find_unknown(f"{where}:", key, model)]
        known = {key: value for key, value in options.items() if not find_unknown("", key, model)}
        wrong += unknown + find_mistakes(f"{where}:", known, model, given)
        values[label] = options
    return [Axis(stage_id, stage_id, values, variants=True)], wrong


def find_unknown(where: str, key: str, model: type[StageOptions]) -> list[str]:
    """A list of one line if a stage has no such option, else empty."""
    keys = {option.key for option in model.described().values()}
    if key in keys:
        return []
    if key in model.renamed:
        return [f"{where} option '{key}' is called '{model.renamed[key]}' now"]
    return [f"{where} unknown option '{key}'{near_match(key, keys)}"]


def find_mistakes(where: str, options: dict[str, Any], model: type[StageOptions], given: dict[str, Any]) -> list[str]:
    """One line for each of `options` with a value that the stage refuses; contradictions are found later."""
    wrong = [line.replace(f"{where}: ", f"{where} ", 1) for line in find_outside(model, options, where)]
    try:
        built = model(**given | options)
    except ValidationError as error:
        lines = mistakes(error, model, where, only=set(options))
        return wrong + [line.replace(f"{where}: ", f"{where} ", 1) for line in lines]
    names = tuple(f"{option.name}: " for option in model.described().values() if option.key in options)
    return wrong + [f"{where} {line}" for line in find_unknown_plugins(built) if line.startswith(names)]
