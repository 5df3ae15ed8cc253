"""GPUs as torch and NVIDIA's driver would report them, where there are none. Nothing can be computed on them."""

import ctypes
from typing import Any

import pytest
import torch

from stmn.runtime import cuda_driver

#: the numbers in NVIDIA's cuda.h
_MAJOR, _MINOR, _UNKNOWN = 75, 76, 999


class Driver:
    """NVIDIA's driver library: functions that return an error, or 0, and put results where their arguments point."""

    def __init__(self, capabilities: tuple[tuple[int, int] | None, ...]) -> None:
        self.capabilities, self.begun = capabilities, False

    def cuInit(self, flags: int) -> int:  # noqa: N802 (the driver's name)
        self.begun = True
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802 (the driver's name)
        return self._put(count, len(self.capabilities))

    def cuDeviceGet(self, device: Any, number: int) -> int:  # noqa: N802 (the driver's name)
        return self._put(device, 100 + number) if number < len(self.capabilities) else _UNKNOWN

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: ctypes.c_int) -> int:  # noqa: N802 (the driver's name)
        found = self.capabilities[device.value - 100]
        return _UNKNOWN if found is None else self._put(value, {_MAJOR: found[0], _MINOR: found[1]}[attribute])

    def _put(self, where: Any, value: int) -> int:
        assert self.begun, "cuInit comes first"
        where._obj.value = value
        return 0


def pretend_gpus(
    monkeypatch: pytest.MonkeyPatch, *capabilities: tuple[int, int] | None, built: str = "sm_75 sm_90"
) -> list[torch.device]:
    """From now on there are GPUs of these compute capabilities, and torch is built for some.

    Args:
        monkeypatch: pytest's.
        capabilities: major and minor; None if the driver doesn't tell.
        built: torch's list of architectures.

    Returns:
        A list that receives each device that is made the current one.
    """
    made_current: list[torch.device] = []
    monkeypatch.setattr(cuda_driver, "list_drivers", lambda: iter([Driver(capabilities)]))
    for name, stand_in in {
        "is_available": lambda: True, "device_count": lambda: len(capabilities), "get_arch_list": built.split,
        "set_device": made_current.append,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return made_current
