"""Preview what a recipe would do: every stage is resolved, and nothing is run or written."""

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stmn.errors import DataError, MissingWeights, StmnError, UsageError, count_of
from stmn.options.base import SetOptions, StageOptions
from stmn.options.evaluate import EvaluateOptions
from stmn.options.fuse import FuseOptions
from stmn.options.train_stream import TrainStreamOptions
from stmn.recipe.chain import Overrides, inputs_of, try_expand
from stmn.recipe.content import Recipe, RecipeStage
from stmn.recipe.execute import choose_device_of
from stmn.recipe.networks import check_recipe, complete_training, networks_of
from stmn.recipe.plan import plan_stage
from stmn.stages import workload
from stmn.workspace import Run, Workspace

if TYPE_CHECKING:
    from stmn.stages.networks import NetworkConfig

State = Literal["up to date", "to do", "refused"]


@dataclass
class StagePreview:
    """One stage.

    Attributes:
        id: its id in the recipe.
        verb: its verb.
        of: for an instance in a sweep, the id of its table in the recipe.
        state: `refused` if it could not start.
        run: the folder name of its run, if its inputs exist already.
        what: the network that it trains, or what it reads.
        weights: what a training starts from.
        data: the prepared set.
        split: the split of that set.
        videos: number of videos to learn from, or to test.
        held_out: number of training videos held out for validation.
        parameters: parameters of the network that it trains.
        multiply_adds: multiply-adds of that network for one chunk.
        passes: the most passes over its training list.
        work: multiply-adds of the whole stage, forward and backward; None if unknown.
        seconds: an estimate, from `work` alone.
    """

    id: str
    verb: str
    of: str = ""
    state: State = "to do"
    run: str | None = None
    what: str = ""
    weights: str | None = None
    data: str | None = None
    split: str | None = None
    videos: int | None = None
    held_out: int | None = None
    parameters: int | None = None
    multiply_adds: int | None = None
    passes: float | None = None
    work: float | None = None
    seconds: float | None = None


@dataclass
class Preview:
    """A recipe.

    Attributes:
        stages: its stages, in order.
        refused: what stops it, one line each.
        notes: what is not known yet, one line each.
        processes: processes of torchrun.
        rate: multiply-adds per second of one process, as measured; None if there was nothing to estimate.
        device: what it was measured on.
    """

    stages: list[StagePreview] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    processes: int = 1
    rate: float | None = None
    device: str = ""

    @property
    def work(self) -> float:
        """Multiply-adds of all stages that are still to run, as far as known."""
        return sum(stage.work or 0 for stage in self.stages if stage.state != "up to date")

    @property
    def seconds(self) -> float | None:
        """The estimate for all stages that are still to run; None if there is none."""
        return self.work / self.rate / self.processes if self.rate else None


def preview_recipe(
    recipe: Recipe, workspace: Workspace, overrides: Overrides, device: str = "auto", processes: int = 1,
    until: str | None = None,
) -> Preview:  # fmt: skip
    """Resolve every stage of a recipe.

    Args:
        device: the device that the time is estimated for.
        processes: how many processes of torchrun would run it.
        until: the id of the last stage to look at.

    Raises:
        UsageError: the recipe has no stage `until`, or an option is wrong, or there is no such device.
    """
    over_all = recipe.sweep is not None and recipe.sweep.all_splits
    recipe, known = try_expand(recipe, workspace, overrides)
    stages = recipe.up_to(until)
    preview = Preview(processes=processes)
    look = _Look(recipe, workspace, {stage.id: overrides.options(recipe, stage) for stage in recipe.stages}, preview)
    try:
        check_recipe(recipe, look.options, processes, until)
    except UsageError as error:
        preview.refused += error.lines
    if over_all and not known:
        made = next(stage.id for stage in recipe.stages if stage.uses == "prepare")
        preview.notes.append(f"the number of splits is not known yet: stage '{made}' makes them; one is shown here")
    preview.stages = [look.at(stage) for stage in stages]
    if preview.work:
        preview.rate, preview.device = workload.measure_rate(choose_device_of("train-stream", device))
        for found in preview.stages:
            found.seconds = found.work / preview.rate / processes if found.work is not None else None
    return preview


