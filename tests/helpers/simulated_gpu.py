"""A simulated GPU: tensors that lie on the device `gpu`, where there is no real one.

Their values are in the host's memory, and each operation is done there. So whole commands run, with the numbers of the
CPU. But as on a real GPU an operation whose tensors are not all on it is an error, and so are NumPy's arrays of its
tensors. torch lets a GPU's tensors meet numbers, that is tensors of no dimension, and be indexed by the host's.
A list given to `on_gpu` receives the places where a host would wait for a real GPU.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from stmn.prediction import api
from stmn.runtime import device as devices
from stmn.runtime.device import Device

registration = pytest.importorskip("torch.utils.backend_registration")
if not hasattr(registration, "_setup_privateuseone_for_python_backend"):
    pytest.skip("this torch has no devices that are written in Python", allow_module_level=True)

#: operations that may have tensors on both sides: copies, and what is indexed by a tensor
_ACROSS = {"copy_", "_foreach_copy_", "index", "index_put", "index_put_", "_index_put_impl_"}
#: operations whose result is a number on the host, or a tensor whose size depends on values
_WAITING = {"_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select", "_unique2", "bincount"}


class Watch(Protocol):
    """Sees all operations on the GPU."""

    def before(self, name: str, operands: list["OnGpu"], host_waits: bool) -> None:
        """An operation begins."""

    def after(self, name: str, operands: list["OnGpu"], results: list["OnGpu"]) -> None:
        """It has ended."""

    def copy_late(self, target: Tensor, source: Tensor) -> None:
        """Copy between the host and the GPU, which nobody waits for yet."""


watch: Watch | None = None
_waits: list[str] | None = None


class OnGpu(Tensor):
    """A tensor on the GPU; `held` has its values."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnGpu":
        return torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device=gpu(),
        )  # fmt: skip

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __repr__(self, **_: object) -> str:
        return f"OnGpu({self.held})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _compute(func, args, kwargs or {})


