"""The steps of improved dense trajectories: each runs those before it, unless they are up to date."""

from typing import TYPE_CHECKING, Any

from stmn.options.idt import IdtEncodeOptions, IdtExtractOptions, IdtFitOptions, IdtScoreOptions
from stmn.stages.base import Context
from stmn.workspace import Run

if TYPE_CHECKING:
    from stmn.idt.source import TrackSource

_STEPS: dict[str, type[IdtExtractOptions]] = {
    "idt-extract": IdtExtractOptions,
    "idt-fit": IdtFitOptions,
    "idt-encode": IdtEncodeOptions,
    "idt-score": IdtScoreOptions,
}


def describe_steps(options: IdtExtractOptions) -> list[dict[str, str]]:
    """The identities that decide the steps' results besides options: the flow, and the formats of all steps so far."""
    from stmn import registry
    from stmn.idt.trajectories.parameters import FORMAT
    from stmn.stages import find_stage

    formats = [find_stage(verb).format for verb, step in _STEPS.items() if isinstance(options, step)]
    about = {"kind": "idt", "name": "steps", "package": registry.BUILT_IN}
    known = [about | {"format": ".".join(map(str, [FORMAT, *formats]))}]
    return known if options.flow == "stored" else [*known, registry.find("flow", options.flow).identity]


def run_step(step: type[IdtExtractOptions], options: IdtExtractOptions, context: Context, **changes: Any) -> Run:
    """Run an earlier step with the options that it shares with this one."""
    values = {name: value for name, value in options if name in step.model_fields} | changes
    return context.run_stage(step(**values))


def source_of(options: IdtExtractOptions, context: Context) -> "TrackSource":
    """The source of the tracks."""
    from stmn.stages.idt_source import find_source

    return find_source(options, context.data)
