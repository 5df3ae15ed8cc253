"""The stages, one file per verb. Importing one imports neither torch nor the verb's libraries."""

from importlib import import_module
from typing import Any

from stmn.options import check_verb
from stmn.stages.base import Stage

#: verb -> its stage
STAGES: dict[str, str] = {
    "prepare": "stmn.stages.prepare:Prepare",
    "train-stream": "stmn.stages.train_stream:TrainStream",
    "fuse": "stmn.stages.fuse:Fuse",
    "evaluate": "stmn.stages.evaluate:Evaluate",
    "calibrate": "stmn.stages.calibrate:Calibrate",
    "idt-extract": "stmn.stages.idt_extract:IdtExtract",
    "idt-fit": "stmn.stages.idt_fit:IdtFit",
    "idt-encode": "stmn.stages.idt_encode:IdtEncode",
    "idt-score": "stmn.stages.idt_score:IdtScore",
    "fuse-idt": "stmn.stages.fuse_idt:FuseIdt",
    "table": "stmn.stages.table:Table",
    "export": "stmn.stages.export:Export",
    "report": "stmn.stages.report:Report",
}


def find_stage(verb: str) -> Stage[Any]:
    """The stage of a verb.

    Raises:
        UsageError: there is no such verb; the message names the nearest one.
    """
    check_verb(verb)
    module, _, name = STAGES[verb].partition(":")
    stage: Stage[Any] = getattr(import_module(module), name)()
    return stage
