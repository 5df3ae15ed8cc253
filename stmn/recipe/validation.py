"""Check that no stage of a recipe validates on videos that an earlier one learns from."""

from collections.abc import Iterator, Mapping

from stmn.nets.config import MODALITIES
from stmn.options.base import StageOptions
from stmn.options.fuse import FuseOptions
from stmn.options.train_stream import TrainStreamOptions


def find_seen_validation(stages: Mapping[str, StageOptions]) -> Iterator[tuple[str, str]]:
    """Find trainings whose validation videos were training videos of the stages that they start from.

    Such a stage reports this only when it starts, perhaps days after the recipe did.

    Args:
        stages: the options of all stages by id, in order.

    Yields:
        The id of a stage, and what is wrong.
    """
    newest: dict[str, str] = {}
    for stage_id, options in stages.items():
        starts: list[str] = []
        if isinstance(options, TrainStreamOptions):
            starts = [options.weights]
            newest[options.modality] = stage_id
        elif isinstance(options, FuseOptions):
            starts = [getattr(options, name) or newest.get(modality, "") for name, modality in MODALITIES.items()]
        for start_id in starts:
            start = stages.get(start_id)
            if isinstance(start, TrainStreamOptions | FuseOptions) and not _holds_out(start, options):
                yield (
                    stage_id,
                    f"would validate on videos that '{start_id}' learns from, which has validation = "
                    f"{start.validation:g} and validation_seed = {start.validation_seed}: give both the same, or set "
                    f"validation = 0 here",
                )


def _holds_out(start: TrainStreamOptions | FuseOptions, options: StageOptions) -> bool:
    """True if a stage holds out all videos that a later one validates on, or reads another set or split."""
    if not isinstance(options, TrainStreamOptions | FuseOptions) or not options.validation:
        return True
    if (start.data, start.split) != (options.data, options.split):
        return True
    return start.validation >= options.validation and start.validation_seed == options.validation_seed
