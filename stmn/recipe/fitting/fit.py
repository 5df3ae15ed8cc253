"""Look at clips and the machine, choose, measure, and write the recipe: what `stmn init` and `stmn train` share."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stmn.errors import UsageError, count_of
from stmn.options.base import build_options
from stmn.options.fitting import FittingOptions
from stmn.options.prepare import PrepareOptions
from stmn.recipe.expand import expand
from stmn.recipe.fitting.choose import (
    APPEARANCE_CHUNKS,
    NAMED_GROUPS,
    Choice,
    Chosen,
    Machine,
    choose,
    choose_bound,
    shorten_recipe,
)
from stmn.recipe.fitting.duration import Duration, StepTimes, estimate
from stmn.recipe.fitting.text import write_text
from stmn.recipe.load import load_recipe
from stmn.recipe.networks import check_recipe, networks_of
from stmn.runtime.progress import Progress
from stmn.stages import workload
from stmn.stages.base import find_unknown_plugins
from stmn.stages.clips import Clips, find_dataset, look_at_clips, measure_motion


@dataclass(frozen=True)
class Fitted:
    """A recipe for some clips.

    Attributes:
        clips: what was found.
        chosen: what was chosen.
        duration: how long it takes here.
        machine: where.
    """

    clips: Clips
    chosen: Chosen
    duration: Duration
    machine: Machine

    def lines(self) -> Iterator[Choice]:
        """What was found and chosen, one line each."""
        clips = self.clips
        groups = f", {count_of(len(clips.groups), 'group')}" if clips.groups else ", no groups"
        yield Choice("clips", f"{len(clips.entries):,}", f"{count_of(len(clips.classes), 'class', 'classes')}{groups}")
        sizes, (width, height) = len(clips.sizes), clips.sizes[0][0]
        more = f"and {count_of(sizes - 1, 'other size')}; " if sizes > 1 else ""
        lengths = f"{clips.lengths[0]} to {clips.lengths[-1]} frames" if clips.lengths else "lengths unknown"
        yield Choice("pixels", f"{width}x{height}", f"{more}{lengths}")
        if clips.unreadable:
            names = ", ".join(repr(name) for name in clips.unreadable[:3])
            yield Choice("unreadable", str(len(clips.unreadable)), f"left out: {names}")
        if rare := sorted(name for name, count in clips.classes.items() if count == 1):
            names = ", ".join(repr(name) for name in rare[:3])
            yield Choice("one clip", str(len(rare)), f"no network that is tested on {names} has seen the class")
        yield Choice("machine", self.machine.device, count_of(self.machine.cores, "core"))
        yield from self.chosen.reasons.values()


def fit_recipe(asked: FittingOptions, name: str, device: str, progress: Progress) -> Fitted:
    """Choose a recipe for a folder of clips and this machine.

    Args:
        asked: what the user has decided.
        name: name of the prepared set.
        device: `auto`, `cpu` or `cuda`.
        progress: shows how far reading and measuring have got.

    Raises:
        UsageError: the clips are all of one class, or can't be opened, or an option doesn't fit.
        DataError: there is no such folder, or it holds no clips in folders of classes.
        MissingExtra: the flow plugin needs a package that is not installed.
    """
    if wrong := find_unknown_plugins(asked):
        raise UsageError(*wrong)
    options = prepare_options(asked)
    clips = look_at_clips(options, progress)
    machine = look_at_machine(device)
    chosen = choose(clips, machine, asked, name, options.dataset)
    motion = measure_motion(clips, prepare_options(asked, short_side=chosen.short_side, fps=chosen.fps), progress)
    chosen = choose_bound(chosen, motion, asked)
    steps = measure_steps(chosen, str(asked.videos), device, progress)
    duration = estimate(chosen, clips, motion, steps, machine.cores)
    for form in shorten_recipe(chosen, clips, asked):
        if duration.seconds <= 60 * asked.minutes:
            break
        chosen, duration = form, estimate(form, clips, motion, steps, machine.cores)
    return Fitted(clips, chosen, duration, machine)


def prepare_options(asked: FittingOptions, **more: Any) -> PrepareOptions:
    """The options of `prepare` for the clips."""
    values: dict[str, Any] = {"videos": asked.videos, "flow": asked.flow, "dataset": find_dataset(asked.videos)}
    if values["dataset"] in NAMED_GROUPS:
        values["dataset_options"] = {"group_pattern": asked.group_pattern}
    given = {key: value for key, value in more.items() if value is not None}
    built = build_options(PrepareOptions, values | given, "clips")
    assert isinstance(built, PrepareOptions)
    return built


def look_at_machine(device: str) -> Machine:
    """This machine. Raises `UsageError` if there is no such device."""
    from stmn.runtime.cores import count_cores

    name, is_gpu = workload.name_device(device)
    return Machine(
        name, is_gpu, count_cores(), workload.list_imagenet(("resnet18", "resnet50")), workload.list_installed()
    )


def measure_steps(chosen: Chosen, videos: str, device: str, progress: Progress) -> StepTimes:
    """Time a training step of each network of a recipe. Raises `UsageError` if something would stop it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fitted.toml"
        path.write_text(write_text(chosen, videos, [], report=False), encoding="utf-8")
        try:
            recipe = load_recipe(str(path))
            splits = [str(number) for number in range(1, chosen.folds + 1)]
            check_recipe(expand(recipe, splits))  # as `run` does: missing weights, sizes that don't fit
            networks = dict(networks_of(recipe, {}, chosen.classes))
        except UsageError as error:  # leave out this temporary file, which the user never sees
            raise UsageError(*(line.removeprefix(f"{path}: ") for line in error.lines)) from error
    chunks = {"appearance": APPEARANCE_CHUNKS, "motion": chosen.chunks, "fused": chosen.chunks}
    found: dict[str, float] = {}
    with progress.task("steps", len(chunks), "networks") as task:
        for stage, count in chunks.items():
            found[stage] = workload.measure_step(networks[stage], chosen.batch, count, device)
            task.advance()
    return StepTimes(**found)


def can_report() -> bool:
    """True if the packages that a report needs are installed."""
    return all(find_spec(module) is not None for module in ("matplotlib", "jinja2"))
