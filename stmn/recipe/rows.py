"""Choose the stages of a sweep that are rows of its table: tests of test videos, or of held-out ones if all are."""

from collections.abc import Sequence

from stmn.recipe.content import RecipeStage
from stmn.stages import find_stage

#: the part of a split that evaluations test unless they say otherwise
TEST = "test"
#: the videos that training held out
VALIDATION = "validation"


def find_rows(stages: Sequence[RecipeStage]) -> tuple[str, set[str]]:
    """Return the part that a recipe's table shows, `test` or `validation`, and the ids of its rows.

    Scores of other videos, which serve to choose weights or temperatures, are not rows.
    """
    parts = _find_parts(stages)
    shown = VALIDATION if set().union(*parts.values()) == {VALIDATION} else TEST
    return shown, {name for name, own in parts.items() if shown in own or not own}


def _find_parts(stages: Sequence[RecipeStage]) -> dict[str, set[str]]:
    """Stage -> the parts of a split that its scores are of: its own part, or those of the scores that it reads.

    The set is empty if the scores come from a file: their part is unknown.
    """
    found: dict[str, set[str]] = {}
    for stage in stages:
        if "scores" not in find_stage(stage.uses).makes:
            continue
        read: list[str] = []
        for option in stage.options.described().values():
            if "scores" in option.inputs and (value := stage.given.get(option.key)):
                read += [str(name) for name in value] if isinstance(value, list) else [str(value)]
        if "part" in stage.given or not read:
            found[stage.id] = {str(stage.given.get("part") or TEST)}
        else:
            found[stage.id] = set().union(*(found.get(name, set()) for name in read))
    return found
