"""The calibration in a model file: a temperature, and the confidence below which a video may be of no known class."""

from pydantic import BaseModel, ConfigDict, Field


class Calibration(BaseModel):
    """Calibration of a network's probabilities, fitted on videos that it was not trained on.

    Attributes:
        temperature: the mean logits of a video are divided by it before the softmax (Guo et al. 2017, section 4.2).
        unknown_below: the confidence, 0..1, that most correct predictions reach; a video with less may be of no known
            class.
        output_energies: for each output of the network, the smallest and largest energy of these videos (Liu et al.
            2020, with the sign reversed): the logarithm of the summed exponentials of the logits. A video outside this
            range is unlike them. Missing in older files.
        kept: the fraction of the correct predictions that reach `unknown_below`.
        videos: the number of videos that it was fitted on.
        error_before: the expected calibration error on these videos, 0..1, without the temperature.
        error_after: the same with temperatures fitted on the videos of other groups; None if there was one group.
        fitted_on: these videos, in words.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    temperature: float = Field(gt=0, le=100)
    unknown_below: float = Field(ge=0, le=1)
    kept: float = Field(ge=0, le=1)
    output_energies: dict[str, tuple[float, float]] = Field(default_factory=dict)
    videos: int = Field(ge=1)
    error_before: float = Field(ge=0, le=1)
    error_after: float | None = Field(default=None, ge=0, le=1)
    fitted_on: str = Field(default="", max_length=1000)
