"""The network's forward pass in ONNX Runtime, by CUDA and by TensorRT where they are, beside PyTorch's.

One video of 25 chunks of 256 x 341, whose input lies on the GPU already. The ONNX file is that of `stmn export`. The
CUDA provider computes in full float32, by an option. TensorRT uses TF32, so there is a row of PyTorch in TF32.
"""

import time
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.cuda._gpu import attempt, seconds_of
from benchmarks.cuda._pair import QUICK_SIDES, SIDES, build_pair
from stmn.evaluation.inference import for_inference
from stmn.exporting.base import example_inputs
from stmn.exporting.onnx import OnnxExporter
from stmn.nets.checkpoint import Description, TrainedOn
from stmn.nets.network import Network
from stmn.runtime.device import Device
from stmn.runtime.precision import float32_products
from stmn.store.format.header import Preparation

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
#: ONNX Runtime's providers for a device, with the precision of their products; TensorRT's can't be chosen
PROVIDERS = {"cpu": {CPU: "float32"}, "cuda": {CUDA: "float32", TENSORRT: "tf32"}}


def measure(device: Device, quick: bool) -> dict[str, Any]:
    """Videos per second of one view, and how far from PyTorch's float32 logits, as a share of the largest."""
    network, side = build_pair(quick).eval(), (QUICK_SIDES if quick else SIDES)[0]
    description = _describe(network, side)
    examples = example_inputs(network, description, 1, 3 if quick else 25, side // 3)
    given = [x.to(device.device).contiguous() for x in examples]  # as ONNX Runtime reads it
    fast, rounds = for_inference(network, device), (0, 1) if quick else (3, 10)

    @torch.inference_mode()
    def compute(tf32: bool = False) -> list[Tensor]:
        with float32_products(tf32):
            return list(fast(*given))

    expected = [output.cpu() for output in compute()]

    def time_pytorch(tf32: bool) -> dict[str, Any]:
        seconds = seconds_of(lambda: compute(tf32), device.device, *rounds)
        found = [output.cpu() for output in compute(tf32)]
        return _row(seconds, "tf32" if tf32 else "float32", found, expected)

    result = {"pytorch": attempt(lambda: time_pytorch(tf32=False), device.device)}
    if device.is_cuda:
        result["pytorch_tf32"] = attempt(lambda: time_pytorch(tf32=True), device.device)
    problems = {provider: find_problem(provider) for provider in PROVIDERS[device.device.type]}
    result |= {provider: {"absent": problem} for provider, problem in problems.items() if problem}
    if all(problems.values()):
        return result
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"

        def export() -> dict[str, Any]:
            started = time.perf_counter()
            OnnxExporter().write(network, description, example_inputs(network, description, 2, 3, 32), path)
            return {"seconds": round(time.perf_counter() - started, 1)}

        result["export"] = attempt(export, device.device)
        for provider in [name for name, problem in problems.items() if not problem and "error" not in result["export"]]:
            timing = partial(_time_provider, path, provider, given, expected, device, rounds)
            result[provider] = attempt(timing, device.device)
    return result


def find_problem(provider: str) -> str:
    """Why ONNX Runtime has no such provider here; empty if it has."""
    try:
        here = import_module("onnxruntime").get_available_providers()
    except Exception as error:  # besides a missing package: libraries that it doesn't find
        return f"onnxruntime: {type(error).__name__}: {error}"
    return "" if provider in here else f"this onnxruntime has {', '.join(here)}"


def open_session(path: Path, provider: str, device: Device) -> Any:
    """An ONNX Runtime session of a file, by a provider on a device; in float32, except for TensorRT."""
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    where = {"device_id": str(device.device.index or 0)} if device.is_cuda else {}
    chosen = [(provider, where)]
    if device.is_cuda:  # CUDA's runs what TensorRT can't; its default is TF32
        tf32 = "1" if PROVIDERS["cuda"][provider] == "tf32" else "0"
        chosen = [*(chosen if provider != CUDA else []), (CUDA, where | {"use_tf32": tf32})]
    return onnxruntime.InferenceSession(str(path), options, providers=chosen)


def _describe(network: Network, side: int) -> Description:
    """What the file says of a network that was trained on nothing."""
    how = Preparation(short_side=side, flow="tvl1", bound=20.0, quality=95, camera_motion="keep")
    return Description(network.config, how, TrainedOn(data="", split="1", videos=[]))


def _time_provider(
    path: Path, provider: str, given: list[Tensor], expected: list[Tensor], device: Device, rounds: tuple[int, int]
) -> dict[str, Any]:
    """Load the file and run it on tensors that are on the device."""
    session, number = open_session(path, provider, device), device.device.index or 0
    if session.get_providers()[0] != provider:  # it fell back to the CPU
        return {"absent": f"it can't be loaded; {session.get_providers()[0]} would take its place"}
    binding = session.io_binding()
    for entry, tensor in zip(session.get_inputs(), given, strict=True):
        binding.bind_input(entry.name, device.device.type, number, np.float32, tuple(tensor.shape), tensor.data_ptr())
    for entry in session.get_outputs():
        binding.bind_output(entry.name, device.device.type, number)
    seconds = seconds_of(lambda: session.run_with_iobinding(binding), device.device, *rounds)
    found = [torch.from_numpy(output) for output in binding.copy_outputs_to_cpu()]
    return _row(seconds, PROVIDERS[device.device.type][provider], found, expected)


def _row(seconds: float, precision: str, found: list[Tensor], expected: list[Tensor]) -> dict[str, Any]:
    """A row of the result: speed, precision of the products, and how far apart the outputs are."""
    apart = max(
        float((one - other).abs().max() / other.abs().max()) for one, other in zip(found, expected, strict=True)
    )
    return {"videos_a_second": round(1 / seconds, 3), "precision": precision, "largest_difference": apart}
