"""Export to a model file that can be shared: weights and description, without the names of training videos."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from stmn.exporting.base import Runner
from stmn.exporting.parity import network_runner
from stmn.nets.checkpoint import Description, load_checkpoint
from stmn.nets.network import Network
from stmn.runtime.tensor_files import save_tensors


class SafetensorsExporter:
    """Writes a `.safetensors` file, which every command that takes a model takes."""

    suffix = ".safetensors"
    precisions = ("float32", "float16")

    def write(
        self, network: Network, description: Description, example: Sequence[Tensor], path: Path,
        precision: str = "float32",
    ) -> None:  # fmt: skip
        """Write weights and description.

        Args:
            network: The network.
            description: Its classes, preprocessing and plugins.
            example: Not used.
            path: Where to write.
            precision: "float32", or "float16" for weights of half the size; computation is in float32.
        """
        weights = network.state_dict()
        if precision == "float16":
            weights = {name: x.half() if x.is_floating_point() else x for name, x in weights.items()}
        save_tensors(path, weights, description.to_json())

    def runner(self, path: Path) -> Runner:
        """Load the network. Raises `CheckpointError` if the file is damaged."""
        return network_runner(load_checkpoint(path)[0])
