"""Two-stream action recognition with multiplicative motion gates and identity temporal filters.

>>> import stmn
>>> stmn.load("model.safetensors").predict("video.mp4")        # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

if TYPE_CHECKING:
    from stmn.prediction.api import load


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; `import stmn` must not.
    if name == "load":
        from stmn.prediction.api import load

        return load
    raise AttributeError(f"module 'stmn' has no attribute '{name}'")
