"""A recipe with a sweep as an ordinary list of stages: instances of each stage, joins of folds, and the table."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import Any

from pydantic import ValidationError

from stmn.errors import UsageError, near_match
from stmn.options.base import mistakes
from stmn.recipe.content import Recipe, RecipeStage, with_shared
from stmn.recipe.rows import TEST, find_rows
from stmn.recipe.sweep import ALL, MOST_STAGES, SHARED, Axis, Sweep
from stmn.stages.table import BOX_SHAPES

#: the value of `stream_weights` that chooses them when folds are joined
BY_FOLDS = "folds"
#: stages that show what others made: they have no axes, and read all instances
_GATHER = ("table", "report", "calibrate")
#: stage -> groups of inputs; in a sweep one of each must be named, as the newest run could be any instance
_NAMED = {
    "fuse": (("appearance",), ("motion",)),
    "evaluate": (("model", "late_fusion", "join"),),
    "fuse-idt": (("scores", "model"),),
    "export": (("model",),),
}


def expand(recipe: Recipe, splits: Sequence[str] = (), folds: bool = True) -> Recipe:
    """Expand a recipe's sweep into instances of its stages.

    A stage depends on its own axes, on seed and split if it has such an option and doesn't set it itself, and on the
    axes of the stages that its inputs name, and on nothing else, so a stream is trained once for all fusions.
    Evaluations of folds get one more instance, which joins them: `test[seed=1, split=all]`.

    Args:
        recipe: a recipe; without a sweep it stays as it is.
        splits: the splits of the prepared set, for `split = "all"`; while they are unknown, one stands for all.
        folds: the splits are folds, so that their scores can be joined.

    Raises:
        UsageError: instances have mistakes, one line each.
    """
    sweep = recipe.sweep
    if sweep is None:
        return recipe
    unknown = sweep.all_splits and not splits
    if sweep.all_splits:
        values = {split: {"split": split} for split in splits or ("1",)}
        sweep = replace(sweep, axes=[*sweep.axes, Axis("split", "", values)], all_splits=False)
    swept = {axis.name for axis in sweep.axes if not axis.stage}
    shared = {key: value for key, value in recipe.shared.items() if key not in swept}
    expanded = _Expansion(replace(recipe, shared=shared), sweep, folds, unknown).run()
    return replace(recipe, shared=shared, stages=expanded, sweep=None)


class _Expansion:
    """One pass over the stages of a recipe.

    Attributes:
        made: the instances of each stage by its id.
        scored: stage that tests -> the instances that are shown: joined ones where there are folds.
        wrong: the mistakes found.
        part: the videos that the table's rows are about: `test`, or `validation` if no stage tests test videos.
        rows: the ids of the stages that are rows.
    """

    def __init__(self, recipe: Recipe, sweep: Sweep, folds: bool, splits_unknown: bool) -> None:
        self.recipe, self.sweep, self.folds, self.splits_unknown = recipe, sweep, folds, splits_unknown
        self.made: dict[str, list[RecipeStage]] = {}
        self.scored: dict[str, list[RecipeStage]] = {}
        self.wrong: dict[tuple[str, str], str] = {}
        self.stages: list[RecipeStage] = []
        self.part, self.rows = find_rows(recipe.stages)
        for axis in sweep.axes:
            if any("part" in options for options in axis.values.values()):
                self._refuse(
                    f"[sweep.{axis.stage}] part: can't be swept, as a table is of one part: give it to the stage"
                )

    def run(self) -> list[RecipeStage]:
        """All instances, in the order of the recipe's stages."""
        tests = [stage.id for stage in self.recipe.stages if stage.id in self.rows]
        has_table = any(stage.uses == "table" for stage in self.recipe.stages)
        for stage in self.recipe.stages:
            if stage.uses in _GATHER:
                self.stages.append(self._gather(stage))
            else:
                self._instantiate(stage)
            if not has_table and tests and stage.id == tests[-1]:
                ids = {stage.id for stage in self.recipe.stages}
                name = next(name for name in ("table", "sweep-table", "table-of-the-sweep") if name not in ids)
                self.stages.append(self._gather(RecipeStage(name, "table", {})))
            if len(self.stages) > MOST_STAGES:
                raise UsageError(
                    f"{self.recipe.path}: [sweep] makes more than {MOST_STAGES:,} stages: leave values out, or divide "
                    f"the recipe"
                )
        if self.wrong:
            raise UsageError(*(f"{self.recipe.path}: {line}" for line in self.wrong.values()))
        return self.stages

    def _instantiate(self, stage: RecipeStage) -> None:
        """Add the instances of a stage, and those that join them."""
        instances = sorted(islice(self._instances(stage), MOST_STAGES + 1), key=self._find_place)
        self.made[stage.id] = instances
        self.stages += instances
        if stage.id not in self.rows:
            return
        groups: dict[str, list[RecipeStage]] = {}
        for one in instances if self.folds and self.part == TEST else []:  # held-out videos of folds overlap
            if "split" in one.axes:
                groups.setdefault(self._name(stage.id, one.axes | {"split": ALL}), []).append(one)
        nothing_to_join = len(groups) in (0, len(instances))
        by_folds = {one.id for one in instances if one.given.get("stream_weights") == BY_FOLDS}
        if by_folds and self.part != TEST:
            self._refuse(
                f"stage '{stage.id}': stream_weights = folds needs scores of all folds, and those of held-out videos "
                f"can't be joined: leave it out"
            )
        for one in instances if self.splits_unknown or not nothing_to_join else []:
            if one.id in by_folds:  # a fold alone can't choose them
                del one.given["stream_weights"]
        if nothing_to_join:
            self.scored[stage.id] = instances
            return
        joined = []
        for name, parts in groups.items():
            given = {"join": [one.id for one in parts], "split": ALL}
            given |= {"stream_weights": BY_FOLDS} if parts[0].id in by_folds else {}
            given |= {"seed": parts[0].given["seed"]} if "seed" in parts[0].given else {}
            joined.append(RecipeStage(name, "evaluate", given, stage.id, parts[0].axes | {"split": ALL}))
        self.scored[stage.id] = joined
        self.stages += joined

    def _instances(self, stage: RecipeStage) -> Iterator[RecipeStage]:
        """The instances of a stage, in the order of its own axes, then the shared ones."""
        model = stage.options
        own = [axis for axis in self.sweep.axes if axis.stage == stage.id]
        shared = [
            a for a in self.sweep.axes if not a.stage and a.name in model.model_fields and a.name not in stage.given
        ]
        axes = [*own, *shared]
        for labels in product(*(axis.values for axis in axes)):
            chosen = {axis.name: label for axis, label in zip(axes, labels, strict=True)}
            given = dict(stage.given)
            for axis, label in zip(axes, labels, strict=True):
                given |= axis.values[label]
            named = self._find_inputs(stage, given)
            for taken, inputs in self._match(
                chosen, list(dict.fromkeys(name for names in named.values() for name in names))
            ):
                values = dict(given)
                for key, names in named.items():
                    new = [inputs.get(name, name) for name in names]
                    values[key] = new if isinstance(given[key], list) else new[0]
                found = RecipeStage(self._name(stage.id, taken), stage.uses, values, stage.id, self._sort(taken))
                self._check(found, stage)
                yield found

    def _find_place(self, instance: RecipeStage) -> list[int]:
        """The sort key of an instance: the index of its value on each axis in turn."""
        return [list(a.values).index(instance.axes[a.name]) if a.name in instance.axes else 0 for a in self.sweep.axes]

    def _find_inputs(self, stage: RecipeStage, given: dict[str, Any]) -> dict[str, list[str]]:
        """Key -> names, for each input of a stage that names other stages."""
        found = {}
        for option in stage.options.described().values():
            if option.inputs and (value := given.get(option.key)):
                names = [str(item) for item in value] if isinstance(value, list) else [str(value)]
                if any(name in self.made for name in names):
                    found[option.key] = names
        for choice in _NAMED.get(stage.uses, ()) if self.sweep.axes else ():
            if not any(given.get(key) for key in choice):
                self._refuse(f"stage '{stage.id}': in a sweep it must name its {' or '.join(choice)}")
        return found

    def _match(self, chosen: dict[str, str], names: Sequence[str]) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
        """Combine instances of the named stages whose axes agree with `chosen` and with each other.

        Yields:
            The axes of all of them together, and stage -> id of its instance.
        """
        found: list[tuple[dict[str, str], dict[str, str]]] = [(chosen, {})]
        for name in names:
            if not (instances := self.made.get(name)):
                continue
            by_values: dict[tuple[str, ...], dict[tuple[str, ...], list[RecipeStage]]] = {}
            shared = set(instances[0].axes).intersection(*(one.axes for one in instances))
            longer = []
            for axes, inputs in found:
                common = tuple(key for key in axes if key in shared)
                if common not in by_values:
                    index = by_values[common] = {}
                    for one in instances:
                        index.setdefault(tuple(one.axes[key] for key in common), []).append(one)
                longer += [
                    (axes | one.axes, inputs | {name: one.id})
                    for one in by_values[common].get(tuple(axes[key] for key in common), ())
                    if all(axes.get(key, label) == label for key, label in one.axes.items())
                ]
                if len(longer) > MOST_STAGES:
                    break
            found = longer
        yield from found

    def _sort(self, axes: dict[str, str]) -> dict[str, str]:
        """Axes in the order of the sweep: seed and split last."""
        names = [axis.name for axis in self.sweep.axes]
        return {name: axes[name] for name in sorted(axes, key=names.index)}

    def _name(self, stage_id: str, axes: dict[str, str], without: Sequence[str] = ()) -> str:
        """`fused[fusion=add, seed=1, split=3]`."""
        by_name = {axis.name: axis for axis in self.sweep.axes}
        words = [by_name[name].describe(label) for name, label in self._sort(axes).items() if name not in without]
        return f"{stage_id}[{', '.join(words)}]" if words else stage_id

    def _check(self, instance: RecipeStage, stage: RecipeStage) -> None:
        """Note how an instance's options contradict each other; those of its table are checked already."""
        model = instance.options
        try:
            model(**with_shared(instance.given, model, self.recipe.shared))
        except ValidationError as error:
            for line in mistakes(error, model, f"stage '{instance.id}'"):  # the first instance stands for all like it
                self.wrong.setdefault((stage.id, line.replace(instance.id, "")), line)

    def _refuse(self, line: str) -> None:
        """Note a mistake, once."""
        self.wrong[("", line)] = line

    def _gather(self, stage: RecipeStage) -> RecipeStage:
        """The one instance of a table, calibration or report; it names the instances made so far."""
        given = dict(stage.given)
        named = given.get("evaluations") or list(self.scored)
        shown = [one for name in named for one in self.scored.get(name, [])]
        others = [name for name in named if name not in self.scored]
        if stage.uses == "table":
            if taken := [key for key in ("rows", "seeds") if key in given]:
                self._refuse(
                    f"stage '{stage.id}': a sweep has rows and seeds of its own: leave out {' and '.join(taken)}"
                )
            rows = [self._name(one.of, one.axes, SHARED) for one in shown] + others
            given |= {"evaluations": [*(one.id for one in shown), *others], "rows": rows}
            given["seeds"] = [int(one.axes.get("seed", 0)) for one in shown] + [0] * len(others)
            against = given.pop("against", None) or self.sweep.against
            if against is not None:
                given["against"] = self._find_row(
                    against, dict(zip(rows, [*shown, *[None] * len(others)], strict=True))
                )
        elif stage.uses == "calibrate":
            given |= self._gather_scores(stage.id, given)
        else:
            first = {axis.name: next(iter(axis.values)) for axis in self.sweep.axes if not axis.stage}
            shown = [
                one for one in shown if all(one.axes.get(key, label) in (label, ALL) for key, label in first.items())
            ]
            given["evaluations"] = [*(one.id for one in shown), *others]
            tables = [one.id for one in self.stages if one.uses == "table"]
            if tables and "table" not in given:
                given["table"] = tables[-1]
            if not given["evaluations"]:
                del given["evaluations"]
        return RecipeStage(stage.id, stage.uses, given, stage.id)

    def _gather_scores(self, stage_id: str, given: dict[str, Any]) -> dict[str, Any]:
        """The inputs of a calibration: the first instance of its model, and the first scores of each test."""
        if not given.get("model"):
            self._refuse(f"stage '{stage_id}': in a sweep it must name its model")
        models = self.made.get(str(given.get("model")), [])
        scores = [next(iter(self.scored[name])).id if name in self.scored else name for name in given.get("scores", [])]
        return ({"model": models[0].id} if models else {}) | ({"scores": scores} if scores else {})

    def _find_row(self, wanted: str, rows: dict[str, RecipeStage | None]) -> str:
        """The row that `against` names: by its own name, by its stage if that has one row, or by the model tested."""
        if wanted == BOX_SHAPES:
            if self.part != TEST:
                self._refuse(f"[sweep] against = '{wanted}': it guesses test videos, and all rows are of held-out ones")
            return wanted
        exact = [row for row in rows if row.replace(" ", "") == wanted.replace(" ", "")]
        of_stage = [row for row, one in rows.items() if one and one.of == wanted]
        tested = {stage.id: self._find_tested(stage) for stage in self.recipe.stages}
        of_model = [row for row, one in rows.items() if one and tested.get(one.of) == [wanted]]
        found = exact or of_stage or of_model
        if len(found) > 1:
            self._refuse(f"[sweep] against = '{wanted}': several rows are of it; name one: {', '.join(found)}")
        elif not found:
            known = f"; rows: {', '.join(rows)}" if rows else ""
            self._refuse(f"[sweep] against = '{wanted}': no such row{near_match(wanted, rows)}{known}")
        return found[0] if found else wanted

    def _find_tested(self, stage: RecipeStage) -> list[str]:
        """The names of all stages that a stage's inputs name."""
        return [name for names in self._find_inputs(stage, stage.given).values() for name in names]
