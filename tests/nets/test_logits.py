"""Logits of a network: at each place in time, of each stream or of both together."""

import pytest
import torch
from helpers.networks import randomize_norms
from pydantic import ValidationError
from torch import Tensor

from stmn.nets.build import build_network
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.network import Network
from stmn.nets.temporal import pool_time

PREDICTIONS = ["per_stream", "averaged", "concatenated"]


def built(*modalities: str, prediction: str = "per_stream", **temporal: object) -> Network:
    streams = [StreamConfig(modality=modality, arch="resnet18", width=0.125) for modality in modalities]
    config = NetworkConfig(
        classes=["a", "b", "c"], size=32, stack_length=2, streams=streams, prediction=prediction,
        gate=GateConfig() if len(streams) == 2 else None, temporal=TemporalConfig(**temporal),
    )  # fmt: skip
    return randomize_norms(build_network(config))


def tied(**options: object) -> Network:
    return built("rgb", "flow", **options)


def videos(network: Network, chunks: int) -> list[Tensor]:
    """Two videos for each stream: (2, chunks, channels, 32, 32)."""
    generator = torch.Generator().manual_seed(chunks)
    return [
        torch.randn(2, chunks, network.config.in_channels(stream.modality), 32, 32, generator=generator)
        for stream in network.config.streams
    ]


#: pooling over time -> places in time for 1, 3, 5, 7 and 25 chunks
PLACES = {
    ("max", None): [1, 1, 1, 1, 1],
    ("average", None): [1, 1, 1, 1, 1],
    ("none", None): [1, 3, 5, 7, 25],
    ("max", 5): [1, 1, 1, 3, 21],  # as in the authors' code
    ("average", 5): [1, 1, 1, 3, 21],
    ("max", 1): [1, 3, 5, 7, 25],
}


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("pooling", PLACES, ids=str)
@torch.inference_mode()
def test_outputs_are_means_over_places_in_time(pooling, prediction):
    network = tied(pool=pooling[0], window=pooling[1], prediction=prediction)
    assert network.outputs == (["appearance", "motion"] if prediction == "per_stream" else ["fused"])
    for chunks, places in zip((1, 3, 5, 7, 25), PLACES[pooling], strict=True):
        logits = network.logits(*videos(network, chunks))
        assert [tuple(p.shape) for p in logits] == [(2, places, 3)] * len(network.outputs)
        for means, at_places in zip(network(*videos(network, chunks)), logits, strict=True):
            assert torch.equal(means, at_places.mean(dim=1))


@pytest.mark.parametrize("modality", ["rgb", "flow"])
@torch.inference_mode()
def test_without_pooling_each_chunk_is_classified_alone(modality):
    network = built(modality, pool="none")
    assert network.outputs == network.names
    (frames,) = videos(network, 4)
    (together,) = network.logits(frames)
    for t in range(4):
        torch.testing.assert_close(together[:, t], network(frames[:, t : t + 1])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool", ["max", "average"])
@torch.inference_mode()
def test_each_window_is_pooled_as_a_video_of_its_chunks(pool):
    sliding, over_all = tied(pool=pool, window=5), tied(pool=pool)
    rgb, flow = videos(sliding, 8)
    for output, logits in enumerate(sliding.logits(rgb, flow)):
        for start in range(4):
            run = slice(start, start + 5)
            expected = over_all(rgb[:, run], flow[:, run])[output]
            torch.testing.assert_close(logits[:, start], expected, rtol=1e-4, atol=1e-5)
    for short in (1, 2, 5):  # at most as long as the window: one place, the whole video
        for got, expected in zip(sliding(*videos(sliding, short)), over_all(*videos(sliding, short)), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("pool", ["max", "average"])
def test_windows_and_their_gradients_are_those_of_each_alone(pool, window):
    given = torch.randn(2 * 5, 3, 2, 4, generator=torch.Generator().manual_seed(3)).double()
    x, again = given.clone().requires_grad_(), given.clone().requires_grad_()
    got = pool_time(x, 5, pool, window)
    video = again.unflatten(0, (2, 5))
    runs = [video[:, start : start + window] for start in range(max(5 - window, 0) + 1)]
    expected = torch.stack([run.amax(dim=1) if pool == "max" else run.sum(dim=1) / run.shape[1] for run in runs], dim=1)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn(got.shape, generator=torch.Generator().manual_seed(4)).double()
    for pooled in (got, expected):
        (pooled * weights).sum().backward()
    torch.testing.assert_close(x.grad, again.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("window", [None, 2, 5])
def test_one_of_equal_chunks_gets_the_maximums_gradient(window):
    still = torch.ones(5, 1, 1, 1, requires_grad=True)
    pool_time(still, 5, "max", window)[:, 0].sum().backward()
    assert sorted(still.grad.flatten().tolist()) == [0, 0, 0, 0, 1]


@torch.inference_mode()
def test_joint_predictions_start_as_the_mean_of_streams():
    separate = tied(pool="none")
    given = videos(separate, 3)
    mean = torch.stack(separate.logits(*given)).mean(dim=0)
    for prediction in ("averaged", "concatenated"):
        joint = tied(pool="none", prediction=prediction)
        missing, unexpected = joint.load_state_dict(separate.state_dict(), strict=False)
        assert not unexpected and sorted(missing) == (
            ["joint_fc.bias", "joint_fc.weight"] if prediction == "concatenated" else []
        )
        torch.testing.assert_close(joint.logits(*given)[0], mean)
    joint.joint_fc.weight[0, 4] += 1.0  # class a now adds motion's logit of class b
    appearance, motion = separate.logits(*given)
    expected = (appearance + motion) / 2 + motion[..., 1:2] * torch.tensor([1.0, 0.0, 0.0])
    torch.testing.assert_close(joint.logits(*given)[0], expected)


@pytest.mark.parametrize("pool", ["max", "average", "none"])
@torch.no_grad()
def test_training_and_testing_pool_alike(pool):
    network = tied(pool=pool)
    given = videos(network, 3)
    tested = network.logits(*given)
    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()  # only batch statistics (and dropout, 0 here) may differ
    assert all(torch.equal(*pair) for pair in zip(network.logits(*given), tested, strict=True))


def test_options_that_need_others_are_refused_without():
    with pytest.raises(ValidationError, match="prediction = averaged needs two streams, but there is one"):
        built("rgb", prediction="averaged")
    with pytest.raises(ValidationError, match="window = 5 needs pooling over time, but pool = none"):
        TemporalConfig(pool="none", window=5)
