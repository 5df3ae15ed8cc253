"""The question of a study: a training, the options that are the same in all trials, and the space of the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from stmn.errors import DataError, UsageError, near_match
from stmn.options import options_of
from stmn.options.base import StageOptions, build_options
from stmn.options.flags import write_flags
from stmn.options.training import TrainingOptions
from stmn.recipe.execute import check_stage
from stmn.recipe.plan import StagePlan, plan_stage
from stmn.recipe.tuning.draw import load_optuna
from stmn.recipe.tuning.space import Space, Value, combine, read_space
from stmn.recipe.tuning.study import FOLDER, Study
from stmn.runtime import torchrun
from stmn.runtime.files import digest
from stmn.runtime.names import name_problem
from stmn.runtime.progress import Silent
from stmn.stages.training import count_held_out
from stmn.workspace import Workspace

#: the verbs that can be tuned
VERBS = ("train-stream", "fuse")
#: combinations that are tried, to find one whose options don't contradict each other
_LOOKED_AT = 200


@dataclass(frozen=True)
class Question:
    """The question which values of a space validate best.

    Attributes:
        verb: `train-stream` or `fuse`.
        given: Options that are the same in all trials, by key.
        defaults: Defaults from the settings, which `given` overrides.
        space: What is varied.
        workspace: Where it runs.
    """

    verb: str
    given: Mapping[str, Any]
    defaults: Mapping[str, Any]
    space: Space
    workspace: Workspace

    def options(self, values: Mapping[str, Value]) -> StageOptions:
        """The options of a trial. Raises `UsageError` if they contradict each other."""
        return build_options(options_of(self.verb), {**self.defaults, **self.given, **values}, self.verb)

    def plan(self, values: Mapping[str, Value]) -> StagePlan:
        """A trial with everything resolved. Raises `StmnError`."""
        return plan_stage(self.verb, self.options(values), self.workspace)

    def command(self, values: Mapping[str, Value]) -> str:
        """The command line that trains with some values."""
        return self.workspace.command(self.verb, *write_flags(options_of(self.verb), {**self.given, **values}))


@dataclass(frozen=True)
class Tuning:
    """A question that has been checked, and the study that answers it.

    Attributes:
        question: What is asked.
        study: Its trials.
        held_out: Number of validation videos.
        seed: Seed of the draw: that of the trainings.
    """

    question: Question
    study: Study
    held_out: int
    seed: int


def prepare_tuning(
    verb: str, given: Mapping[str, Any], space: Sequence[str] | Mapping[str, Any], name: str | None,
    workspace: Workspace, defaults: Mapping[str, Any], device: str,
) -> Tuning:  # fmt: skip
    """Check a question before anything is trained or written.

    Args:
        verb: `train-stream` or `fuse`.
        given: Options that are the same in all trials, by key.
        space: What `read_space` takes.
        name: Name of the study; by default the verb and a fingerprint of the question.
        workspace: Where it runs.
        defaults: Defaults of the options, from the settings.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        MissingExtra: Optuna is not installed.
        UsageError: An option or the space is wrong, or no videos are held out for validation.
        StmnError: No trial could run, or the study is damaged.
    """
    load_optuna()
    if verb not in VERBS:
        raise UsageError(f"tune: '{verb}' can't be tuned{near_match(verb, VERBS)}; known: {', '.join(VERBS)}")
    if torchrun.size() > 1:
        raise UsageError("tune: a trial trains in one process: start it without torchrun")
    if name is not None and (fault := name_problem(name)):
        raise UsageError(f"name '{name}': {fault}")
    found = read_space(space, options_of(verb), given)
    below = {key: value for key, value in defaults.items() if key not in found}
    question = Question(verb, given, below, found, workspace)
    values, plan = _find_plan(question)
    held_out = _count_held_out(plan)
    _check_names(question, values)
    check_stage(plan, workspace, Silent(), device)
    # the same in all trials, even if another training ends meanwhile
    inputs = {key: items[0].name for key, items in plan.inputs.items() if key not in found}
    question = Question(verb, {**inputs, **given}, below, found, workspace)
    fixed = {key: value for key, value in plan.identity["options"].items() if key not in found}
    asked = {**plan.identity, "options": fixed, "space": {key: str(one) for key, one in found.items()}}
    study = Study(workspace.root / FOLDER / (name or f"{verb}-{digest(asked)[:8]}"), asked)
    study.load()
    return Tuning(question, study, held_out, plan.identity["options"]["seed"])


def _find_plan(question: Question) -> tuple[dict[str, Value], StagePlan]:
    """The first combination of values whose options don't contradict each other, and its plan. Raises `StmnError`."""
    first: UsageError | None = None
    for values in islice(combine(question.space), _LOOKED_AT):
        try:
            return values, question.plan(values)
        except UsageError as error:
            first = first or error
    assert first is not None
    raise first


def _count_held_out(plan: StagePlan) -> int:
    """The number of validation videos. Raises `UsageError` if there are none."""
    options = plan.options
    assert isinstance(options, TrainingOptions) and plan.data_dir is not None
    if options.validation == 0:
        raise UsageError(
            "validation = 0: tune judges trials on validation videos alone, and this holds none out: leave it out, or "
            "give a share such as --validation 0.2"
        )
    try:
        return count_held_out(options, plan.data_dir)
    except DataError as error:
        raise UsageError(
            f"tune judges trials on validation videos alone, and split {options.split} of {plan.data_dir.name} can "
            f"hold none out: a class would be left without training videos"
        ) from error


def _check_names(question: Question, values: Mapping[str, Value]) -> None:
    """Check that the models, plugins and weights that the space names exist. Raises `StmnError`."""
    described = {option.key: option for option in options_of(question.verb).described().values()}
    for key, one in question.space.items():
        for value in (one.values or ()) if described[key].inputs or described[key].plugin else ():
            try:
                question.options({**values, key: value})
            except UsageError:  # with other values of the other options it may fit
                continue
            question.plan({**values, key: value})
