"""Call a function in its own process: if that hangs or crashes, only the call fails, not this process."""

from collections.abc import Callable
from functools import partial
from multiprocessing.connection import wait
from typing import Any, Generic, TypeVar

from stmn.runtime.workers import Worker, spawn_process

_Result = TypeVar("_Result")


class BoundedCall(Generic[_Result]):
    """A function that is called in another process, which starts with the first call and ends with the block.

    Args:
        function: A module-level function of one argument. Argument and result are pickled.
        seconds: Time limit of a call.
    """

    def __init__(self, function: Callable[[Any], _Result], seconds: float) -> None:
        self._function, self._seconds = function, seconds
        self._worker: Worker | None = None

    def __enter__(self) -> "BoundedCall[_Result]":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def __call__(self, argument: Any) -> _Result | None:
        """Return the result; None if the call raised an error, crashed, or took too long.

        Raises:
            FatalJobError: Processes can't start.
        """
        if self._worker is None:
            self._worker = Worker(partial(_give, self._function), 0, partial(spawn_process, preload=False))
        self._worker.give(argument)
        outcome = None
        while outcome is None:
            outcome = self._worker.collect(bool(wait([self._worker.connection], timeout=0.5)), self._seconds)
        if outcome.lost:
            self._stop()
        result: _Result | None = outcome.result
        return result

    def _stop(self) -> None:
        """End the process."""
        if self._worker:
            self._worker.stop()
            self._worker = None


def _give(function: Callable[[Any], _Result], _: int) -> Callable[[Any], _Result]:
    """Set up the process: return the function."""
    return function
