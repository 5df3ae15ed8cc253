"""A folder for the kernels that Triton compiles, where Triton can't write in its own."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from stmn.runtime.compiled import cache_folder
from stmn.runtime.platforms import HAS_OWNERS
from stmn.runtime.private import make_private_folder


def find_triton_cache() -> None:
    """Set TRITON_CACHE_DIR if Triton's own folder can't be written, as in a container with a read-only home.

    It is then a folder of this user in that of the C kernels, or in that for temporary files. Without either nothing
    is set, and Triton says what is wrong.
    """
    if os.environ.get("TRITON_CACHE_DIR"):
        return
    with suppress(OSError, RuntimeError):  # RuntimeError: there is no home folder
        own = Path(os.environ.get("TRITON_HOME") or Path.home(), ".triton", "cache")
        own.mkdir(parents=True, exist_ok=True)
        _try(own)
        return
    for find_folder in (cache_folder, _temporary_folder):
        with suppress(OSError, RuntimeError):
            folder = make_private_folder(find_folder() / "triton")
            _try(folder)
            os.environ["TRITON_CACHE_DIR"] = str(folder)
            return


def _temporary_folder() -> Path:
    """Return this user's folder among the temporary files, which the next process finds again. Raises `OSError`."""
    owner = f"-{os.geteuid()}" if HAS_OWNERS else ""
    return make_private_folder(Path(tempfile.gettempdir(), f"stmn{owner}"))


def _try(folder: Path) -> None:
    """Raise `OSError` if a folder can't be written."""
    with tempfile.TemporaryFile(dir=folder):
        pass
