"""Testing as a GPU does it, on a CPU: 8-bit pictures are sent, cut and resized there; videos of one size share a
forward pass as far as memory goes. Scores are those of the CPU, except for rounding."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from helpers.commands import call
from helpers.devices import LeadingDimensions, cut_on_the_device, limit_gpu_memory
from helpers.made_sets import MadeVideo, make_set
from helpers.networks import assert_same_logits, stable_pair
from torch import Tensor

from stmn.errors import StmnError
from stmn.evaluation import batching
from stmn.evaluation.inference import compute_logits, score_videos
from stmn.evaluation.protocol import Protocol
from stmn.evaluation.scores import load_scores
from stmn.evaluation.video_input import read_stored_video
from stmn.nets.config import TemporalConfig
from stmn.nets.network import Network
from stmn.nets.outside import OutsideNetwork
from stmn.runtime.device import Device, choose_device
from stmn.runtime.memory import find_shortage
from stmn.runtime.progress import Silent
from stmn.sampling.augment import FLOW_STD, RGB_STD
from stmn.store.format.read import Store

CPU = choose_device("cpu")
BOTH = ("appearance", "motion")


@dataclass(frozen=True)
class SimulatedGpu(Device):
    """A GPU, whose work the CPU does: what it has free, and the largest tensor that it takes, in bytes."""

    free: int | None = None
    largest: int = 2**40

    def free_memory(self) -> int | None:
        return self.free

    def move(self, tensor: Tensor) -> Tensor:
        if tensor.nbytes > self.largest:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB.")
        return tensor


GPU = SimulatedGpu(CPU.device, cuts_pictures=True)


@pytest.fixture(scope="module")
def motley(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Videos of two sizes in turns, one of them odd, and one of a single chunk; noise in every pixel."""
    videos = []
    for number, (frames, height, width) in enumerate(
        [(14, 40, 40), (14, 37, 53), (5, 40, 40), *[(14, 40, 40), (14, 37, 53)] * 2]
    ):
        rng = np.random.default_rng(number)
        pictures, levels = (
            torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
            for shape in ((frames, height, width, 3), (frames - 1, 2, height, width))
        )
        videos.append(MadeVideo(f"v{number}", f"class{number % 3}", pictures, levels, part="test"))
    return Store(make_set(tmp_path_factory.mktemp("sets") / "motley", videos))


def protocol(**values: object) -> Protocol:
    return Protocol(**({"short_side": 37, "crop": 32, "chunks": 6} | values))


def scored(
    network: Network, store: Store, how: Protocol, device: Device, progress: Silent | None = None
) -> list[Tensor]:
    return list(score_videos(network, store, store.part("1", "test"), how, device, progress or Silent()).values())


class Listener(Silent):
    """Remembers what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize("short_side", [32, 37, 40, 61])
@pytest.mark.parametrize("spatial", ["fully_conv", "ten_crop", "centre_crop"])
def test_views_are_those_of_the_cpu(motley, short_side, spatial):
    """Of every size and modality, to a thousandth of a level."""
    how = protocol(short_side=short_side, spatial=spatial)
    for video in motley.part("1", "test")[:3]:
        ours, theirs = (read_stored_video(motley, video, BOTH, 2, how, device) for device in (CPU, GPU))
        assert ours.size == theirs.size and theirs.frames.dtype == theirs.fields.dtype == torch.uint8
        for view in how.views(*ours.size):
            for first, last in ((0, None), (1, 3)):
                pairs = zip(*(x.network_inputs(BOTH, view, GPU, first, last) for x in (ours, theirs)), strict=True)
                for (one, other), scale in zip(pairs, (255 * min(RGB_STD), FLOW_STD), strict=True):
                    assert one.shape == other.shape
                    assert not one.numel() or float((one - other).abs().max()) * scale < 1e-3


@pytest.mark.parametrize("spatial", ["fully_conv", "ten_crop"])
def test_products_that_resize_have_aligned_rows(motley, spatial):
    how = protocol(short_side=61, spatial=spatial)  # of an odd size, from odd sizes
    for video in motley.part("1", "test")[:2]:
        given = read_stored_video(motley, video, BOTH, 2, how, GPU)
        with LeadingDimensions() as rows:
            for view in how.views(*given.size):
                given.network_inputs(BOTH, view, GPU)
        assert rows.found and not [length for length in rows.found if length % 8]


@pytest.mark.parametrize("average", ["logits", "softmax"])
def test_scores_are_those_of_the_cpu(motley, average):
    network = stable_pair()
    for how in (protocol(average=average), protocol(average=average, spatial="ten_crop", short_side=40)):
        assert_same_logits(scored(network, motley, how, GPU), scored(network, motley, how, CPU), 1e-4)


def test_nothing_is_left_on_the_cpu(motley, monkeypatch):
    """On a device whose tensors have no values: work that mixes devices fails there as on a GPU."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which knows no such device
    nowhere = Device(torch.device("meta"), cuts_pictures=True)
    network, how = stable_pair().to("meta"), protocol(mirror_order=[1, 0, 2], average="softmax")
    video = read_stored_video(motley, motley.part("1", "test")[0], BOTH, 2, how, nowhere)
    for given in (video, video.on(nowhere)):
        with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):  # the scores, at the end
            compute_logits(network, [given, given], how, nowhere)


