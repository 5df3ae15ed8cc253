"""The check of loggers."""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stmn.testing.checklist import Checklist

_ROW = {
    "step": 10, "epoch": 0.5, "loss": 1.25, "accuracy": 0.5, "rate": 0.01, "gradient_norm": 3.0,
    "videos_per_second": 20.0, "data_wait": 0.02,
}  # fmt: skip
_ABOUT = {
    "run": "fused-multiply-0123456789abcdef",
    "options": {"seed": 1, "lr": 0.001, "fusion": "add", "data": None},
}


def check_logger(logger: Callable[..., Any], **options: Any) -> None:
    """Check that a logger keeps its contract, and print what passed.

    It checks that the logger takes rows with more and with fewer columns, changes neither them nor the working folder,
    and continues the log of an interrupted training.

    Args:
        logger: the plugin, a class.
        options: the plugin's options.

    Raises:
        PluginError: the contract is broken; the message says what its author must change.
    """
    checks = Checklist("logger", logger)
    checks.check_options(logger)
    must = "its __init__ must take (folder, step, about), and everything else by keyword"
    where = os.getcwd()
    with TemporaryDirectory() as name:
        folder = Path(name)
        first = checks.build(must, logger, folder, 0, _ABOUT, **options)
        for method in ("write", "close"):
            checks.require(callable(getattr(first, method, None)), f"has no {method}()", f"define {method}")
        with checks.part("rows", "write(row) must take any columns: step is the only one that is always there"):
            for row in (_ROW, _ROW | {"step": 20, "validation_error": 0.5}, {"step": 30, "loss": 1.0}):
                given = dict(row)
                first.write(given)
                checks.require(given == row, "write() changes the row", "copy it first: dict(row)")
        with checks.part("end", "close() must take no arguments"):
            first.close()
        with checks.part("resuming", "it must take a folder that has its files, and a step above 0"):
            again = logger(folder, 20, _ABOUT, **options)
            again.write(_ROW | {"step": 30})
            again.close()
        checks.require(os.getcwd() == where, "changes the working folder", "use absolute paths below `folder`")
    checks.finish()
