"""calibrate: fit a temperature on held-out videos, and write the model with it."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stmn.errors import DataError, count_of
from stmn.options.calibrate import CalibrateOptions
from stmn.options.evaluate import EvaluateOptions
from stmn.stages.base import Context, Result, Stage, fill_newest
from stmn.workspace import Input, Workspace

if TYPE_CHECKING:
    from stmn.evaluation.scores import Scores
    from stmn.nets.calibration import Calibration

MODEL_FILE = "model.safetensors"
#: fewer videos say little about confidence
_FEW = 50


class Calibrate(Stage[CalibrateOptions]):
    """Divides logits by a temperature (Guo et al. 2017): predictions stay the same, their probabilities change."""

    options = CalibrateOptions
    makes = ("model",)
    format = 2

    def label(self, options: CalibrateOptions) -> str:
        """`calibrated`."""
        return "calibrated"

    def complete(
        self, options: CalibrateOptions, workspace: Workspace, inputs: dict[str, list[Input]]
    ) -> CalibrateOptions:
        """Fill in the workspace's newest model."""
        return fill_newest(options, "model", workspace, inputs)

    def run(self, options: CalibrateOptions, context: Context) -> Result:
        """Fit, and write.

        Raises:
            DataError: the scores are of other classes, are not logits, or are of videos that their model had seen.
        """
        from stmn.nets.checkpoint import load_checkpoint, save_checkpoint

        model = context.input("model")
        assert model is not None
        scores = _find_scores(options, context)
        network, description = load_checkpoint(model.path)
        if scores.classes != description.network.classes:
            raise DataError(f"{model.label}: has other classes than the scores that it is to be calibrated on")
        if list(scores.streams) != network.outputs or scores.protocol.get("stream_weights"):
            raise DataError(
                f"{model.label}: averages its outputs ({', '.join(network.outputs)}) equally, and the scores are of "
                f"others or weight them: give those of a test of such a model, without stream weights"
            )
        found = calibrate(scores, options.kept)
        save_checkpoint(context.out / MODEL_FILE, network, replace(description, calibration=found))
        context.progress.say(describe(found))
        if found.videos < _FEW:
            context.progress.say(f"{count_of(found.videos, 'video')} say little of a confidence: take it with care")
        return Result({"model": MODEL_FILE}, found.model_dump(mode="json"))


def _find_scores(options: CalibrateOptions, context: Context) -> "Scores":
    """The scores to fit on."""
    from stmn.evaluation.joining import join_folds
    from stmn.evaluation.kinds import holds_logits
    from stmn.evaluation.scores import load_scores

    given = context.inputs.get("scores", [])
    if given:
        parts, names = [load_scores(item.path) for item in given], [item.label for item in given]
    else:
        test: dict[str, Any] = {"model": options.model, "part": "validation", "data": options.data}
        run = context.run_stage(EvaluateOptions(**test))
        parts, names = [load_scores(run.verified_output("scores"))], [run.name]
    scores = parts[0] if len(parts) == 1 else join_folds(parts, names)
    if not holds_logits(scores.protocol):
        raise DataError(f"{names[0]}: holds no logits of a network, and only these have a temperature")
    if seen := scores.protocol.get("seen_in_training", 0):
        raise DataError(f"{names[0]}: its model had learned from {count_of(seen, 'video')} that it scores")
    return scores


def calibrate(scores: "Scores", kept: float) -> "Calibration":
    """Fit a temperature and a threshold to the mean logits of scores.

    Args:
        scores: of videos that their network has not learned from.
        kept: the fraction of correct predictions that the threshold keeps.
    """
    import numpy as np

    from stmn.evaluation.metrics import calibration_error, find_correct
    from stmn.evaluation.temperature import (
        confidence_of,
        cross_fit,
        energy_range,
        find_threshold,
        fit_temperature,
    )
    from stmn.nets.calibration import Calibration

    logits, labels = scores.mean().double().numpy(), np.array(scores.labels)
    correct, temperature = find_correct(logits, labels), fit_temperature(logits, labels)
    others = cross_fit(logits, labels, scores.groups)
    after = None if others is None else calibration_error(logits / others[:, None], correct)
    threshold = find_threshold(confidence_of(logits, temperature), correct, kept)
    return Calibration(
        temperature=temperature, unknown_below=threshold, kept=kept, videos=len(labels),
        error_before=calibration_error(logits, correct), error_after=after,
        fitted_on=str(scores.protocol.get("words", ""))[:1000],
        output_energies={name: energy_range(own.double().numpy()) for name, own in scores.streams.items()},
    )  # fmt: skip


def describe(found: "Calibration") -> str:
    """Describe a calibration in a line."""
    after = "" if found.error_after is None else f", {100 * found.error_after:.1f} % after (fitted on other groups)"
    return (
        f"temperature {found.temperature:.2f}, fitted on {count_of(found.videos, 'video')}: calibration error "
        f"{100 * found.error_before:.1f} % before{after}; {100 * found.kept:g} % of the correct predictions have a "
        f"confidence of {100 * found.unknown_below:.1f} % or more"
    )
