"""The configurations of the networks that a recipe trains, and of those in model files; nothing is trained."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stmn import registry
from stmn.errors import DataError, MissingWeights, StmnError, UsageError, near_match
from stmn.options.base import StageOptions
from stmn.options.fuse import FuseOptions
from stmn.options.train_stream import TrainStreamOptions
from stmn.recipe.content import Recipe, with_shared
from stmn.recipe.load import load_recipe
from stmn.recipe.validation import find_seen_validation
from stmn.runtime.hub import is_hub_name
from stmn.stages import find_stage
from stmn.stages.fuse import fill_defaults as fill_fuse_defaults
from stmn.stages.fuse import fused_config
from stmn.stages.inside import look_at as look_at  # cli imports stages only through this room
from stmn.stages.networks import check_network, is_model, read_network
from stmn.stages.train_stream import choose_start, fill_defaults, stream_config
from stmn.stages.training import check_processes
from stmn.workspace import Workspace

if TYPE_CHECKING:
    from stmn.stages.networks import NetworkConfig, StreamConfig

#: assumed number of classes until the data is prepared
_SOME_CLASSES = 2


def network_of_model(path: Path) -> tuple[str, "NetworkConfig"]:
    """Name and configuration of the network in a model file. Raises `CheckpointError`."""
    return str(path), read_network(path)


def network_of_recipe(name: str, stage_id: str | None, classes: int) -> tuple[str, "NetworkConfig"]:
    """Name and configuration of the network that a stage of a recipe trains.

    Args:
        stage_id: the stage; None for the last one that trains a network.
        classes: how many classes the network has; in a run its data decides.

    Raises:
        UsageError: the recipe trains no network, or has no such stage.
        DataError: its streams don't fit.
    """
    recipe = load_recipe(name)
    found = dict(networks_of(recipe, {}, classes))
    if not found:
        raise UsageError(f"{recipe.path}: trains no network")
    if stage_id is not None and stage_id not in found:
        raise UsageError(
            f"{recipe.path}: stage '{stage_id}' trains no network{near_match(stage_id, found)}; "
            f"these do: {', '.join(found)}"
        )
    chosen = stage_id or list(found)[-1]
    return f"{recipe.name}, {chosen}", found[chosen]


def check_recipe(
    recipe: Recipe, options: dict[str, StageOptions] | None = None, processes: int = 1, until: str | None = None
) -> None:
    """Find what would stop a recipe halfway.

    That is: missing weights and files, streams that can't be tied or validated, more processes than micro-batches.

    Args:
        options: the options of stages by id, if they are not those of the recipe alone.
        processes: how many processes of torchrun train together.
        until: the id of the last stage to look at.

    Raises:
        UsageError: all mistakes, one line each; missing ImageNet weights of all stages share one line.
    """
    given, absent = options or {}, list[str]()
    wrong: list[str] = []
    for number, stage in enumerate(recipe.up_to(until), 1):
        where = f"{recipe.path}: stage {number} ('{stage.id}')"
        own = given.get(stage.id) or _options_of(recipe, stage.id)
        try:
            find_stage(stage.uses).check_options(own)
        except MissingWeights as error:
            absent += error.archs
        except StmnError as error:
            wrong.append(f"{where}: {error}")
        wrong += [f"{where}: {mistake}" for mistake in _find_late_mistakes(own, recipe, processes)]
    every = {stage.id: given.get(stage.id) or _options_of(recipe, stage.id) for stage in recipe.stages}
    wrong += [f"{recipe.path}: stage '{stage_id}' {text}" for stage_id, text in find_seen_validation(every)]
    if absent:
        wrong.append(f"{recipe.path}: {MissingWeights(*dict.fromkeys(absent))}")
    if not wrong:
        try:
            checked: list[NetworkConfig] = []
            for _, network in networks_of(recipe, given, _SOME_CLASSES):
                if network not in checked:
                    check_network(network)
                    checked.append(network)
        except StmnError as error:
            wrong.append(f"{recipe.path}: {error}")
    if wrong:
        raise UsageError(*wrong)


def _find_late_mistakes(options: StageOptions, recipe: Recipe, processes: int) -> Iterator[str]:
    """Mistakes that a stage would notice only when it starts, perhaps days after the recipe did."""
    if isinstance(options, TrainStreamOptions | FuseOptions):
        try:
            check_processes(complete_training(options), processes)
        except UsageError as error:
            yield str(error)
    for name in options.inputs():
        for value in options.named(name):
            is_file = Path(value).suffix == ".safetensors" and all(value != stage.id for stage in recipe.stages)
            if is_file and not Path(value).is_file():
                yield f"{name} = '{value}': no such file"


def complete_training(options: TrainStreamOptions | FuseOptions) -> TrainStreamOptions | FuseOptions:
    """Fill in the defaults of a training that don't depend on the workspace."""
    return fill_defaults(options) if isinstance(options, TrainStreamOptions) else fill_fuse_defaults(options)