def test_long_waits_for_videos_are_named(motley, monkeypatch):
    def slowly(*given: object) -> Tensor:
        time.sleep(0.05)
        return read(*given)

    said, store = Listener(), Store(motley.folder)
    monkeypatch.setattr(batching, "LONG_TEST", 0.0)
    read, store.frames = store.frames, slowly
    network = OutsideNetwork(stable_pair().config, lambda given: [torch.zeros(len(given[0]), 3)] * 2)
    scored(network, store, protocol(flips=False), replace(GPU, free=1), said)
    [line] = said.lines
    assert line.startswith("waiting for videos took ") and "--loader-threads" in line
    monkeypatch.setattr(batching, "LONG_TEST", 3600.0)
    scored(network, store, protocol(flips=False), replace(GPU, free=1), said)
    assert said.lines == [line]


def recording(network: Network, shapes: list[tuple[int, ...]], largest: int = 2**40) -> OutsideNetwork:
    """The network as a function that notes the shapes of what it is given; too many videos are too much for it."""

    def run(given: Sequence[Tensor]) -> list[Tensor]:
        shapes.append(tuple(given[0].shape))
        if len(given[0]) > largest:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB.")
        return list(network(*given))

    return OutsideNetwork(network.config, run)


def test_videos_of_one_size_share_a_pass_wherever_they_are_in_the_list(motley):
    network, shapes = stable_pair(), []
    how = protocol(flips=False, short_side=40)
    found = scored(recording(network, shapes), motley, how, replace(GPU, free=2**30))
    assert sorted(shapes) == [(1, 3, 3, 40, 40), (3, 6, 3, 40, 40), (3, 6, 3, 40, 57)]
    alone = [scored(network, motley, how, replace(GPU, free=1)), scored(network, motley, how, CPU)]
    for other in alone:
        assert_same_logits(found, other, 1e-4)


def test_passes_follow_the_free_memory(motley):
    """256 bytes for each byte of a pixel's precision, in powers of two: here 1, 2 and 3 videos of 6 x 40 x 57 pixels."""
    how, pixel = protocol(flips=False, short_side=40), 6 * 40 * 57
    for precision, free, most in ((torch.float32, 2 * pixel * 1024, 1), (torch.float32, 3 * pixel * 1024, 2),
                                  (torch.bfloat16, 3 * pixel * 1024, 3)):  # fmt: skip
        shapes: list[tuple[int, ...]] = []
        scored(recording(stable_pair(), shapes), motley, how, replace(GPU, free=free, precision=precision))
        assert max(shape[0] for shape in shapes if shape[-1] == 57) == most, (precision, free, shapes)


def greedy(network: Network, largest: int, sizes: list[tuple[int, int]]) -> Network:
    """A network that runs out of memory when it is given more than `largest` pixels; it notes videos and chunks."""

    run = network.feature_maps

    def feature_maps(*given: Tensor) -> tuple[Tensor, ...]:
        videos, chunks, _, height, width = given[0].shape
        sizes.append((videos, chunks))
        if videos * chunks * height * width > largest:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB.")
        return run(*given)

    network.feature_maps = feature_maps
    return network


def test_memory_that_runs_out_splits_the_batch_and_then_time(motley):
    pixel, said = 40 * 40, Listener()
    how, gpu = protocol(flips=False, short_side=40), replace(GPU, free=2**30)
    plain = stable_pair(temporal=TemporalConfig(injector="none"))
    whole = scored(plain, motley, how, gpu)
    sizes: list[tuple[int, int]] = []
    found = scored(greedy(plain, 4 * pixel, sizes), motley, how, gpu, said)
    assert sizes[:3] == [(3, 6), (1, 6), (1, 4)]  # three videos of six chunks; one video; four of its chunks
    assert [line.split(": ")[0] for line in said.lines] == ["out of memory on the GPU (2.5 GiB more asked for)"] * len(
        said.lines
    )
    assert_same_logits(found, whole, 1e-4)
    with pytest.raises(
        StmnError, match=r"not even the smallest part of a video fits: try --precision bfloat16 or fewer"
    ):
        scored(greedy(plain, pixel - 1, []), motley, how, gpu)


