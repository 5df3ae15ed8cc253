"""Two-stream action recognition with multiplicative motion gates and identity temporal filters.

>>> import stmn
>>> stmn.load("fused").predict("video.mp4")        # doctest: +SKIP

The stages of a recipe are functions of the same names, with the same options:

>>> clips = stmn.prepare("videos", short_side=96)                          # doctest: +SKIP
>>> motion = stmn.train_stream(modality="flow", data=clips, steps=400)     # doctest: +SKIP
>>> stmn.evaluate(motion).accuracy                                         # doctest: +SKIP
"""

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast, overload

if TYPE_CHECKING:
    from stmn.prediction.api import Model
    from stmn.recipe.arguments import (
        EvaluateArguments,
        FuseArguments,
        Named,
        PrepareArguments,
        TrainStreamArguments,
    )
    from stmn.recipe.results import Evaluation, PreparedSet, RecipeResult, StageResult, TrainedModel, TuningResult
    from stmn.runtime.device import NamedPrecision
    from stmn.runtime.progress import Progress


__all__ = ["__version__", "evaluate", "fuse", "load", "prepare", "run", "train_stream", "tune"]

__version__ = version("stmn")


def prepare(
    videos: "str | Path | None" = None,
    out: str | None = None,
    *,
    workspace: str | Path | None = None,
    show: bool = True,
    force: bool = False,
    **options: "Unpack[PrepareArguments]",
) -> "PreparedSet":
    """Pack videos into a data set of frames and optical flow, as `stmn prepare` does.

    Args:
        videos: Folder of videos, or file that lists them. Not needed if the data set renders its own.
        out: Name of the prepared set; by default the folder's name.
        workspace: Folder with data/ and runs/. By default the setting of the current folder, or else this folder.
        show: Print messages and draw bars, in a terminal or a notebook.
        force: Run it even if it is up to date.
        options: Options of `prepare`, by the keys of recipes.

    Returns:
        The prepared set; as `data=` of other functions it stands for its name.

    Raises:
        UsageError: An option is wrong.
        DataError: There are no videos, or too many were skipped.
    """
    given = {"videos": videos, "out": out, **options}
    return cast("PreparedSet", _call("prepare", given, workspace, None, show, force))


def train_stream(
    *,
    workspace: str | Path | None = None,
    device: str | None = None,
    show: bool = True,
    force: bool = False,
    **options: "Unpack[TrainStreamArguments]",
) -> "TrainedModel":
    """Train one stream, appearance (rgb) or motion (flow), as `stmn train-stream` does.

    Args:
        workspace: Folder with data/ and runs/. By default the setting of the current folder, or else this folder.
        device: "auto", "cpu" or "cuda". By default the setting of the current folder, or else "auto".
        show: Print messages and draw bars, in a terminal or a notebook.
        force: Run it even if it is up to date.
        options: Options of `train-stream`, by the keys of recipes.

    Returns:
        The trained stream: its file, and what it measured; `stmn.load` takes it, to predict.

    Raises:
        UsageError: An option is wrong.
        DataError: The prepared set, or what it starts from, is missing.
    """
    return cast("TrainedModel", _call("train-stream", options, workspace, device, show, force))


def fuse(
    *,
    workspace: str | Path | None = None,
    device: str | None = None,
    show: bool = True,
    force: bool = False,
    **options: "Unpack[FuseArguments]",
) -> "TrainedModel":
    """Tie two trained streams by gates and temporal filters, and train them end to end, as `stmn fuse` does.

    Arguments, result and errors are those of `train_stream`; `appearance` and `motion` take results of it.
    """
    return cast("TrainedModel", _call("fuse", options, workspace, device, show, force))


def evaluate(
    model: "Named | None" = None,
    *,
    workspace: str | Path | None = None,
    device: str | None = None,
    show: bool = True,
    force: bool = False,
    **options: "Unpack[EvaluateArguments]",
) -> "Evaluation":
    """Test a model on the videos of a split, or average the scores of several, as `stmn evaluate` does.

    Args:
        model: A result, a run's name, or a model file. By default the newest, unless `late_fusion` or `join` is given.
        workspace: Folder with data/ and runs/. By default the setting of the current folder, or else this folder.
        device: "auto", "cpu" or "cuda". By default the setting of the current folder, or else "auto".
        show: Print messages and draw bars, in a terminal or a notebook.
        force: Run it even if it is up to date.
        options: Options of `evaluate`, by the keys of recipes.

    Returns:
        Accuracy with its 95 % interval, and everything else that was measured in `values`.

    Raises:
        UsageError: An option is wrong, or there is no such model.
        DataError: The model has learned from test videos, or the prepared set is missing.
    """
    return cast("Evaluation", _call("evaluate", {"model": model, **options}, workspace, device, show, force))


def run(
    recipe: str | Path,
    *,
    set: Sequence[str] = (),
    data_root: str | Path | None = None,
    data: str | None = None,
    until: str | None = None,
    workspace: str | Path | None = None,
    device: str | None = None,
    show: bool = True,
    force: bool = False,
) -> "RecipeResult":
    """Run all stages of a recipe, as `stmn run` does. Stages that are up to date are skipped.

    Args:
        recipe: A file, or the name of a recipe of the package.
        set: Changes, each "STAGE.KEY=VALUE", or "KEY=VALUE" for all stages that have such a key.
        data_root: Folder of the videos, for the recipe's prepare stage.
        data: Prepared set, instead of the recipe's.
        until: The id of the last stage to run.
        workspace: Folder with data/ and runs/. By default the setting of the current folder, or else this folder.
        device: "auto", "cpu" or "cuda". By default the setting of the current folder, or else "auto".
        show: Print messages and draw bars, in a terminal or a notebook.
        force: Run every stage even if it is up to date.

    Returns:
        The result of each stage by its id.

    Raises:
        UsageError: The recipe has mistakes: all of them, one line each.
        StmnError: What a stage raises.
    """
    from stmn.recipe.calls import call_recipe
    from stmn.recipe.chain import Overrides
    from stmn.settings import load_settings
    from stmn.workspace import Workspace

    settings = load_settings(workspace=workspace, device=device)
    overrides = Overrides(settings.defaults, Path(data_root) if data_root else None, data)
    space = Workspace(settings.workspace)
    return call_recipe(str(recipe), set, space, overrides, settings.device, _progress(show), until, force)


