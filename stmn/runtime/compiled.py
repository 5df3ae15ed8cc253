"""C kernels, compiled at first use and kept in the user's cache, if this user alone can write there.

They are not built when the package is installed: one wheel serves every platform, and a kernel built with
`-march=native` is twice as fast as one for the CPUs that a wheel would have to support.
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

from stmn.runtime.notices import notice
from stmn.runtime.private import SharedFolderError, is_private_file, make_private_folder

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper


class KernelUnavailableError(Exception):
    """A C kernel can't be compiled or loaded here; the message says why. Callers have another way to compute."""


@dataclass(frozen=True)
class Kernel:
    """A C source file, `NAME.c` in the folder `kernel` of a package.

    Attributes:
        name: its name, without ".c".
        package: the package; files of its folder `kernel` can be included.
        flags: flags for the compiler.
    """

    name: str
    package: str
    flags: tuple[str, ...]

    def load(self) -> ctypes.CDLL:
        """The compiled library, from the cache or compiled now.

        Raises:
            KernelUnavailableError: there is no compiler, compiling fails, or the library can't be loaded.
        """
        compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
        if shutil.which(compiler[0]) is None:
            raise KernelUnavailableError(f"no C compiler '{compiler[0]}' on the path")
        try:
            try:
                target = self.target(compiler)
            except SharedFolderError as error:
                notice(f"compiled kernels are not kept, so each process compiles them: {error} (XDG_CACHE_HOME)")
                return self._compile_for_now(compiler)
            except (OSError, RuntimeError):  # no home folder, or one that can't be written
                return self._compile_for_now(compiler)
            if is_private_file(target):
                try:
                    return ctypes.CDLL(str(target))
                except OSError:  # cut short by a full disk, for example: compile it again
                    pass
            return self._compile(compiler, target)
        except OSError as error:
            raise KernelUnavailableError(f"can't write or load the compiled kernel: {error}") from error

    def _compile_for_now(self, compiler: list[str]) -> ctypes.CDLL:
        """Compile for this process only."""
        with tempfile.TemporaryDirectory() as folder:
            return self._compile(compiler, Path(folder) / f"{self.name}.so")

    def _sources(self) -> dict[str, bytes]:
        """The files of the kernel's folder by name."""
        folder = resources.files(self.package).joinpath("kernel")
        return {file.name: file.read_bytes() for file in sorted(folder.iterdir(), key=lambda file: file.name)}

    def target(self, compiler: list[str]) -> Path:
        """Where the library is kept: one file per kind of CPU, as machines may share a home folder."""
        made_of = (self._sources(), compiler, self.flags, platform.machine(), _describe_cpu())
        return _cache_folder() / f"{self.name}-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]}.so"

    def _compile(self, compiler: list[str], target: Path) -> ctypes.CDLL:
        """Compile beside the target, then rename, so that several processes can do this at once."""
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as folder:
            for name, text in self._sources().items():
                (Path(folder) / name).write_bytes(text)
            source, built = Path(folder) / f"{self.name}.c", Path(folder) / f"{self.name}.so"
            command = [*compiler, *self.flags, "-fPIC", "-shared", str(source), "-o", str(built), "-lm"]
            try:
                run = subprocess.run(command, capture_output=True, text=True, timeout=120)
            except (OSError, subprocess.SubprocessError) as error:
                raise KernelUnavailableError(f"{shlex.join(command)}: {error}") from error
            if run.returncode:
                raise KernelUnavailableError(f"{shlex.join(command)} failed: {run.stderr.strip()[-500:]}")
            built.chmod(0o700)  # or the umask may let a group write it
            os.replace(built, target)  # whatever has its name, a link too
        return ctypes.CDLL(str(target))


#: a kernel's library, or None and why there is none
Loaded = tuple[ctypes.CDLL | None, str | None]


def load_once(kernel: Kernel) -> Callable[[Callable[[ctypes.CDLL], None]], "_lru_cache_wrapper[Loaded]"]:
    """Decorate a function that declares the types of a library's functions: called, it loads the kernel, once.

    Returns:
        A decorator. The decorated function takes no arguments and returns (library, None), or (None, reason) where the
        kernel is unavailable.
    """

    def decorate(declare: Callable[[ctypes.CDLL], None]) -> "_lru_cache_wrapper[Loaded]":
        @lru_cache(maxsize=1)
        def load() -> Loaded:
            try:
                library = kernel.load()
            except KernelUnavailableError as error:
                return None, str(error)
            declare(library)
            return library, None

        return load

    return decorate


def _cache_folder() -> Path:
    """The folder of compiled kernels, created if needed. Raises `OSError`."""
    return make_private_folder(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stmn")


def _describe_cpu() -> str:
    """Model and features of this CPU, as far as the system reports them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    seen = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    return "|".join(value for key, value in sorted(seen.items()) if key.strip() in {"model name", "flags", "Features"})
