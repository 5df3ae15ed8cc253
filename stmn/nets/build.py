"""Build the network that a configuration describes."""

import torch

from stmn.nets.config import NetworkConfig
from stmn.nets.network import Network
from stmn.nets.single_stream import SingleStream
from stmn.nets.two_stream import TwoStream


def build_network(config: NetworkConfig, seed: int = 0) -> Network:
    """Build a network with random weights that depend only on `seed`.

    Torch's global random state does not change.

    Raises:
        UsageError: the parts of the network don't fit together.
        PluginError: a plugin can't be loaded.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TwoStream(config) if len(config.streams) == 2 else SingleStream(config)


def sketch_network(config: NetworkConfig) -> Network:
    """Build a network on PyTorch's meta device, where weights take no memory. Raises as `build_network` does."""
    with torch.device("meta"):
        return build_network(config)
