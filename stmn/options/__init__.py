"""The options of every stage, as pydantic models. Nothing here imports torch or a stage's libraries."""

from importlib import import_module

from stmn.errors import UsageError, near_match
from stmn.options.base import StageOptions

#: verb -> its options model
MODELS: dict[str, str] = {
    "prepare": "stmn.options.prepare:PrepareOptions",
    "train-stream": "stmn.options.train_stream:TrainStreamOptions",
    "fuse": "stmn.options.fuse:FuseOptions",
    "evaluate": "stmn.options.evaluate:EvaluateOptions",
    "calibrate": "stmn.options.calibrate:CalibrateOptions",
    "idt-extract": "stmn.options.idt:IdtExtractOptions",
    "idt-fit": "stmn.options.idt:IdtFitOptions",
    "idt-encode": "stmn.options.idt:IdtEncodeOptions",
    "idt-score": "stmn.options.idt:IdtScoreOptions",
    "fuse-idt": "stmn.options.fuse_idt:FuseIdtOptions",
    "table": "stmn.options.table:TableOptions",
    "export": "stmn.options.export:ExportOptions",
    "report": "stmn.options.report:ReportOptions",
}


def options_of(verb: str) -> type[StageOptions]:
    """The options model of a verb.

    Raises:
        UsageError: there is no such verb; the message names the nearest one.
    """
    check_verb(verb)
    module, _, name = MODELS[verb].partition(":")
    model: type[StageOptions] = getattr(import_module(module), name)
    return model


def verb_of(options: StageOptions) -> str:
    """The verb that has these options."""
    kind = type(options)
    return next(verb for verb, name in MODELS.items() if name == f"{kind.__module__}:{kind.__name__}")


def command_of(verb: str) -> str:
    """A verb as the user types it: `idt fit` for `idt-fit`."""
    return verb.replace("idt-", "idt ") if verb.startswith("idt-") else verb


def check_verb(verb: str) -> None:
    """Raise `UsageError` if there is no such verb; the message names the nearest one."""
    if verb not in MODELS:
        raise UsageError(f"unknown stage '{verb}'{near_match(verb, MODELS)}; known: {', '.join(MODELS)}")
