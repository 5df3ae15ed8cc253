"""TensorBoard: the built-in logger."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stmn.errors import MissingExtra


class TensorBoard:
    """Writes the log for TensorBoard, a curve for each column; a `stmn.plugins.Logger`.

    Raises:
        MissingExtra: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, step: int, about: Mapping[str, Any], /) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra("--logger tensorboard", "tensorboard", "tensorboard") from error
        # drops what an interrupted training wrote after this step
        self._writer: Any = SummaryWriter(str(folder), purge_step=step)

    def write(self, row: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        for name, value in row.items():
            if name != "step":
                self._writer.add_scalar(name, value, row["step"])
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
