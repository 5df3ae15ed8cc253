"""C kernels: built into a wheel for this CPU, or compiled at first use.

Compiled kernels are kept in the user's cache, if only this user can write there.
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

from stmn.runtime.kernel_files import KernelFiles, list_levels
from stmn.runtime.notices import notice
from stmn.runtime.private import SharedFolderError, is_private_file, make_private_folder

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper


class KernelUnavailableError(Exception):
    """A C kernel can't be compiled or loaded here; the message says why. Callers have a fallback."""


@dataclass(frozen=True)
class Kernel:
    """A C source file, `NAME.c` in the folder `kernel` of a package.

    Attributes:
        name: its name, without ".c", and its section of the folder's kernels.toml.
        package: the package; files of its folder `kernel` can be included.
    """

    name: str
    package: str

    def files(self) -> KernelFiles:
        """Return its files and flags."""
        return KernelFiles.read(Path(str(resources.files(self.package).joinpath("kernel"))), self.name)

    def load(self) -> ctypes.CDLL:
        """Load the library: the package's for this CPU, or from the cache, or compiled now.

        Raises:
            KernelUnavailableError: there is no compiler, compiling fails, or the library can't be loaded.
        """
        files = self.files()
        for built in files.list_built(list_levels()):
            try:
                return ctypes.CDLL(str(built))
            except OSError:  # made for another C library
                continue
        compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
        if shutil.which(compiler[0]) is None:
            raise KernelUnavailableError(f"no C compiler '{compiler[0]}' on the path")
        try:
            try:
                target = self.target(compiler)
            except SharedFolderError as error:
                notice(f"compiled kernels are not kept, so each process compiles them: {error} (XDG_CACHE_HOME)")
                return self._compile_for_now(compiler)
            except (OSError, RuntimeError):  # no home folder, or it can't be written
                return self._compile_for_now(compiler)
            if is_private_file(target):
                try:
                    return ctypes.CDLL(str(target))
                except OSError:  # cut short by a full disk, for example: compile it again
                    pass
            return self._compile(compiler, target)
        except OSError as error:
            raise KernelUnavailableError(f"can't write or load the compiled kernel: {error}") from error

    def find_origin(self) -> str:
        """Describe where `load` finds the library, without compiling: "in the package", ...; empty if unavailable."""
        if next(iter(self.files().list_built(list_levels())), None):
            return "in the package"
        compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
        if shutil.which(compiler[0]) is None:
            return ""
        try:
            return "compiled, in the cache" if is_private_file(self.target(compiler)) else "compiled at first use"
        except (OSError, RuntimeError):  # no folder to keep it in
            return "compiled by each process"

    def _compile_for_now(self, compiler: list[str]) -> ctypes.CDLL:
        """Compile for this process only."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # Windows can't delete a loaded file
            return self._compile(compiler, Path(folder) / f"{self.name}.so")

    def target(self, compiler: list[str]) -> Path:
        """Return the library's path in the cache: one file per CPU model, because machines may share a home folder."""
        made_of = (self.files().digest, compiler, platform.machine(), _describe_cpu())
        return cache_folder() / f"{self.name}-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]}.so"

    def _compile(self, compiler: list[str], target: Path) -> ctypes.CDLL:
        """Compile beside the target, then rename, so that several processes can do it at once."""
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as folder:
            built = Path(folder) / f"{self.name}.so"
            command = self.files().make_command(compiler, "native", built)
            try:
                run = subprocess.run(command, capture_output=True, text=True, timeout=120)
            except (OSError, subprocess.SubprocessError) as error:
                raise KernelUnavailableError(f"{shlex.join(command)}: {error}") from error
            if run.returncode:
                raise KernelUnavailableError(f"{shlex.join(command)} failed: {run.stderr.strip()[-500:]}")
            built.chmod(0o700)  # otherwise the umask may let a group write it
            try:
                os.replace(built, target)  # replaces anything of this name, even a link
            except PermissionError:  # Windows can't replace a loaded file: another process has just compiled it
                if not is_private_file(target):
                    raise
        return ctypes.CDLL(str(target))


#: a kernel's library and None, or None and the reason
Loaded = tuple[ctypes.CDLL | None, str | None]


def load_once(kernel: Kernel) -> Callable[[Callable[[ctypes.CDLL], None]], "_lru_cache_wrapper[Loaded]"]:
    """Decorate a function that declares the types of a library's functions, so that calling it loads the kernel once.

    Returns:
        A decorator. The decorated function takes no arguments and returns (library, None), or (None, reason) if the
        kernel is unavailable.
    """

    def decorate(declare: Callable[[ctypes.CDLL], None]) -> "_lru_cache_wrapper[Loaded]":
        @lru_cache(maxsize=1)
        def load() -> Loaded:
            try:
                library = kernel.load()
            except KernelUnavailableError as error:
                notice(f"{kernel.files().without}: {error}")
                return None, str(error)
            declare(library)
            return library, None

        return load

    return decorate


def cache_folder() -> Path:
    """Return the folder of compiled kernels, created if needed. Raises `OSError`."""
    return make_private_folder(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stmn")


def _describe_cpu() -> str:
    """Return model and features of this CPU, as far as the system reports them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    seen = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    return "|".join(value for key, value in sorted(seen.items()) if key.strip() in {"model name", "flags", "Features"})
