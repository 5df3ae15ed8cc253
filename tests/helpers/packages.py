"""Packages with plugins as `pip install` leaves them: a module and a `dist-info` in a folder on the path."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stmn import registry


class Packages:
    """Installs packages into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self, name: str, code: str, version: str = "1.0", api: str = "", **entry_points: dict[str, str]
    ) -> None:
        """Install a module that is written for an API; `entry_points` are kind={plugin name: object}."""
        (self.folder / f"{name}.py").write_text(code)
        info = self.folder / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = [f"[stmn.api]\n{api} = {name}"] if api else []
        for kind, plugins in entry_points.items():
            lines += [f"[{registry.KINDS[kind]}]", *(f"{k} = {name}:{v}" for k, v in plugins.items())]
        (info / "entry_points.txt").write_text("\n".join(lines))
        importlib.invalidate_caches()
        registry.rescan()


@contextmanager
def on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Packages]:
    """A folder whose packages are installed until the block ends."""
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    registry.rescan()
    try:
        yield Packages(folder)
    finally:  # also for the tests that follow a failed one
        sys.path.remove(str(folder))
        importlib.invalidate_caches()
        registry.rescan()
        for file in folder.glob("*.py"):
            sys.modules.pop(file.stem, None)
