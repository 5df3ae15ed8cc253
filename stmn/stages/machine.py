"""Describe what this machine computes with: the flow of `prepare`, and the C kernels."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stmn.runtime.compiled import Kernel

#: packages with a folder of kernels
_PACKAGES = ("stmn.flow", "stmn.sampling", "stmn.nets.fast", "stmn.idt.trajectories")


def describe_flow() -> str:
    """Describe in a line how `prepare` computes TV-L1 on this machine's best device."""
    from stmn.flow.backend import describe_backend

    return describe_backend()


def list_kernels() -> dict[str, str]:
    """Name of each C kernel -> its origin, or what is slower without it. Nothing is compiled."""
    from stmn.runtime.compiled import Kernel

    return {
        name: _describe(Kernel(name, package))
        for package in _PACKAGES
        for name in tomllib.loads((_folder(package) / "kernels.toml").read_text(encoding="utf-8"))
    }


def _describe(kernel: "Kernel") -> str:
    """The origin of a kernel, or the cost of its absence."""
    origin = kernel.find_origin()
    return origin or f"unavailable: {kernel.files().without}"


def _folder(package: str) -> Path:
    """The folder of a package's kernels."""
    return Path(str(resources.files(package).joinpath("kernel")))
