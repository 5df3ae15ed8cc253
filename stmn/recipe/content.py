"""The content of a recipe: its stages, what they share, and its sweep."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stmn.errors import UsageError, near_match
from stmn.options import options_of
from stmn.options.base import StageOptions
from stmn.recipe.sweep import Sweep

#: the most instances of a sweep that a message lists
_MOST_LISTED = 20


@dataclass(frozen=True)
class RecipeStage:
    """One `[[stage]]` table, or one instance of it in a sweep.

    Attributes:
        id: the name by which later stages read its output; an instance adds its values: `fused[fusion=add, seed=1]`.
        uses: its verb.
        given: its options as given.
        of: for an instance, the id of its `[[stage]]` table.
        axes: for an instance, its value on each axis of the sweep that decides its result.
    """

    id: str
    uses: str
    given: dict[str, Any]
    of: str = ""
    axes: dict[str, str] = field(default_factory=dict)

    @property
    def options(self) -> type[StageOptions]:
        """The options model of its verb."""
        return options_of(self.uses)


@dataclass(frozen=True)
class Recipe:
    """A recipe without mistakes.

    Attributes:
        shared: what `[recipe]` sets for all stages: seed, data, split.
        sweep: its `[sweep]` table, from which `expand` makes instances of the stages.
    """

    name: str
    shared: dict[str, Any]
    stages: list[RecipeStage]
    path: Path
    sweep: Sweep | None = None

    def up_to(self, until: str | None) -> list[RecipeStage]:
        """The stages up to and including one, with all its instances. Raises `UsageError` if there is no such stage.

        Args:
            until: its id; None for all stages.
        """
        called = [number for number, stage in enumerate(self.stages, 1) if until in (None, stage.id, stage.of)]
        if not called:
            ids = list(dict.fromkeys(stage.of or stage.id for stage in self.stages))
            raise UsageError(f"{self.path}: no stage '{until}'{near_match(str(until), ids)}; it has {', '.join(ids)}")
        return self.stages[: called[-1]]

    def stage(self, verb: str, stage_id: str | None = None) -> RecipeStage:
        """The stage with an id, or the only stage of a verb. Raises `UsageError` if none or several fit."""
        found = [s for s in self.stages if s.uses == verb and stage_id in (None, s.id)]
        ids = [s.id for s in self.stages if s.uses == verb]
        listed = ", ".join(ids[:_MOST_LISTED]) + (f", and {len(ids) - _MOST_LISTED} more" * (len(ids) > _MOST_LISTED))
        if not found:
            what = f"stage '{stage_id}'{near_match(stage_id, ids)}" if stage_id else "stage"
            raise UsageError(f"{self.path}: no {verb} {what}" + (f"; it has {listed}" if ids else ""))
        if len(found) > 1:
            raise UsageError(f"{self.path}: several {verb} stages: choose one with --stage: {listed}")
        return found[0]


def with_shared(given: dict[str, Any], model: type[StageOptions], shared: dict[str, Any]) -> dict[str, Any]:
    """The recipe's shared values, overridden by the stage's own; `data` is the `out` of `prepare`."""
    values = {key: value for key, value in shared.items() if key in model.model_fields}
    if "out" in model.model_fields and "data" in shared:
        values["out"] = shared["data"]
    return values | given
