"""The parameters of tracks."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stmn.errors import near_match
from stmn.flow.polynomial import MAX_REACH

#: version of the arithmetic behind the rows; another number means different values from the same options
FORMAT = 1


class FarnebackOptions(BaseModel):
    """The options of the flow `farneback`, which is computed on the same pyramid as the tracks.

    Attributes:
        window: Side of the averaging window, pixels.
        iterations: Iterations per scale.
        neighbourhood: Pixels on each side that each polynomial is fitted to.
        sigma: Sigma of the Gaussian that weights this fit, pixels.
        median: Side of the median filter on each scale's flow: 3, 5, or 0 for none.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    window: int = Field(default=10, ge=2, le=2 * MAX_REACH)
    iterations: int = Field(default=2, ge=1, le=20)
    neighbourhood: int = Field(default=7, ge=2, le=MAX_REACH)
    sigma: float = Field(default=1.5, gt=0, le=10)
    median: Literal[0, 3, 5] = 5


class TrackParameters(BaseModel):
    """The parameters of improved dense trajectories (Wang and Schmid, ICCV 2013). The defaults are the paper's.

    Attributes:
        length: Length of a track: it has `length` displacements, between `length` + 1 points.
        step: Spacing of the points that tracks start from, pixels of their scale.
        patch: Side of the square around a track that describes it, pixels of its scale.
        cells: Cells along each side of the patch.
        spans: Spans of time that a track is divided into.
        scales: The most spatial scales, each smaller by sqrt(2); none has a side shorter than the patch.
        flow: `farneback`, another flow plugin, or `stored` for fields from the caller.
        flow_options: Options of the flow: those of `FarnebackOptions`, or of the plugin.
        warp: How camera motion is removed from flow: `analytic` moves its end points by the inverse of the camera's
            motion; `recompute` computes it a second time, with the second frame warped.
        camera: Remove camera motion.
        scale: Frames are resized by this factor first.
        features: Local features that the camera's motion is found from.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    length: int = Field(default=15, ge=2, le=200)
    step: int = Field(default=5, ge=1, le=64)
    patch: int = Field(default=32, ge=4, le=256)
    cells: int = Field(default=2, ge=1, le=8)
    spans: int = Field(default=3, ge=1)
    scales: int = Field(default=8, ge=1, le=16)
    flow: str = "farneback"
    flow_options: dict[str, Any] = {}
    warp: Literal["analytic", "recompute"] = "analytic"
    camera: bool = True
    scale: float = Field(default=1.0, gt=0, le=4)
    features: Literal["orb", "sift", "akaze"] = "orb"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.patch % self.cells:
            raise ValueError(f"patch is {self.patch}, which {self.cells} cells don't divide")
        if self.length % self.spans:
            raise ValueError(f"length is {self.length}, which {self.spans} spans don't divide")
        if self.flow == "farneback":
            _check_farneback(self.flow_options)
        if self.flow == "stored" and self.flow_options:
            raise ValueError("stored flow has no options")
        if self.flow == "stored" and self.warp == "recompute" and self.camera:
            raise ValueError("stored flow can't be computed again; warp must be analytic")
        return self

    @property
    def bins(self) -> tuple[int, ...]:
        """The number of bins of HOG, HOF (with its bin of no motion), MBHx and MBHy."""
        return (8, 9, 8, 8)

    @property
    def columns(self) -> int:
        """Numbers in a row: 436 with the paper's parameters."""
        return 10 + 2 * self.length + self.cells**2 * self.spans * sum(self.bins)


def _check_farneback(options: dict[str, Any]) -> None:
    """Raise a one-line `ValueError` if these are not valid `FarnebackOptions`."""
    known = FarnebackOptions.model_fields
    for key in options:
        if key not in known:
            raise ValueError(
                f"flow 'farneback' of tracks has no option '{key}'{near_match(key, known)}; it has: {', '.join(known)}"
            )
    try:
        FarnebackOptions(**options)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"][:1].lower() + first["msg"][1:]
        raise ValueError(f"flow 'farneback': {first['loc'][0]} = {first['input']!r}: {message}") from error


#: the parameters of the paper
PAPER = TrackParameters()
