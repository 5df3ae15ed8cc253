"""The files of C kernels, and what is compiled of them for which CPUs. Building a wheel reads this file too, alone."""

import hashlib
import platform
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: for which CPUs a wheel has kernels, best first: by machine the `-march` of GCC and Clang
LEVELS = {
    "x86_64": ("x86-64-v4", "x86-64-v3"),  # AVX-512; AVX2 and FMA
    "aarch64": ("armv8-a",),
}
#: the same machine by other names
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
#: which of them a CPU can run, by what PyTorch says of it
_CAPABLE = {"AVX512": LEVELS["x86_64"], "AVX2": LEVELS["x86_64"][1:]}


@dataclass(frozen=True)
class KernelFiles:
    """A kernel's source and how it is compiled.

    Attributes:
        folder: the folder with `NAME.c`, what it includes, and kernels.toml.
        name: the kernel's name.
        flags: flags for the compiler, except those for the CPU.
        without: what is slower without the kernel, and how much.
        digest: a hash of the folder's files.
    """

    folder: Path
    name: str
    flags: tuple[str, ...]
    without: str
    digest: str

    @classmethod
    def read(cls, folder: Path, name: str) -> "KernelFiles":
        """Read a folder and the kernel's section of its kernels.toml."""
        files = sorted(path for path in folder.iterdir() if path.suffix in (".c", ".h", ".toml"))
        content = repr([(path.name, path.read_bytes()) for path in files])
        section = tomllib.loads((folder / "kernels.toml").read_text(encoding="utf-8"))[name]
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        return cls(folder, name, tuple(section["flags"]), section["without"], digest)

    def make_command(self, compiler: Sequence[str], march: str, library: Path) -> list[str]:
        """The command that compiles the kernel.

        Args:
            compiler: the compiler, with flags of its own if it has any.
            march: the CPU: one of `LEVELS`, or "native".
            library: the file to write.
        """
        source = self.folder / f"{self.name}.c"
        return [*compiler, *self.flags, f"-march={march}", "-fPIC", "-shared", str(source), "-o", str(library), "-lm"]

    def built(self, march: str) -> Path:
        """Where a wheel has the kernel for a CPU. By the hash in its name, one of another source is not loaded."""
        return self.folder / "built" / f"{self.name}-{self.digest}-{march}.so"

    def list_built(self, levels: Sequence[str]) -> list[Path]:
        """The libraries that came with the package for some of the CPUs."""
        return [path for level in levels if (path := self.built(level)).is_file()]


def find_machine() -> str:
    """This machine, as `LEVELS` calls it."""
    machine = platform.machine().lower()
    return _MACHINES.get(machine, machine)


def list_levels() -> tuple[str, ...]:
    """For which of `LEVELS` this CPU can run what was compiled, best first."""
    machine = find_machine()
    if machine != "x86_64":
        return LEVELS.get(machine, ())
    import torch  # building a wheel does without

    return _CAPABLE.get(torch.backends.cpu.get_cpu_capability(), ())
