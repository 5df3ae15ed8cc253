"""What a device's name means. What CUDA and its driver would answer is made up, so this needs no GPU."""

import pytest
import torch
from helpers.gpus import pretend_gpus

from stmn.errors import UsageError
from stmn.flow.backend import choose_owned, describe_backend
from stmn.runtime.device import choose_device, find_device
from stmn.runtime.notices import notices_to


def test_cuda_is_the_first_gpu_also_after_another_one(monkeypatch):
    """So there is one name, one copy stream and one current GPU for each."""
    made_current = pretend_gpus(monkeypatch, (9, 0), (9, 0))
    chosen = [choose_device(name, "float32") for name in ("cuda:1", "cuda", "cuda:0", "auto")]
    assert [str(device.device) for device in chosen] == ["cuda:1", "cuda:0", "cuda:0", "cuda:0"]
    assert made_current == [device.device for device in chosen]


def test_auto_takes_no_gpu_that_torch_has_no_code_for(monkeypatch):
    """And says why. A GPU is judged by its own driver, in whose order torch numbers them too."""
    pretend_gpus(monkeypatch, (7, 0), (9, 0), built="sm_75 sm_80 sm_90 compute_90")
    said: list[str] = []
    with notices_to(said.append):
        assert find_device("auto") == torch.device("cpu")
        assert choose_owned("auto", "tvl1", videos=100) == []
        assert " on the CPU (" in describe_backend("auto")
    [line] = [line for line in said if line.startswith("cuda:0")]
    assert line == (
        f"cuda:0 is not used: its compute capability is 7.0, and torch {torch.__version__} is built for 7.5 and higher"
    )
    with pytest.raises(
        UsageError, match=r"^device 'cuda:0': its compute capability is 7\.0, .*; use --device cpu, .*$"
    ):
        find_device("cuda")
    with pytest.raises(UsageError, match=r"^device 'cuda:0': its compute capability is 7\.0"):
        choose_owned("cuda:1,cuda:0", "tvl1", videos=1)
    assert choose_owned("cuda:1", "tvl1", videos=1) == ["cuda:1"]


@pytest.mark.parametrize("built", ["sm_60 sm_70", "sm_50 sm_90a", "gfx90a", ""])
def test_auto_takes_a_gpu_that_torch_has_code_for_or_may_have(built, monkeypatch):
    pretend_gpus(monkeypatch, (7, 0), built=built)
    assert find_device("auto") == torch.device("cuda:0")
    assert choose_owned("auto", "tvl1", videos=100) == ["cuda:0"]


def test_driver_that_does_not_answer_takes_no_gpu_away(monkeypatch):
    pretend_gpus(monkeypatch, None)
    assert find_device("auto") == torch.device("cuda:0")
