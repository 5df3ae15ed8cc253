"""Inference: passes split in time, and logits that are NaN."""

import pytest
import torch
from helpers.commands import call, errors_of
from helpers.networks import assert_same_logits, randomize_filters, randomize_norms, stable_pair, tied, videos
from torch import Tensor, nn

from stmn.errors import DataError
from stmn.evaluation.inference import compute_logits, score_videos
from stmn.evaluation.passes import compute_last_maps, split_in_time, temporal_reach
from stmn.evaluation.protocol import Protocol
from stmn.evaluation.video_input import VideoInput
from stmn.nets.checkpoint import load_checkpoint, save_checkpoint
from stmn.nets.config import GateConfig, TemporalConfig
from stmn.runtime.device import choose_device
from stmn.runtime.progress import Silent
from stmn.store.format.read import Store

CPU = choose_device("cpu")


# Split in time


def pictures(chunks: int, height: int = 40, width: int = 56) -> VideoInput:
    """Levels of a video: a frame and two fields per chunk."""
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (chunks, 3, height, width), generator=generator, dtype=torch.uint8)
    fields = torch.randint(0, 256, (2 * chunks, 2, height, width), generator=generator, dtype=torch.uint8)
    return VideoInput(frames, fields, torch.arange(2 * chunks).unflatten(0, (chunks, 2)))


POOLINGS = [
    {"pool": "max"}, {"pool": "average"}, {"pool": "none"}, {"pool": "max", "window": 5}, {"pool": "average", "window": 3},
    {"pool": "max", "window": 40},
]  # fmt: skip


@pytest.mark.parametrize(
    "injector", ["none", "last_unit", "residual", "residual_every_unit", "skip", "residual_and_skip"]
)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_video_split_in_time_gets_same_logits(injector, pooling):
    """In passes of one chunk with its margins, and in larger ones."""
    temporal = TemporalConfig(injector=injector, **pooling)
    net = randomize_filters(randomize_norms(tied(temporal=temporal, gate=GateConfig(direction="both"))))
    video = pictures(11)
    protocol = Protocol(short_side=40, crop=32, flips=False)
    whole = compute_logits(net, [video, video], protocol, CPU, max_pixels=2**30)
    for largest in (1, 2 * 40 * 56 * 8):
        assert_same_logits(compute_logits(net, [video, video], protocol, CPU, largest), whole, 1e-5)


@pytest.mark.parametrize(("temporal", "chunks"), [
    ({"injector": "none"}, 0), ({"injector": "last_unit"}, 1), ({"injector": "residual"}, 4),
    ({"injector": "residual_and_skip"}, 8), ({"injector": "residual", "length": 5}, 8),
    ({"injector": "skip"}, 4), ({"injector": "residual_every_unit"}, 8),
    ({"injector": "none", "motion_injector": "residual"}, 4),
])  # fmt: skip
def test_temporal_reach_is_exact(temporal, chunks):
    """A change of one chunk shows `chunks` away and no further."""
    net = stable_pair(temporal=TemporalConfig(**temporal)).double()
    assert temporal_reach(net) == chunks
    rgb, flow = videos(net, 20, 32, 32, batch=1)
    other = [rgb.clone(), flow.clone()]
    for tensor in other:
        tensor[:, 10] += 1
    with torch.inference_mode():
        maps, changed = net.feature_maps(rgb, flow), net.feature_maps(*other)
    seen = {t for a, b in zip(maps, changed, strict=True) for t in range(20) if not torch.equal(a[t], b[t])}
    assert seen == set(range(10 - chunks, 10 + chunks + 1))


class AnyTime(nn.Module):
    """A plugin's filter that sees all chunks."""

    def forward(self, x: Tensor, chunks: int) -> Tensor:
        return x + x.unflatten(0, (-1, chunks)).mean(dim=1, keepdim=True).expand(-1, chunks, -1, -1, -1).flatten(0, 1)


@pytest.mark.parametrize("average", ["logits", "softmax"])
def test_classes_change_places_in_mirrored_views(average):
    """So a video and its mirror get each other's scores for a pair of classes."""
    net, video = stable_pair(), pictures(3)
    classes = len(net.config.classes)
    order = [1, 0, *range(2, classes)]
    protocol = Protocol(short_side=40, crop=32, average=average, mirror_order=order)
    fields = video.fields.clamp(min=1).flip(-1)
    fields[:, 0] = (256 - fields[:, 0].int()).to(torch.uint8)  # u changes its sign
    video = VideoInput(video.frames, video.fields.clamp(min=1), video.stacks)
    mirror = VideoInput(video.frames.flip(-1), fields, video.stacks)
    seen, other = (compute_logits(net, [given], protocol, CPU) for given in (video, mirror))
    assert_same_logits([row[..., order] for row in other], seen, 1e-4)
    assert not torch.allclose(seen[0][..., 0], seen[0][..., 1])


def test_filter_of_unknown_reach_is_never_split():
    net = stable_pair()
    net.stream("motion").backbone.parts["conv3"][0].temporal = AnyTime()
    assert temporal_reach(net) is None
    video, protocol = pictures(9), Protocol(short_side=40, crop=32)
    whole, tiny = (compute_logits(net, [video], protocol, CPU, largest) for largest in (2**30, 1))
    assert_same_logits(tiny, whole, 0)


def test_passes_stay_within_their_limit():
    assert [(p.first, p.last, p.kept) for p in split_in_time(10, 4, 0)] == [
        (0, 4, slice(0, 4)), (4, 8, slice(0, 4)), (8, 10, slice(0, 2))
    ]  # fmt: skip
    assert [(p.first, p.last, p.kept) for p in split_in_time(6, 4, 1)] == [
        (0, 3, slice(0, 2)), (1, 5, slice(1, 3)), (3, 6, slice(1, 3))
    ]  # fmt: skip
    net, sizes = stable_pair(), []

    def inputs(first: int, last: int) -> list[Tensor]:
        sizes.append(last - first)
        return [tensor[:, first:last] for tensor in videos(net, 50)]

    with torch.inference_mode():
        maps = compute_last_maps(net, inputs, 50, 8)
    assert max(sizes) == 8 and sum(sizes) == 50
    assert [len(m) for m in maps] == [100, 100]


# NaN


def test_nan_logits_end_in_one_line(own):
    path = own.find_input("motion", "model").path
    net, description = load_checkpoint(path)
    net.stream("motion").fc.weight.data.fill_(3e38)  # finite, but no sum of two such products is
    save_checkpoint(path, net, description)
    result = call("evaluate", "--model", path, "-w", own.root, "--force")
    assert result.exit_code != 0
    assert len(errors_of(result)) == 1
    assert (
        "motion scores are NaN or infinite" in errors_of(result)[0] and "test an earlier model" in errors_of(result)[0]
    )


def test_nan_weights_end_in_one_line(own):
    path = own.find_input("motion", "model").path
    net, description = load_checkpoint(path)
    net.stream("motion").fc.bias.data[1] = torch.nan
    save_checkpoint(path, net, description)
    [line] = errors_of(call("evaluate", "--model", path, "-w", own.root))
    assert "streams.motion.fc.bias has NaN or infinite values: its training diverged" in line


def test_no_videos_end_in_one_line(own):
    store = Store(own.data_dir("synthetic"))
    with pytest.raises(DataError, match="no videos to score"):
        score_videos(stable_pair(), store, [], Protocol(short_side=32, crop=32), CPU, Silent())
