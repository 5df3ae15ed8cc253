"""Checks for plugin authors: call them in your package's tests. `stmn.plugins` describes the contracts.

Each takes the object that the entry point names, and the plugin's options as keywords. It prints a line of the checks
that passed, or raises a `stmn.errors.PluginError` that says what to change. `stmn plugins list --check` calls them too.
"""

from collections.abc import Callable
from typing import Any

from stmn.testing.datasets import check_dataset
from stmn.testing.exporters import check_exporter
from stmn.testing.flows import check_flow
from stmn.testing.fusions import check_fusion
from stmn.testing.loggers import check_logger
from stmn.testing.streams import check_backbone, check_injector
from stmn.testing.weights import check_weights

__all__ = [
    "CHECKS",
    "check_backbone",
    "check_dataset",
    "check_exporter",
    "check_flow",
    "check_fusion",
    "check_injector",
    "check_logger",
    "check_weights",
]

#: kind of plugin -> its check
CHECKS: dict[str, Callable[..., Any]] = {
    "backbone": check_backbone,
    "dataset": check_dataset,
    "exporter": check_exporter,
    "flow": check_flow,
    "fusion": check_fusion,
    "injector": check_injector,
    "logger": check_logger,
    "weights": check_weights,
}