@overload
def tune(
    verb: Literal["train-stream"],
    space: Mapping[str, Any],
    *,
    trials: int = 20,
    minutes: float | None = None,
    prune: bool = False,
    name: str | None = None,
    workspace: str | Path | None = None,
    device: str | None = None,
    show: bool = True,
    **options: "Unpack[TrainStreamArguments]",
) -> "TuningResult": ...


@overload
def tune(
    verb: Literal["fuse"],
    space: Mapping[str, Any],
    *,
    trials: int = 20,
    minutes: float | None = None,
    prune: bool = False,
    name: str | None = None,
    workspace: str | Path | None = None,
    device: str | None = None,
    show: bool = True,
    **options: "Unpack[FuseArguments]",
) -> "TuningResult": ...


def tune(
    verb: Literal["train-stream", "fuse"],
    space: Mapping[str, Any],
    *,
    trials: int = 20,
    minutes: float | None = None,
    prune: bool = False,
    name: str | None = None,
    workspace: str | Path | None = None,
    device: str | None = None,
    show: bool = True,
    **options: Any,
) -> "TuningResult":
    """Train with other values of some options, and judge each on the validation videos, as `stmn tune` does.

    The same call goes on with an interrupted study, and does nothing if it has enough trials.

    Args:
        verb: "train-stream" or "fuse".
        space: Key of an option -> what to try: a tuple (low, high) or (low, high, "log"), where the scale is "log" or
            "linear", or a list of values.
        trials: Trials of the study in all.
        minutes: Begin no trial after so long.
        prune: Stop trials early whose validation is worse than most at that step.
        name: Of the study's folder in tune/. By default it is made from what is asked.
        workspace: Folder with data/ and runs/. By default the setting of the current folder, or else this folder.
        device: "auto", "cpu" or "cuda". By default the setting of the current folder, or else "auto".
        show: Print messages and draw bars, in a terminal or a notebook.
        options: Options that are the same in all trials, by the keys of recipes.

    Returns:
        The trials, the best one, and its model.

    Raises:
        MissingExtra: Optuna is not installed.
        UsageError: An option or the space is wrong, or no videos are held out for validation.
        DataError: The prepared set, or what the training starts from, is missing.
    """
    from stmn.recipe.calls import call_tuning
    from stmn.settings import load_settings
    from stmn.workspace import Workspace

    settings = load_settings(workspace=workspace, device=device)
    return call_tuning(
        verb, options, space, trials, name, minutes, prune, Workspace(settings.workspace),
        settings.defaults.get(verb, {}), settings.device, _progress(show),
    )  # fmt: skip


def load(
    model: "Named",
    device: str | None = None,
    stream: str | None = None,
    *,
    precision: "NamedPrecision" = "float32",
    workspace: str | Path | None = None,
) -> "Model":
    """Load a trained model, named as on the command line.

    Args:
        model: A result of training, a model file, a folder with one, the name of a run in the workspace, or a name on
            the hub, "hf://user/name" or "hf://user/name@revision". The beginning of a run's name is enough; of several
            runs the newest is loaded.
        device: "auto", "cpu" or "cuda". By default the setting of the current folder, or else "auto".
        stream: The stream to use if the model has several ("appearance" or "motion"). By default their mean.
        precision: "float32", "bfloat16" or "float16": type of the convolutions, on every device. Half precision is
            faster on a GPU and moves scores by up to a hundredth of the largest.
        workspace: Where runs are found by name. By default the setting of the current folder, or else this folder.

    Returns:
        The model: `predict` and `logits` of a whole video, `windows` and `features` along time, `classes`.

    Raises:
        UsageError: There is no such model, device or precision.
        DataError: The hub can't be reached, and this machine has no copy of the model.
        MissingExtra: The name is one on the hub, and huggingface_hub is not installed.
        CheckpointError: The file is damaged or holds no model, or the model has no such stream.
    """
    # torch takes seconds to import; `import stmn` must not
    from stmn.prediction.api import load_model
    from stmn.settings import load_settings
    from stmn.workspace import Workspace

    settings = load_settings(workspace=workspace, device=device)
    return load_model(Workspace(settings.workspace).find_model(os.fspath(model)), settings.device, stream, precision)


def _call(
    verb: str, options: Mapping[str, Any], workspace: str | Path | None, device: str | None, show: bool, force: bool
) -> "StageResult":
    """Run a stage."""
    from stmn.recipe.calls import call_stage
    from stmn.settings import load_settings
    from stmn.workspace import Workspace

    settings = load_settings(workspace=workspace, device=device)
    defaults = settings.defaults.get(verb, {})
    return call_stage(verb, options, Workspace(settings.workspace), defaults, settings.device, _progress(show), force)


def _progress(show: bool) -> "Progress":
    """Where stages report: bars in a terminal or a notebook, or nowhere."""
    if not show:
        from stmn.runtime.progress import Silent

        return Silent()
    from stmn.cli.display import Display

    return Display()
