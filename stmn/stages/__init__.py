"""One file per verb: its options and what it does. Importing a stage imports neither torch nor the verb's libraries."""

from importlib import import_module
from types import ModuleType

from stmn.errors import UsageError, near_match

#: verb -> module. Each module has `Options`, `label(options)`, `plugins(options)` and `run(options, context)`.
STAGES: dict[str, str] = {
    "prepare": "stmn.stages.prepare",
    "train-stream": "stmn.stages.train_stream",
    "fuse": "stmn.stages.fuse",
    "evaluate": "stmn.stages.evaluate",
    "fuse-idt": "stmn.stages.fuse_idt",
    "export": "stmn.stages.export",
    "report": "stmn.stages.report",
}


def stage(verb: str) -> ModuleType:
    """The module of a verb. Raises `UsageError` naming the near match."""
    if verb not in STAGES:
        raise UsageError(f"unknown stage '{verb}'{near_match(verb, STAGES)}; known: {', '.join(STAGES)}")
    return import_module(STAGES[verb])
