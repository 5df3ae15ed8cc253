"""`stmn doctor`: what is installed, what is missing, what that costs, and how to get it."""

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path
from typing import Any

from stmn.cli.app import command, make_app
from stmn.cli.console import answer, answer_json
from stmn.cli.parameters import Json
from stmn.errors import count_of

app = make_app()

_PACKAGES = ("torch", "torchvision", "timm", "av", "numpy", "scikit-learn", "safetensors")
#: extra -> what it adds
_GIVES = {
    "export": "export --format onnx, predict model.onnx",
    "openvino": "export --format openvino",
    "report": "report, compare --page, the page at the end of train",
    "opencv": "prepare --flow dis and farneback, idt",
    "hub": "push, hf://user/name",
    "cluster": "prepare --cluster",
    "parquet": "predict --out FILE.parquet",
    "tensorboard": "train-stream and fuse --logger tensorboard",
    "notebook": "bars in notebooks",
    "browse": "browse",
    "tune": "tune",
}
#: not shown: "all" has all the others, "dev" is for people who change the code
_NO_EXTRAS = ("all", "dev")
_WIDTH = 14
#: systems on which the tests have run
_RUN_ON = ("Linux x86_64",)


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
                answer(f"  {name:<{_WIDTH}} {_say(state)}")
        else:
            answer(f"{key + ':':<{_WIDTH + 2}} {value}")


def _say(state: Any) -> str:
    """An extra, or any other fact, in a line."""
    if not isinstance(state, dict):
        return str(state)
    how = "installed" if state["installed"] else f"lacks {', '.join(state['missing'])}: {state['install']}"
    return f"{state['gives']}: {how}"


def _examine() -> dict[str, Any]:
    """Everything that `doctor` reports."""
    import av

    from stmn import registry
    from stmn.runtime.device import find_device
    from stmn.stages.machine import describe_flow, list_kernels

    compiler = next(
        (found for c in (os.environ.get("CC"), "cc", "gcc", "clang") if c and (found := shutil.which(c))), None
    )
    encoder = "libx264" if "libx264" in av.codecs_available else "missing: the synthetic data set needs it"
    return {
        "stmn": version("stmn"),
        "python": sys.version.split()[0],
        "system": _describe_system(),
        "packages": {name: _package_version(name) for name in _PACKAGES},
        "device": "cuda" if find_device("auto").type == "cuda" else _describe_cpu(),
        "GPU": _describe_gpus(),
        "flow": describe_flow(),
        "C compiler": compiler or "missing; what needs a kernel is slower (below)",
        "kernels": list_kernels(),
        "decoder": f"PyAV {av.__version__}, FFmpeg libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}",
        "H.264 encoder": encoder,
        "plugins": {kind: len(registry.plugins(kind)) for kind in registry.KINDS},
        "extras": dict(_list_extras()),
        "folders": {name: _describe_folder(path) for name, path in _list_folders()},
    }


def _describe_cpu() -> str:
    """The cores, and whether half precision is worth trying on them."""
    from stmn.runtime.cores import count_cores
    from stmn.runtime.device import has_fast_bfloat16

    faster = "; it has bfloat16: --precision bfloat16 trains faster" if has_fast_bfloat16() else ""
    return f"cpu: {count_of(count_cores(), 'core')}{faster}"


def _describe_system() -> str:
    """This system and machine, and whether stmn has been run on that kind."""
    name = f"{platform.system()} {platform.machine()}"
    return name if name in _RUN_ON else f"{name}: stmn should run on it, but has not been run on it yet"


def _package_version(name: str) -> str:
    """A package's version, or "missing"."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _describe_gpus() -> str:
    """The GPUs with their memory and driver, or why none can be used."""
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda
        what = f"this torch is built for CUDA {built}, and finds no GPU or driver" if built else "torch has no CUDA"
        return f"none: {what}"
    found = []
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        found.append(f"cuda:{number} {about.name}, {about.total_memory / 2**30:.0f} GiB")
    return f"{'; '.join(found)}; CUDA {torch.version.cuda}, driver {_driver_version()}"


def _driver_version() -> str:
    """The version of NVIDIA's driver, as the system reports it."""
    try:
        found = re.search(r"\d+\.\d+(\.\d+)?", Path("/proc/driver/nvidia/version").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found[0] if found else "unknown"


def _list_extras() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every extra: what it adds, which of its packages are missing, and how to install it."""
    for extra in metadata("stmn").get_all("Provides-Extra") or []:
        if extra not in _NO_EXTRAS:
            missing = sorted(name for name in _packages_of(extra) if _package_version(name) == "missing")
            install = f"pip install 'stmn[{extra}]'"
            yield (
                extra,
                {"gives": _GIVES.get(extra, extra), "installed": not missing, "missing": missing, "install": install},
            )


def _packages_of(extra: str) -> set[str]:
    """The packages that an extra needs, including those of extras that it includes."""
    found: set[str] = set()
    for line in metadata("stmn").get_all("Requires-Dist") or []:
        needed = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?.*extra == ['\"]([\w-]+)['\"]", line)
        if needed and needed[3] == extra:
            others = needed[2].split(",") if needed[1] == "stmn" and needed[2] else []
            found |= {name for other in others for name in _packages_of(other)} or {needed[1]}
    return found


def _list_folders() -> Iterator[tuple[str, Path]]:
    """The workspace, and the folders outside it where things are kept."""
    from stmn.settings import load_settings

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    yield "workspace", load_settings().workspace.absolute()
    yield "kernels", cache / "stmn"
    home = Path(os.environ.get("HF_HOME") or cache / "huggingface")
    yield "hub", Path(os.environ.get("HF_HUB_CACHE") or home / "hub")


def _describe_folder(path: Path) -> str:
    """A folder, and the free space on its disk."""
    if not path.is_dir():
        return f"{path}, not there yet"
    room = shutil.disk_usage(path).free / 2**30
    return f"{path}, {room:,.0f} GiB free"
