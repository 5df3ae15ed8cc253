"""What a model file says of its confidence: a temperature, and below which confidence a video is of no known class."""

from pydantic import BaseModel, ConfigDict, Field


class Calibration(BaseModel):
    """How far the probabilities of a network can be trusted, by videos that it had not learned from.

    Attributes:
        temperature: the mean logits of a video are divided by it before the softmax (Guo et al. 2017, section 4.2).
        unknown_below: the confidence, 0..1, that most correct predictions reach; what has less may be of no known
            class.
        output_energies: for each output of the network the least and the largest energy (Liu et al. 2020, without its
            sign) that these videos have: the logarithm of the summed exponentials of its logits. What lies outside is
            unlike them. Missing in older files.
        kept: the fraction of the correct predictions that reach it.
        videos: how many it was fitted on.
        error_before: the expected calibration error of these, 0..1, without the temperature.
        error_after: that with temperatures fitted on the videos of other groups; None if there was one group.
        fitted_on: which videos, in words.
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