def test_network_that_cant_be_split_in_time_is_split_in_batch(motley):
    shapes: list[tuple[int, ...]] = []
    how = protocol(flips=False, short_side=40)
    found = scored(recording(stable_pair(), shapes, largest=1), motley, how, replace(GPU, free=2**30))
    assert {shape[0] for shape in shapes[2:]} <= {1, 3} and [shape[0] for shape in shapes].count(1) == 7
    assert_same_logits(found, scored(stable_pair(), motley, how, CPU), 1e-4)


def test_videos_that_dont_fit_ahead_are_sent_pass_by_pass(motley):
    """The flow of a video of 40 x 40 pixels has 12 fields and more, of 3,200 bytes each."""
    how = protocol(flips=False, short_side=40)
    small, network = (
        replace(GPU, largest=9 * 2 * 40 * 57, free=2**20),
        stable_pair(temporal=TemporalConfig(injector="none")),
    )
    assert_same_logits(scored(network, motley, how, small), scored(network, motley, how, CPU), 1e-4)


def test_pinned_memory_that_runs_out_is_not_the_gpus(motley, monkeypatch):
    """CUDA gives out pinned memory, and its errors name CUDA."""

    def fail(_: Tensor) -> Tensor:
        raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported")

    video = read_stored_video(motley, motley.part("1", "test")[0], BOTH, 2, protocol(), GPU)
    monkeypatch.setattr(Tensor, "pin_memory", fail)
    with pytest.raises(MemoryError) as caught:
        video.pinned()
    assert str(find_shortage(caught.value)) == "a video's pictures in pinned memory: out of memory"


@pytest.mark.cuda
def test_scores_of_a_gpu_are_those_of_the_cpu(motley):
    network, how = stable_pair(), protocol(short_side=40)
    gpu = choose_device("cuda", "float32", 3)
    assert_same_logits(scored(network, motley, how, gpu), scored(network, motley, how, CPU), 1e-4)
    one, other = (scored(network, motley, how, gpu) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.cuda
def test_half_precision_of_a_gpu_stays_near_the_cpu(motley):
    network, how = stable_pair(), protocol(short_side=40)
    found, expected = (
        scored(network, motley, how, device)
        for device in (choose_device("cuda", "bfloat16", 3), choose_device("cpu", "float32"))
    )
    assert_same_logits(found, expected, 0.05)


@pytest.mark.cuda
def test_memory_of_a_gpu_that_runs_out_splits_passes(motley, monkeypatch):
    """The GPU believes that it has more than it gives."""
    network, how = stable_pair(temporal=TemporalConfig(injector="none")), protocol(flips=False, short_side=1024)
    gpu, said = choose_device("cuda", "float32", 3), Listener()
    whole = scored(network, motley, how, gpu)
    monkeypatch.setattr(Device, "free_memory", lambda _: 2**40)
    with limit_gpu_memory(1.2e9, gpu.device):
        found = scored(network, motley, how, gpu, said)
    assert any("out of memory on the GPU" in line for line in said.lines)
    assert_same_logits(found, whole, 1e-4)


# The commands


def test_commands_print_the_same(own, monkeypatch):
    """evaluate, predict and features; the file of scores is the same each time."""
    video = next((own.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))

    def run(*words: object) -> str:
        done = call(*words, "-w", own.root)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    def scores() -> tuple[Tensor, bytes]:
        run("evaluate", "fused", "--force", "--loader-threads", 2)
        file = own.newest("scores").output("scores")
        return load_scores(file).mean(), file.read_bytes()

    (plain, file), predicted = scores(), run("predict", "fused", video)
    run("features", "fused", video, "--out", own.root / "plain.npz")
    cut_on_the_device(monkeypatch)
    (found, first), (_, second) = scores(), scores()
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)
    assert first == second != file
    assert run("predict", "fused", video) == predicted
    run("features", "fused", video, "--out", own.root / "gpu.npz")
    with np.load(own.root / "plain.npz") as ours, np.load(own.root / "gpu.npz") as theirs:
        for name in set(ours) - {"about"}:
            np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-3, atol=1e-3)
