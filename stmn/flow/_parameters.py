"""The parameters of TV-L1 and their ranges."""

from dataclasses import dataclass

from stmn.errors import UsageError

MAX_SCALES = 32
#: largest number of warps, and of iterations per warp; they may come from an untrusted model file
MAX_STEPS = 1000
MAX_WEIGHT = 10**6


@dataclass(frozen=True)
class Parameters:
    """The parameters of `stmn.flow.tvl1.tvl1`, whose docstring explains them.

    Raises:
        UsageError: A parameter is out of its range.
    """

    lambda_: float
    theta: float
    tau: float
    scale: float
    scales: int
    warps: int
    iterations: int
    median: int
    smoothing: float
    epsilon: float

    def __post_init__(self) -> None:
        for name in ("lambda_", "theta"):
            self._require(
                name, 0 < getattr(self, name) <= MAX_WEIGHT, f"must be greater than 0, and at most {MAX_WEIGHT}"
            )
        self._require("tau", 0 < self.tau <= 0.25, "must be in (0, 0.25]; above that the iteration diverges")
        self._require("scale", 0.3 <= self.scale <= 0.95, "must be in [0.3, 0.95]")
        self._require("scales", 1 <= self.scales <= MAX_SCALES, f"must be in 1..{MAX_SCALES}")
        self._require("warps", 1 <= self.warps <= MAX_STEPS, f"must be in 1..{MAX_STEPS}")
        self._require("iterations", 1 <= self.iterations <= MAX_STEPS, f"must be in 1..{MAX_STEPS}")
        self._require("median", self.median in (0, 1, 3, 5), "must be 0 (none), 3 or 5")
        self._require("smoothing", 0 <= self.smoothing <= 5, "must be in 0..5 pixels")
        self._require("epsilon", 0 <= self.epsilon < float("inf"), "must be 0 or more")

    def _require(self, name: str, holds: bool, rule: str) -> None:
        """Raise `UsageError` unless a rule holds."""
        if not holds:
            raise UsageError(f"tvl1: {name.rstrip('_')} is {getattr(self, name)!r}; it {rule}")
