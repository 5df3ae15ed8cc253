"""Building a wheel: with `STMN_BUILD_KERNELS=1` it brings the C kernels, compiled for the CPUs of this kind of machine.

Without it the wheel is pure Python, and kernels are compiled at first use.
"""

import importlib.util
import os
import shlex
import subprocess
import sysconfig
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):
    """Compiles every kernel of the package for every level of this machine."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the kernels and add them to the wheel, which is then for this kind of machine alone.

        Raises:
            RuntimeError: There are no levels for this machine.
            CalledProcessError: The compiler failed.
        """
        if version == "editable" or os.environ.get("STMN_BUILD_KERNELS") != "1":
            return
        root = Path(self.root)
        kernel_files = _load(root / "stmn" / "runtime" / "kernel_files.py")
        levels = kernel_files.LEVELS.get(kernel_files.find_machine())
        if not levels:
            raise RuntimeError(f"no kernels are built for {kernel_files.find_machine()}")
        compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
        for described in sorted(root.glob("stmn/**/kernel/kernels.toml")):
            for name in tomllib.loads(described.read_text(encoding="utf-8")):
                files = kernel_files.KernelFiles.read(described.parent, name)
                for march in levels:
                    target = files.built(march)
                    inside = target.relative_to(root)
                    built = root / "build" / "kernels" / inside
                    built.parent.mkdir(parents=True, exist_ok=True)
                    subprocess.run(files.make_command(compiler, march, built), check=True)
                    build_data["force_include"][str(built)] = inside.as_posix()
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def _load(path: Path) -> ModuleType:
    """A module of the package, without the package and what it imports."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
