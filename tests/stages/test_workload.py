"""The estimate of `run --dry-run` rests on the rate of training, which a GPU reaches only with enough work at once."""

import pytest
import torch

from stmn.nets.config import NetworkConfig
from stmn.stages import workload


def measure(
    monkeypatch: pytest.MonkeyPatch, overhead: float, a_video: float, most: int, is_gpu: bool = True
) -> tuple[float, list[int]]:
    """What `measure_rate` says of a machine, as a share of its true rate, and the videos of each step that it timed.

    Args:
        overhead: seconds of a step whatever its size, such as launches of kernels.
        a_video: seconds of a video, with enough of them at once.
        most: videos that fit into the machine's memory.
    """
    timed, work = [], []

    def measure_step(config: NetworkConfig, videos: int, chunks: int, device: str) -> float:
        timed.append(videos)
        work.append(workload.TRAINING_PASSES * workload.count_cost(config)[1] * chunks)
        if videos > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB.")
        return overhead + videos * chunks * a_video

    monkeypatch.setattr(workload, "measure_step", measure_step)
    monkeypatch.setattr(workload, "name_device", lambda device: ("H100" if is_gpu else "this CPU", is_gpu))
    rate, _ = workload.measure_rate("auto")
    return rate * a_video / work[0], timed


@pytest.mark.parametrize("overhead", [0.0, 0.003, 0.02])
def test_rate_of_a_gpu_is_that_of_large_steps(monkeypatch, overhead):
    share, _ = measure(monkeypatch, overhead, a_video=1e-4, most=2**30)
    assert 0.8 < share <= 1.0


def test_rate_of_a_small_gpu_is_that_of_the_largest_step_that_fits(monkeypatch):
    share, timed = measure(monkeypatch, 0.02, a_video=1e-4, most=100)
    assert timed == [8, 16, 32, 64, 128]
    assert share == pytest.approx(64e-4 / (0.02 + 64e-4))


def test_steps_that_take_long_are_not_made_longer(monkeypatch):
    _, timed = measure(monkeypatch, overhead=2.0, a_video=0.1, most=2**30)
    assert timed == [8]


def test_cpu_is_measured_once(monkeypatch):
    share, timed = measure(monkeypatch, 0.0, a_video=1e-2, most=2**30, is_gpu=False)
    assert timed == [8] and share == pytest.approx(1.0)
