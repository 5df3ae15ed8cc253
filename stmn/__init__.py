"""Two-stream action recognition with multiplicative motion gates and identity temporal filters.

>>> import stmn
>>> stmn.load("fused").predict("video.mp4")        # doctest: +SKIP
"""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stmn.prediction.api import Model
    from stmn.runtime.device import NamedPrecision


__all__ = ["__version__", "load"]

__version__ = version("stmn")


def load(
    model: str | Path,
    device: str | None = None,
    stream: str | None = None,
    *,
    precision: "NamedPrecision" = "float32",
    workspace: str | Path | None = None,
) -> "Model":
    """Load a trained model, named as on the command line.

    Args:
        model: A model file, a folder with one, the name of a run in the workspace, or a name on the hub,
            "hf://user/name" or "hf://user/name@revision". The beginning of a run's name is enough; of several runs the
            newest is loaded.
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
    return load_model(Workspace(settings.workspace).find_model(model), settings.device, stream, precision)
