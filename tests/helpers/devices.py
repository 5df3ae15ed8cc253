"""A CPU that works as a GPU does, so that a GPU's path is tested where there is none."""

from dataclasses import replace

import pytest

from stmn.prediction import api
from stmn.runtime import device as devices
from stmn.runtime.device import Device


def cut_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on commands send 8-bit pictures to the CPU as to a GPU: it cuts, resizes and normalises them."""

    def choose_cutting(*chosen: object) -> Device:
        return replace(choose(*chosen), cuts_pictures=True)

    choose = devices.choose_device
    for module in (devices, api):
        monkeypatch.setattr(module, "choose_device", choose_cutting)