def _options_of(recipe: Recipe, stage_id: str) -> StageOptions:
    """The options of a stage as the recipe gives them."""
    stage = next(stage for stage in recipe.stages if stage.id == stage_id)
    return stage.options(**with_shared(stage.given, stage.options, recipe.shared))


def networks_of(recipe: Recipe, given: dict[str, StageOptions], classes: int) -> Iterator[tuple[str, "NetworkConfig"]]:
    """Yield (id of the stage, network) for each network that a recipe trains, in order."""
    found: dict[str, NetworkConfig] = {}
    newest: dict[str, NetworkConfig] = {}
    names = [str(number) for number in range(1, classes + 1)]
    for stage in recipe.stages:
        options = given.get(stage.id) or _options_of(recipe, stage.id)
        if isinstance(options, TrainStreamOptions):
            start = _start_of(options, found)
            found[stage.id] = stream_config(fill_defaults(options), names, start)
            newest[found[stage.id].streams[0].name] = found[stage.id]
        elif isinstance(options, FuseOptions):
            streams = [
                _stream_of(value, which, found, newest)
                for which, value in (("appearance", options.appearance), ("motion", options.motion))
            ]
            # the classes of a stream that is not trained yet are unknown: take those of the other one
            known = next((stream.classes for stream in streams if stream.classes != names), names)
            appearance, motion = (
                stream.model_copy(update={"classes": known}) if stream.classes == names else stream
                for stream in streams
            )
            found[stage.id] = fused_config(options, appearance, motion)
        else:
            continue
        yield stage.id, found[stage.id]


def _start_of(options: TrainStreamOptions, found: dict[str, "NetworkConfig"]) -> "StreamConfig | None":
    """The trained stream that a stream starts from: an earlier stage's or a model file's; None for other weights."""
    for given in options.named("weights"):
        if given in found:
            return choose_start(found[given], options, given)
        if registry.offers("weights", given):
            path = find_stage("train-stream").find_input(options, "weights", given, Workspace(Path())).path
            return choose_start(read_network(path), options, given) if is_model(path) else None
        if is_hub_name(given) or (path := Path(given)).is_dir() or is_model(path):
            path = Workspace(Path()).find_model(given)
            return choose_start(read_network(path), options, given) if is_model(path) else None
    return None


def _stream_of(
    given: str | None, which: str, found: dict[str, "NetworkConfig"], newest: dict[str, "NetworkConfig"]
) -> "NetworkConfig":
    """The stream that a fuse stage ties: an earlier stage's, a model file's, or the recipe's newest."""
    if given is None:
        if which not in newest:
            raise DataError(f'the recipe trains no {which} stream that could be tied; name one: {which} = "FILE"')
        return newest[which]
    return found[given] if given in found else read_network(Workspace(Path()).find_model(given))
