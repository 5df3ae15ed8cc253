"""`stmn doctor`: what is here, and what each command lacks."""

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from stmn.cli.app import command, make_app
from stmn.cli.console import answer, answer_json
from stmn.cli.parameters import Json

app = make_app()

_PACKAGES = ("torch", "torchvision", "timm", "av", "numpy", "scikit-learn", "safetensors")
#: what needs it -> (modules, extra)
_OPTIONAL = {
    "export --format onnx": (("onnx", "onnxscript", "onnxruntime"), "export"),
    "export --format openvino": (("openvino", "onnx", "onnxscript"), "openvino"),
    "report": (("matplotlib", "jinja2"), "report"),
    "prepare --flow dis, farneback": (("cv2",), "opencv"),
    "idt": (("cv2",), "opencv"),
    "push, hf://user/name": (("huggingface_hub",), "hub"),
    "prepare --cluster": (("distributed",), "cluster"),
}


@command(app, examples=("stmn doctor", "stmn doctor --json"))
def doctor(as_json: Json = False) -> None:
    """Show versions and devices, and what is missing."""
    found = _examine()
    if as_json:
        answer_json(found, indent=1)
        return
    for key, value in found.items():
        if isinstance(value, dict):
            answer(f"{key}:")
            for name, state in value.items():
                answer(f"  {name:<58} {state}" if key == "commands" else f"  {name:<14} {state}")
        else:
            answer(f"{key + ':':<15} {value}")


def _package_version(name: str) -> str:
    """A package's version, or "missing"."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _examine() -> dict[str, Any]:
    """Everything that `doctor` reports."""
    import av
    import torch

    from stmn import registry
    from stmn.runtime.cores import count_cores
    from stmn.runtime.device import choose_device

    device = choose_device("auto").device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{count_cores()} cores"
    compiler = next(
        (found for c in (os.environ.get("CC"), "cc", "gcc", "clang") if c and (found := shutil.which(c))), None
    )
    lacking = {}
    for use, (modules, extra) in _OPTIONAL.items():
        missing = [module for module in modules if find_spec(module) is None]
        lacking[use] = f"needs {', '.join(missing)}: pip install 'stmn[{extra}]'" if missing else "ready"
    return {
        "stmn": version("stmn"),
        "python": f"{sys.version.split()[0]} on {platform.system()} {platform.machine()}",
        "packages": {name: _package_version(name) for name in _PACKAGES},
        "device": f"{device.type}: {name}",
        "decoder": f"PyAV {av.__version__}, FFmpeg libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}",
        "H.264 encoder": "libx264" if "libx264" in av.codecs_available else "missing: the synthetic data set needs it",
        "C compiler": compiler or "missing: TV-L1 flow, tracks and evaluate on a CPU are slower without it",
        "plugins": {kind: len(registry.plugins(kind)) for kind in registry.KINDS},
        "commands": {"prepare, train-stream, fuse, evaluate, fuse-idt, run, predict": "ready", **lacking},
    }
