"""C kernels, compiled at first use and kept in the user's cache.

They are not built when the package is installed: one wheel serves every platform, and `-march=native` makes a kernel
twice as fast as what a wheel could assume of a CPU.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper


class Unavailable(Exception):
    """There is no C kernel here; the message says why. Callers have another way and never let it pass."""


@dataclass(frozen=True)
class Kernel:
    """`NAME.c` and what it includes, in the folder `kernel` of a package, with the compiler flags it wants."""

    name: str
    package: str
    flags: tuple[str, ...]

    def load(self) -> ctypes.CDLL:
        """The compiled library, from the cache or made now. Raises `Unavailable`."""
        compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
        if shutil.which(compiler[0]) is None:
            raise Unavailable(f"no C compiler '{compiler[0]}' on the path")
        try:
            try:
                target = self.target(compiler)
            except OSError:  # no home, or one that cannot be written: for this process only, then
                with tempfile.TemporaryDirectory() as folder:
                    return self.compile(compiler, Path(folder) / f"{self.name}.so")
            if target.exists():
                try:
                    return ctypes.CDLL(str(target))
                except OSError:  # cut short by a full disc, say: make it anew
                    target.unlink()
            return self.compile(compiler, target)
        except OSError as error:
            raise Unavailable(f"cannot write or load the compiled kernel: {error}") from error

    def sources(self) -> dict[str, bytes]:
        """The kernel's files by name."""
        folder = resources.files(self.package).joinpath("kernel")
        return {file.name: file.read_bytes() for file in sorted(folder.iterdir(), key=lambda file: file.name)}

    def target(self, compiler: list[str]) -> Path:
        """Where the library belongs. Home directories are shared between machines, and it fits one kind of CPU only."""
        made_of = (self.sources(), compiler, self.flags, platform.machine(), cpu())
        return cache_folder() / f"{self.name}-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]}.so"

    def compile(self, compiler: list[str], target: Path) -> ctypes.CDLL:
        """Compiles beside the target, then renames: processes that do this at the same time cannot harm each other."""
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as folder:
            for name, text in self.sources().items():
                (Path(folder) / name).write_bytes(text)
            source, built = Path(folder) / f"{self.name}.c", Path(folder) / f"{self.name}.so"
            command = [*compiler, *self.flags, "-fPIC", "-shared", str(source), "-o", str(built), "-lm"]
            try:
                run = subprocess.run(command, capture_output=True, text=True, timeout=120)
            except (OSError, subprocess.SubprocessError) as error:
                raise Unavailable(f"{shlex.join(command)}: {error}") from error
            if run.returncode:
                raise Unavailable(f"{shlex.join(command)} failed: {run.stderr.strip()[-500:]}")
            os.replace(built, target)
        return ctypes.CDLL(str(target))


#: a kernel's library, or why there is none
Loaded = tuple[ctypes.CDLL | None, str | None]


def load_once(kernel: Kernel) -> Callable[[Callable[[ctypes.CDLL], None]], "_lru_cache_wrapper[Loaded]"]:
    """Makes of a function that declares the library's functions one that loads the kernel: tried once a process."""

    def loading(declare: Callable[[ctypes.CDLL], None]) -> "_lru_cache_wrapper[Loaded]":
        @lru_cache(maxsize=1)
        def load() -> Loaded:
            try:
                library = kernel.load()
            except Unavailable as error:
                return None, str(error)
            declare(library)
            return library, None

        return load

    return loading


def cache_folder() -> Path:
    """Where compiled kernels are kept, made if it is not there."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "stmn"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cpu() -> str:
    """Model and abilities of this CPU, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    seen = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    return "|".join(value for key, value in sorted(seen.items()) if key.strip() in {"model name", "flags", "Features"})
