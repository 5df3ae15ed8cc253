"""The files of C kernels, and the CPUs they are compiled for. The wheel build also imports this file, alone."""

import hashlib
import platform
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: CPUs that a wheel has kernels for, best first: machine -> values of GCC's and Clang's `-march`
LEVELS = {
    "x86_64": ("x86-64-v4", "x86-64-v3"),  # AVX-512; AVX2 and FMA
    "aarch64": ("armv8-a",),
}
#: other names of the same machines
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
#: CPU capability as reported by PyTorch -> levels that it can run
_CAPABLE = {"AVX512": LEVELS["x86_64"], "AVX2": LEVELS["x86_64"][1:]}


@dataclass(frozen=True)
class KernelFiles:
    """A kernel's source and how it is compiled.

    Attributes:
        folder: the folder with `NAME.c`, what it includes, and kernels.toml.
        name: the kernel's name.
        flags: flags for the compiler, except those for the CPU.
        without: what is slower without the kernel, and by how much.
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
        """Return the command that compiles the kernel.

        Args:
            compiler: the compiler, with its own flags if any.
            march: the CPU: one of `LEVELS`, or "native".
            library: the file to write.
        """
        source = self.folder / f"{self.name}.c"
        return [*compiler, *self.flags, f"-march={march}", "-fPIC", "-shared", str(source), "-o", str(library), "-lm"]

    def built(self, march: str) -> Path:
        """Return the kernel's path in a wheel for a CPU. The hash in its name is that of its source."""
        return self.folder / "built" / f"{self.name}-{self.digest}-{march}.so"

    def list_built(self, levels: Sequence[str]) -> list[Path]:
        """Return the package's libraries for the given CPU levels."""
        return [path for level in levels if (path := self.built(level)).is_file()]


def find_machine() -> str:
    """Return this machine's name in `LEVELS`."""
    machine = platform.machine().lower()
    return _MACHINES.get(machine, machine)


def list_levels() -> tuple[str, ...]:
    """Return the levels of `LEVELS` that this CPU can run, best first."""
    machine = find_machine()
    if machine != "x86_64":
        return LEVELS.get(machine, ())
    import torch  # not needed to build a wheel

    return _CAPABLE.get(torch.backends.cpu.get_cpu_capability(), ())
