"""A logger for stmn: Weights & Biases."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

__all__ = ["WandB"]


class WandB:
    """Writes the log of a training as a run of Weights & Biases: the training's options are the run's configuration.

    Args:
        folder: where the run's files are written.
        step: 0, or where a resumed training goes on.
        about: the run's name and options.
        project: the project of the run.
        entity: whose project it is; by default the user's own.
        mode: "offline" writes files that `wandb sync` sends later; "online" sends them at once, and needs a login.
    """

    def __init__(
        self, folder: Path, step: int, about: Mapping[str, Any], /, *, project: str = "stmn",
        entity: str | None = None, mode: Literal["offline", "online"] = "offline",
    ) -> None:  # fmt: skip
        import wandb

        self._run = wandb.init(
            project=project, entity=entity, mode=mode, dir=folder, name=about["run"], id=about["run"],
            resume="allow" if mode == "online" else None, config=dict(about["options"]),
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )  # fmt: skip

    def write(self, row: Mapping[str, float]) -> None:
        """Send a row; the steps are those of the training."""
        self._run.log({name: value for name, value in row.items() if name != "step"}, step=int(row["step"]))

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()