class _Gpu(TorchDispatchMode):
    """Sees operations that make tensors on the GPU of none."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _compute(func, args, kwargs or {})


class _Module:
    """What torch asks of a device's module."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """Numbers are drawn by the host's generator."""

    def get_rng_state(self, device: object = None) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: object = None) -> None:
        torch.set_rng_state(state)


def gpu() -> torch.device:
    """The device; torch gets to know it once in a process."""
    if torch._C._get_privateuse1_backend_name() != "gpu":
        registration._setup_privateuseone_for_python_backend("gpu", backend_module=_Module())
    return torch.device("gpu", 0)


def _compute(func, args, kwargs):
    """Do an operation on the host. Its tensors are on the GPU if one of its operands is, or if it says so."""
    name = func.overloadpacket.__name__
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    on_gpu = [value for value in tensors if isinstance(value, OnGpu)]
    asked = kwargs.get("device")
    there = bool(on_gpu) if asked is None else torch.device(asked).type == "gpu"
    if on_gpu and name not in {*_ACROSS, "_to_copy"}:
        elsewhere = [value for value in tensors if not isinstance(value, OnGpu) and value.ndim > 0]
        if elsewhere:
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, and some are on the CPU")
    if name == "copy_":
        there = isinstance(args[0], OnGpu)
    ahead = bool(kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
    waits = _host_waits(name, tensors, there, ahead)
    if waits:
        note_wait(name)
    if watch and (there or on_gpu):
        watch.before(name, on_gpu, waits)
    late = watch is not None and ahead and name in ("copy_", "_to_copy") and _crosses(tensors, there)
    if late and name == "copy_":
        watch.copy_late(*args[:2])
        return args[0]
    plain = {key: value for key, value in kwargs.items() if key not in ("pin_memory", "non_blocking")}
    if asked is not None:
        plain["device"] = torch.device("cpu")
    found = func(*tree_map(_held, args), **tree_map(_held, plain))
    if there and name not in ("_local_scalar_dense", "equal"):
        known = {id(value.held): value for value in on_gpu}  # what was changed in place is the same tensor

        def put(value: object) -> object:
            if not isinstance(value, Tensor) or isinstance(value, OnGpu):
                return value
            return known[id(value)] if id(value) in known else OnGpu(value)

        found = tree_map(put, found)
        if watch:
            watch.after(name, on_gpu, [value for value in tree_flatten(found)[0] if isinstance(value, OnGpu)])
    if late:
        watch.copy_late(found, args[0])
    return found


def _crosses(tensors: list[Tensor], there: bool) -> bool:
    """True if an operation has tensors on the host and on the GPU, with its result."""
    return len({*(isinstance(tensor, OnGpu) for tensor in tensors), there}) == 2


def _host_waits(name: str, tensors: list[Tensor], there: bool, non_blocking: bool) -> bool:
    """True if the host would wait for a real GPU to have got so far."""
    on_gpu = [isinstance(tensor, OnGpu) for tensor in tensors]
    if name in ("_to_copy", "copy_", "_foreach_copy_"):
        return _crosses(tensors, there) and not non_blocking
    if name.startswith(("index", "_index_put")):  # a mask is counted; the host's indices are copied
        return any(on_gpu) and (not all(on_gpu) or any(tensor.dtype == torch.bool for tensor in tensors[1:]))
    return any(on_gpu) and name in _WAITING


def note_wait(name: str) -> None:
    """Tell the list that `on_gpu` was given that the host would wait now."""
    if _waits is not None:
        _waits.append(_place(name))


def _place(name: str) -> str:
    """The innermost line of stmn that is being run, and an operation."""
    frame = sys._getframe(1)
    while frame is not None and "/stmn/" not in frame.f_code.co_filename.replace("\\", "/"):
        frame = frame.f_back
    if frame is None:
        return name
    file = frame.f_code.co_filename.replace("\\", "/").rpartition("/stmn/")[2]
    return f"{file}:{frame.f_lineno}: {name}"


def _held(value: object) -> object:
    return value.held if isinstance(value, OnGpu) else value


def _stop_gradients(mode: torch.inference_mode) -> None:
    mode.before = torch.is_grad_enabled()
    torch.set_grad_enabled(False)


def _go_on(mode: torch.inference_mode, *error: object) -> None:
    torch.set_grad_enabled(mode.before)


@contextmanager
def on_gpu(monkeypatch: pytest.MonkeyPatch, waits: list[str] | None = None, **how: object) -> Iterator[None]:
    """In here `auto` means the GPU, used as `how` says (`stmn.runtime.device.Device`).

    Args:
        monkeypatch: pytest's.
        waits: receives a line of stmn and an operation each time that the host would wait for a real GPU.
        how: fields of the device.
    """
    global _waits
    new_generator, tensor, tolist = torch.Generator, torch.tensor, Tensor.tolist
    choose, before = devices.choose_device, torch.__future__.get_overwrite_module_params_on_conversion()

    def take_gpu(name: str = "auto", *chosen: object) -> Device:
        found = choose("cpu", *chosen)
        return found if name == "cpu" else replace(found, device=gpu(), **how)

    def run_with_gpu(thread: threading.Thread) -> None:
        with _Gpu():
            run(thread)

    run = threading.Thread.run
    with monkeypatch.context() as patch, _Gpu():
        patch.setattr(threading.Thread, "run", run_with_gpu)  # a mode is a thread's own
        # these make tensors of Python's numbers on the host, and move them where no mode sees it
        patch.setattr(torch, "tensor", lambda *values, device=None, **how: tensor(*values, **how).to(device))
        patch.setattr(Tensor, "new_tensor", lambda like, values: tensor(values, dtype=like.dtype).to(like.device))
        # what such a device lacks: lists of its values, generators of its own, and tensors that know no versions
        patch.setattr(Tensor, "tolist", lambda values: tolist(values.cpu()))
        patch.setattr(torch, "Generator", lambda device="cpu": new_generator())
        patch.setattr(torch.inference_mode, "__enter__", _stop_gradients)
        patch.setattr(torch.inference_mode, "__exit__", _go_on)
        for module in (devices, api):
            patch.setattr(module, "choose_device", take_gpu)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        _waits = waits
        try:
            yield
        finally:
            _waits = None
            torch.__future__.set_overwrite_module_params_on_conversion(before)
