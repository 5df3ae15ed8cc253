"""Parameters and multiply-adds of networks: known figures, and layers counted by hand."""

from pathlib import Path

import pytest
import torch

from stmn import registry
from stmn.nets.build import build_network, sketch_network
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.network import Network
from stmn.nets.show.cost import count_costs, sum_costs

IMAGENET = [f"class{number}" for number in range(1000)]
#: parameters, and 10^9 multiply-adds for one 224 x 224 image, as torchvision's documentation lists them
KNOWN = {
    "resnet18": (11_689_512, 1.81),
    "resnet34": (21_797_672, 3.66),
    "resnet50": (25_557_032, 4.09),
    "resnet101": (44_549_160, 7.80),
    "resnet152": (60_192_808, 11.51),
}


def network(*archs: str, classes: list[str] = IMAGENET, **options: object) -> Network:
    """On the meta device: one appearance stream, or an appearance and a motion stream."""
    streams = [StreamConfig(modality=m, arch=arch) for m, arch in zip(("rgb", "flow"), archs, strict=False)]
    gate = GateConfig() if len(streams) == 2 else None
    values = {"classes": classes, "size": 224, "stack_length": 10, "streams": streams, "gate": gate}
    return sketch_network(NetworkConfig(**(values | options)))


@pytest.mark.parametrize("arch", KNOWN)
def test_stream_costs_what_is_known_of_its_resnet(arch):
    parameters, multiply_adds = sum_costs(count_costs(network(arch), 224))
    assert (parameters, round(multiply_adds / 1e9, 2)) == KNOWN[arch]


def test_layers_cost_what_a_hand_count_gives():
    tied = network(
        "resnet50", "resnet50", classes=IMAGENET[:101], prediction="concatenated",
        temporal=TemporalConfig(injector="residual_and_skip", length=3),
    )  # fmt: skip
    rows = {row.name: row for row in count_costs(tied, 224)}
    stem = rows[
        "motion.conv1"
    ]  # 20 channels, 64 filters of 7 x 7 at stride 2; normalisation has two values per channel
    assert (stem.shape, stem.parameters) == ((64, 56, 56), 64 * 20 * 49 + 2 * 64)
    assert stem.multiply_adds == 64 * 20 * 49 * 112 * 112
    inside, after = rows["appearance.conv2_x.unit2.temporal"], rows["motion.conv5_x.temporal"]
    assert (inside.shape, inside.parameters) == ((64, 56, 56), 3 * 64 * 64 + 64)
    assert inside.multiply_adds == 3 * 64 * 64 * 56 * 56
    assert (after.shape, after.parameters) == ((2048, 7, 7), 3 * 2048 * 2048 + 2048)
    assert after.multiply_adds == 3 * 2048 * 2048 * 7 * 7
    gate = rows["appearance.conv4_x.unit2.gate"]
    assert (gate.shape, gate.parameters, gate.multiply_adds) == ((1024, 14, 14), 0, 0)
    assert rows["motion.fc"].shape == (101,) and rows["motion.fc"].multiply_adds == 2048 * 101
    assert rows["fused.fc"].parameters == 202 * 101 + 101
    unit = rows["appearance.conv3_x.unit2"]
    assert unit.multiply_adds == (512 * 128 + 128 * 128 * 9 + 128 * 512) * 28 * 28
    assert unit.parameters == 512 * 128 + 128 * 128 * 9 + 128 * 512 + 2 * (128 + 128 + 512)


@pytest.mark.parametrize("prediction", ["per_stream", "concatenated"])
@pytest.mark.parametrize("pair", [("resnet18", "resnet34"), ("resnet50d", "seresnet50")], ids="-".join)
def test_costs_add_up_to_the_whole(pair, prediction):
    tied = network(
        *pair, gate=GateConfig(direction="both", units="every_unit"), prediction=prediction,
        temporal=TemporalConfig(injector="residual_and_skip"),
    )  # fmt: skip
    rows = count_costs(tied, 64)
    assert len({row.name for row in rows}) == len(rows)
    assert sum_costs(rows)[0] == sum(parameter.numel() for parameter in tied.parameters())
    streams = [sum_costs(rows, name) for name in (*tied.names, "fused")]
    assert sum_costs(rows) == tuple(map(sum, zip(*streams, strict=True)))
    gates = [row.name for row in rows if row.name.endswith(".gate")]
    assert len(gates) == len(tied.gates)
    assert all(row.shape for row in rows)


def test_counting_leaves_the_network_as_it_is():
    stream = StreamConfig(modality="flow", arch="resnet18", width=0.125)
    used = build_network(NetworkConfig(classes=["a"], size=32, stack_length=2, streams=[stream]))
    before = {name: value.clone() for name, value in used.state_dict().items()}
    rows = count_costs(used, 32)
    assert used.training and all(torch.equal(value, before[name]) for name, value in used.state_dict().items())
    assert not any(module._forward_hooks for module in used.modules())
    assert sum_costs(rows)[0] == sum(parameter.numel() for parameter in used.parameters())


DOCS = Path(__file__).parents[2] / "docs" / "reference" / "networks.md"


def table(head: str) -> list[list[str]]:
    """The rows of the docs' table with this head."""
    lines = DOCS.read_text().split(head)[1].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return rows[: rows.index([""])]


def millions_and_billions(tied: Network) -> list[str]:
    parameters, multiply_adds = sum_costs(count_costs(tied, 224))
    return [f"{parameters / 1e6:.2f}", f"{multiply_adds / 1e9:.2f}"]


def test_docs_table_of_streams():
    rows = table("| stream | ResNet | parameters | multiply-adds |")
    assert [row[:2] for row in rows] == [[m, f"resnet{d}"] for m in ("rgb", "flow") for d in (50, 152)]
    for modality, arch, *numbers in rows:
        stream = StreamConfig(modality=modality, arch=arch)
        config = NetworkConfig(classes=IMAGENET[:101], size=224, stack_length=10, streams=[stream])
        assert numbers == millions_and_billions(sketch_network(config))


@pytest.mark.slow
def test_docs_table_of_fused_networks():
    rows = table("| appearance | motion | injector | parameters | multiply-adds |")
    assert len(rows) == 14 and {row[1] for row in rows} == {"resnet50", "resnet152"}
    assert {row[2] for row in rows} == set(registry.names("injector"))
    for appearance, motion, injector, *numbers in rows:
        temporal = TemporalConfig(injector=injector)
        tied = network(appearance, motion, classes=IMAGENET[:101], temporal=temporal)
        assert numbers == millions_and_billions(tied)
