"""The network's forward pass in ONNX Runtime, by CUDA and by TensorRT where they are, beside PyTorch's.

One video of 25 chunks of 256 x 341, whose input lies on the GPU already. The ONNX file is that of `stmn export`.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.cuda._gpu import seconds_of
from benchmarks.cuda._pair import QUICK_SIDES, SIDES, build_pair
from stmn.evaluation.inference import for_inference
from stmn.exporting.base import example_inputs
from stmn.exporting.onnx import OnnxExporter
from stmn.nets.checkpoint import Description, TrainedOn
from stmn.nets.network import Network
from stmn.runtime.device import Device
from stmn.runtime.precision import exact_float32
from stmn.store.format.header import Preparation

#: of ONNX Runtime; the first is for a CPU
PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "TensorrtExecutionProvider"]}


def measure(device: Device, quick: bool) -> dict[str, Any]:
    """Videos per second of one view, in float32, and how far from PyTorch's logits, as a share of the largest."""
    import onnxruntime

    network, side = build_pair(quick).eval(), (QUICK_SIDES if quick else SIDES)[0]
    description = _describe(network, side)
    given = [x.to(device.device) for x in example_inputs(network, description, 1, 3 if quick else 25, side // 3)]
    fast, rounds = for_inference(network, device), (0, 1) if quick else (3, 10)

    @torch.inference_mode()
    def run() -> tuple[Tensor, ...]:
        with exact_float32():
            return fast(*given)  # type: ignore[no-any-return]

    result: dict[str, Any] = {"pytorch": {"videos_a_second": round(1 / seconds_of(run, device.device, *rounds), 3)}}
    expected = [output.cpu() for output in run()]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        OnnxExporter().write(network, description, example_inputs(network, description, 2, 3, 32), path)
        for provider in PROVIDERS[device.device.type]:
            here = onnxruntime.get_available_providers()
            if provider not in here:
                result[provider] = {"absent": f"this onnxruntime has {', '.join(here)}"}
                continue
            result[provider] = _time_provider(path, provider, given, expected, device, rounds)
    return result


def _describe(network: Network, side: int) -> Description:
    """What the file says of a network that was trained on nothing."""
    how = Preparation(short_side=side, flow="tvl1", bound=20.0, quality=95, camera_motion="keep")
    return Description(network.config, how, TrainedOn(data="", split="1", videos=[]))


def _time_provider(
    path: Path, provider: str, given: list[Tensor], expected: list[Tensor], device: Device, rounds: tuple[int, int]
) -> dict[str, Any]:
    """Load the file and run it on tensors that are on the device."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    number = device.device.index or 0
    chosen = list(dict.fromkeys([provider, PROVIDERS[device.device.type][0]]))  # CUDA has what TensorRT lacks
    more = [{"device_id": number} if device.is_cuda else {} for _ in chosen]
    session = onnxruntime.InferenceSession(str(path), options, providers=chosen, provider_options=more)
    if session.get_providers()[0] != provider:  # it fell back to the CPU
        return {"absent": f"it can't be loaded; {session.get_providers()[0]} would take its place"}
    binding = session.io_binding()
    for entry, tensor in zip(session.get_inputs(), given, strict=True):
        place = tensor.contiguous().data_ptr()
        binding.bind_input(entry.name, device.device.type, number, np.float32, tuple(tensor.shape), place)
    for entry in session.get_outputs():
        binding.bind_output(entry.name, device.device.type, number)
    seconds = seconds_of(lambda: session.run_with_iobinding(binding), device.device, *rounds)
    found = [torch.from_numpy(output) for output in binding.copy_outputs_to_cpu()]
    apart = max(
        float((one - other).abs().max() / other.abs().max()) for one, other in zip(found, expected, strict=True)
    )
    return {"videos_a_second": round(1 / seconds, 3), "largest_difference": apart}
