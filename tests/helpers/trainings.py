"""Small training runs that tests share."""

from torch import Tensor, nn

from stmn.nets.build import build_network
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.network import Network
from stmn.runtime.device import choose_device
from stmn.sampling.clips import Clips, Sampling
from stmn.store.format.read import Store
from stmn.training.plan import Plan
from stmn.training.schedule import Schedule
from stmn.workspace import Workspace

WIDTH = 0.125
CPU = choose_device("cpu")


def videos(prepared: Workspace, chunks: int = 1, seed: int = 0, modalities: tuple[str, ...] = ("flow",)) -> Clips:
    """The training videos of the synthetic set, 32 pixels wide."""
    store = Store(prepared.data_dir("synthetic"), cache_bytes=64 << 20)
    sampling = Sampling(modalities, size=32, stack_length=10, chunks=chunks, stride=(1, 2), seed=seed)
    return Clips(store, store.part("1", "train"), sampling)


def network(dropout: float = 0.0, fused: bool = False, injector: str = "none") -> Network:
    """A narrow ResNet-18 on flow, or two that are tied by gates, with the temporal filters of an injector."""
    streams = [StreamConfig(modality="flow", arch="resnet18", width=WIDTH, dropout=dropout)]
    if fused:
        streams.insert(0, StreamConfig(modality="rgb", arch="resnet18", width=WIDTH))
    return build_network(
        NetworkConfig(
            classes=["down", "left", "right", "up"], size=32, stack_length=10, streams=streams,
            gate=GateConfig() if fused else None, temporal=TemporalConfig(injector=injector),
        )
    )  # fmt: skip


def steps(count: int, batch: int = 8, micro_batch: int = 8, rate: float = 0.05, seed: int = 0, **more: object) -> Plan:
    """A plan of `count` steps."""
    schedule = Schedule("cosine", rate, count)
    return Plan(count, batch, micro_batch, schedule=schedule, seed=seed, **more)


def weights(net: nn.Module) -> dict[str, Tensor]:
    """A copy of a network's state."""
    return {name: value.clone() for name, value in net.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """The same names, and the same values to the bit."""
    return one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)
