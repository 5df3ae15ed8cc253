"""torch.compile makes one graph of every variant, torch.export one program: no hidden state, no hooks.

Each network is a row of Table 3 with a connection of Table 2; what the tables leave out is spread over them.
"""

import shutil

import pytest
import torch
from helpers.networks import TABLE_2, TABLE_3, randomize_filters, randomize_norms, tied, videos

from stmn.nets.build import build_network
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.network import Network

PREDICTIONS = ["per_stream", "averaged", "concatenated"]


def both(connection: tuple[str, str, str], temporal: TemporalConfig, prediction: str, **gate: str) -> Network:
    site, fusion, direction = connection
    return tied(
        gate=GateConfig(site=site, fusion=fusion, direction=direction, **gate), temporal=temporal, prediction=prediction
    )


def variants() -> dict[str, tuple]:
    """Every row of both tables, every prediction, every pooling, gates everywhere, and one stream alone."""
    made = {}
    for number, (injector, init, pool) in enumerate(TABLE_3):
        connection, prediction = TABLE_2[number % len(TABLE_2)], PREDICTIONS[number % 3]
        made[" ".join((injector, init, pool, *connection, prediction))] = (
            connection, TemporalConfig(injector=injector, init=init, pool=pool), prediction, {},
        )  # fmt: skip
    gated = TABLE_2[3]
    made["max over windows"] = gated, TemporalConfig(pool="max", window=2), "averaged", {"operand": "post_relu"}
    made["average"] = gated, TemporalConfig(injector="residual_conv2_conv5", pool="average"), "per_stream", {}
    made["filters in the skip path alone"] = gated, TemporalConfig(injector="skip", pool="max"), "per_stream", {}
    made["gates and filters everywhere"] = (
        gated, TemporalConfig(injector="residual_every_unit", pool="max"), "per_stream", {"units": "every_unit"},
    )  # fmt: skip
    made["average over windows, gates everywhere"] = (
        gated, TemporalConfig(injector="residual", length=5, pool="average", window=5), "concatenated",
        {"units": "every_unit"},
    )  # fmt: skip
    return made


VARIANTS = variants()
#: those that `make test` compiles, which takes seconds each; chosen to differ widely
QUICK = [list(VARIANTS)[number] for number in (0, 8, -1)]


def check_graphs(network: Network) -> None:
    """Make one graph with torch.compile and one program with torch.export, and compare their outputs."""
    network = randomize_filters(randomize_norms(network))
    given = videos(network, 3)
    with torch.no_grad():
        expected = network(*given)
        torch.compiler.reset()
        compiled = torch.compile(network, backend="eager", fullgraph=True)(*given)
        exported = torch.export.export(network, tuple(given)).module()(*given)
    assert len(compiled) == len(exported) == len(network.outputs)
    for ours, one, other in zip(expected, compiled, exported, strict=True):
        assert torch.equal(ours, one) and torch.equal(ours, other)


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in VARIANTS]
)
def test_every_variant_is_one_graph(variant):
    connection, temporal, prediction, gate = VARIANTS[variant]
    check_graphs(both(connection, temporal, prediction, **gate))


def test_single_stream_is_one_graph():
    stream = StreamConfig(modality="flow", arch="resnet26", width=0.125)
    temporal = TemporalConfig(injector="residual", pool="max")
    check_graphs(
        build_network(NetworkConfig(classes=["a"], size=32, stack_length=2, streams=[stream], temporal=temporal))
    )


@pytest.mark.slow
def test_compiled_network_has_the_same_gradients():
    network = randomize_filters(randomize_norms(tied(temporal=TemporalConfig(injector="residual", pool="max"))))
    given = videos(network, 3)
    gradients = []
    torch.compiler.reset()
    for run in (network, torch.compile(network, backend="aot_eager", fullgraph=True)):
        network.zero_grad()
        sum(logits.square().sum() for logits in run(*given)).backward()
        gradients.append([parameter.grad.clone() for parameter in network.parameters()])
    for plain, compiled in zip(*gradients, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-5 * float(plain.abs().max() + 1))


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="Inductor needs a C++ compiler")
def test_inductors_code_gives_the_same_logits():
    network = randomize_filters(randomize_norms(tied(temporal=TemporalConfig(injector="residual", pool="max"))))
    given = videos(network, 3)
    torch.compiler.reset()
    with torch.no_grad():
        for ours, compiled in zip(network(*given), torch.compile(network, fullgraph=True)(*given), strict=True):
            torch.testing.assert_close(compiled, ours, rtol=1e-3, atol=1e-4 * float(ours.abs().max()))
