"""The paper's final network, and a set of rendered videos for it."""

from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def rendered_set(videos: int, quick: bool) -> Iterator[Path]:
    """The folder of a prepared set of moving textures: 60 frames each, at 4:3, with flow by DIS."""
    side = (QUICK_SIDES if quick else SIDES)[0]
    with TemporaryDirectory() as folder:
        prepare(Path(folder), side, clips(None, videos, side))
        yield Path(folder) / "store"
