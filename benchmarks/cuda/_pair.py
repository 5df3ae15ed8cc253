"""The paper's final network, and a set of rendered videos for it."""

import atexit
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.loader import clips, prepare
from stmn.nets.build import build_network
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.network import Network

#: short side of the stored frames, and side of the crops; (of the tiny sizes)
SIDES, QUICK_SIDES = (256, 224), (64, 56)
L = 10


def build_pair(quick: bool) -> Network:
    """ResNet-50 appearance gated by ResNet-152 motion, 101 classes; narrow ResNets-18 if `quick`."""
    archs = ("resnet18", "resnet18") if quick else ("resnet50", "resnet152")
    streams = [
        StreamConfig(modality=modality, arch=arch, width=0.125 if quick else 1.0)
        for modality, arch in zip(("rgb", "flow"), archs, strict=True)
    ]
    return build_network(
        NetworkConfig(
            classes=[f"class {number}" for number in range(101)], size=(QUICK_SIDES if quick else SIDES)[1],
            stack_length=L, streams=streams, gate=GateConfig(),
            temporal=TemporalConfig(injector="residual", pool="max"),
        )
    )  # fmt: skip


@cache
def rendered_set(quick: bool) -> Path:
    """The folder of a prepared set of moving textures: 60 frames each, at 4:3, with flow by DIS.

    It is made once for all parts, and removed at the end of the process.
    """
    side = (QUICK_SIDES if quick else SIDES)[0]
    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    prepare(Path(folder.name), side, clips(None, 4 if quick else 24, side))
    return Path(folder.name) / "store"