@dataclass
class _Look:
    """Looks at the stages of a recipe, in order."""

    recipe: Recipe
    workspace: Workspace
    options: dict[str, StageOptions]
    preview: Preview
    runs: dict[str, Run] = field(default_factory=dict)

    def at(self, stage: RecipeStage) -> StagePreview:
        """One stage."""
        options = self.options[stage.id]
        if isinstance(options, TrainStreamOptions | FuseOptions):
            options = complete_training(options)
        found = StagePreview(stage.id, stage.uses, stage.of, **{"what": stage.uses} | self._resolve(stage, options))
        if isinstance(options, SetOptions):
            found.split = getattr(options, "split", None)
            folder = self._find_data(options.data)
            found.data = folder.name if folder else options.data
            try:
                self._measure(found, options, folder)
            except StmnError as error:
                self._refuse(found.id, error)
                found.state = "refused"
        if any(f"('{stage.id}')" in line for line in self.preview.refused):
            found.state = "refused"
        return found

    def _resolve(self, stage: RecipeStage, options: StageOptions) -> dict[str, Any]:
        """State and run of a stage; empty if its inputs are not made yet."""
        named = {value for name in options.inputs() for value in options.named(name)}
        if any(earlier.id in named and earlier.id not in self.runs for earlier in self.recipe.stages):
            return {}  # an input is still to be made, and this stage depends on its content
        if isinstance(options, SetOptions) and self._find_data(options.data) is None:
            return {}
        try:
            plan = plan_stage(stage.uses, options, self.workspace, inputs_of(options, self.runs, self.workspace))
        except StmnError as error:
            # `check_recipe` has reported missing ImageNet weights, and the work is the same
            if isinstance(error, MissingWeights) or self._is_made_earlier(stage, options):
                return {}
            self._refuse(stage.id, error)
            return {"state": "refused"}
        if plan.up_to_date:
            self.runs[stage.id] = plan.run
        return {"state": "up to date" if plan.up_to_date else "to do", "run": plan.run.path.name}

    def _is_made_earlier(self, stage: RecipeStage, options: StageOptions) -> bool:
        """True if an input was not given, and an earlier stage that is still to run may make it."""
        before = self.recipe.stages[: self.recipe.stages.index(stage)]
        return any(earlier.id not in self.runs for earlier in before) and any(
            getattr(options, name) is None for name in options.inputs()
        )

    def _refuse(self, stage_id: str, error: StmnError) -> None:
        """Note what stops a stage, unless it is known already."""
        if not any(str(error) in line for line in self.preview.refused):
            self.preview.refused.append(f"{self.recipe.path}: stage '{stage_id}': {error}")

    def _find_data(self, name: str | None) -> Path | None:
        """The folder of a prepared set; if there is none, None, and the reason is noted."""
        try:
            return self.workspace.find_data(name)
        except DataError as error:
            made = next((stage for stage in self.recipe.stages if stage.uses == "prepare"), None)
            line = f"{error}" if made is None else f"its videos are not counted yet: stage '{made.id}' prepares them"
            where = self.preview.notes if made else self.preview.refused
            if line not in where:
                where.append(line)
            return None

    @cached_property
    def _networks(self) -> dict[str, "NetworkConfig"]:
        """The networks that the recipe trains, as far as they can be built."""
        found: dict[str, NetworkConfig] = {}
        data = next((o.data for o in self.options.values() if isinstance(o, SetOptions)), None)
        folder = self._find_data(data)
        with suppress(StmnError):  # `check_recipe` has said why
            found.update(networks_of(self.recipe, self.options, workload.count_classes(folder) if folder else 2))
        return found

    def _measure(self, found: StagePreview, options: SetOptions, folder: Path | None) -> None:
        """Fill in the network, the numbers of videos, and the work."""
        if isinstance(options, TrainStreamOptions | FuseOptions):
            self._measure_training(found, options, folder)
        elif isinstance(options, EvaluateOptions):
            self._measure_test(found, options, folder)
        else:
            given = [value for name in options.inputs() if name != "table" for value in options.named(name)]
            of = given[0] if len(given) == 1 else count_of(len(given), "evaluation")
            found.what = f"{found.verb} of {of}" if given else found.verb

    def _measure_training(
        self, found: StagePreview, options: TrainStreamOptions | FuseOptions, folder: Path | None
    ) -> None:
        """Fill them in for a training."""
        if isinstance(options, TrainStreamOptions):
            found.what, found.weights = f"{options.arch} {options.modality}", options.weights
        else:
            gates = f"{options.fusion} {options.site}" if options.tied else "no gates"
            found.what = f"{gates}, filters {options.injector}, pool {options.temporal_pool},"
            found.weights = f"{options.appearance or 'the newest'} + {options.motion or 'the newest'}"
        if network := self._networks.get(found.id):
            found.parameters, found.multiply_adds = workload.count_cost(network)
        if folder is None:
            return
        found.videos, found.held_out = workload.count_training_videos(folder, options)
        assert options.batch is not None and options.epochs is not None
        seen = options.steps * options.batch if options.steps else options.epochs * found.videos
        found.passes = seen / found.videos
        if found.multiply_adds is not None:
            found.work = workload.TRAINING_PASSES * found.multiply_adds * options.chunks * seen

    def _measure_test(self, found: StagePreview, options: EvaluateOptions, folder: Path | None) -> None:
        """Fill them in for an evaluation."""
        if options.join:
            found.what, found.split, found.work = f"join of {count_of(len(options.join), 'fold')}", "all", 0.0
            return
        given = options.late_fusion or ([options.model] if options.model else [])
        found.what = f"test of {' + '.join(given) or 'the newest model'}"
        networks = [self._networks[name] for name in given if name in self._networks]
        if folder is None or options.part == "validation":
            return
        size, length = (networks[0].size, networks[0].stack_length) if networks else (224, 10)
        found.split = options.split or self._split_of(given)
        found.videos, pixels = workload.count_test_pixels(folder, options, found.split, size, length)
        if len(networks) == len(given) and given:
            found.work = sum(workload.count_cost(network)[1] / size**2 * pixels for network in networks)
        elif all(any(name == stage.id and stage.uses == "evaluate" for stage in self.recipe.stages) for name in given):
            found.work = 0.0  # scores are only averaged

    def _split_of(self, given: list[str]) -> str:
        """The split of the stages that an evaluation names, for one that sets none itself."""
        splits = [getattr(self.options.get(name), "split", None) for name in given]
        return next((split for split in splits if split), "1")


def describe_preview(preview: Preview) -> dict[str, Any]:
    """A preview as JSON."""
    return {
        "stages": [vars(stage) for stage in preview.stages],
        "refused": preview.refused,
        "notes": preview.notes,
        "processes": preview.processes,
        "estimate": {
            "device": preview.device,
            "multiply_adds_per_second": preview.rate,
            "multiply_adds": preview.work,
            "seconds": preview.seconds,
        },
    }
