"""Networks to export, and their descriptions."""

import torch

from stmn.nets.build import build_network
from stmn.nets.checkpoint import Description, TrainedOn
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.network import Network
from stmn.store.format.header import Preparation

#: the paper's final network
FINAL = {"gate": GateConfig(), "temporal": TemporalConfig(injector="residual", pool="max")}
KINDS = {
    "the paper's final network": FINAL,
    "one prediction of both streams, of five chunks at a time": {
        "gate": GateConfig(),
        "prediction": "concatenated",
        "temporal": TemporalConfig(pool="max", window=5),
    },
    "motion alone": {"streams": [StreamConfig(modality="flow", arch="resnet18", width=0.125)]},
    "gates both ways and filters in the skip path": {
        "gate": GateConfig(direction="both", site="direct", fusion="add"),
        "temporal": TemporalConfig(injector="residual_and_skip", init="average", length=5),
    },
    "filters in the skip path alone": {"gate": GateConfig(), "temporal": TemporalConfig(injector="skip", pool="max")},
    "gates and filters at every unit": {
        "gate": GateConfig(units="every_unit"),
        "temporal": TemporalConfig(injector="residual_every_unit", pool="max"),
    },
    "their mean, of three chunks at a time": {
        "gate": GateConfig(units="every_unit"),
        "prediction": "averaged",
        "temporal": TemporalConfig(injector="residual_conv2_conv5", pool="average", window=3),
    },
    "every chunk by itself": {"gate": GateConfig(), "temporal": TemporalConfig(pool="none")},
    "gates that are blended in": {"gate": GateConfig(fusion="blended_multiply")},
    "an untied pair": {"gate": GateConfig(fusion="none")},
}


def made(keeps: tuple[str, ...] = ("mirror", "crop"), **network: object) -> tuple[Network, Description]:
    """A narrow tied network in which every module matters, and its description."""
    streams = [StreamConfig(modality=modality, arch="resnet18", width=0.125) for modality in ("rgb", "flow")]
    values = {"classes": ["wave", "jump", "rén"], "size": 64, "stack_length": 3, "streams": streams}
    config = NetworkConfig(**(values | network))
    net = build_network(config).eval()
    for name, parameter in net.named_parameters():
        if name.endswith("bn2.weight"):  # 0 in fresh units
            torch.nn.init.ones_(parameter)
    preparation = Preparation(short_side=72, flow="tvl1", bound=20.0, quality=95, camera_motion="keep")
    return net, Description(config, preparation, TrainedOn(data="mine", split="1", videos=["a"]), list(keeps))
