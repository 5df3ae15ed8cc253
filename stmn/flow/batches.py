"""Compute chains of frames of several videos as one batch on a device."""

import dataclasses
import re
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stmn.errors import MissingExtra, StmnError
from stmn.flow.pairs import FlowFunction, compute_levels
from stmn.runtime.device import Device
from stmn.runtime.host_copy import mark_queue
from stmn.runtime.memory import find_shortage
from stmn.runtime.workers import FatalJobError, describe_error

if TYPE_CHECKING:
    from stmn.flow.owner import Request

#: largest number of pixels of the pairs of a batch: 256 pairs of 340 x 256 on CUDA; on a CPU more is not faster
_CUDA_PIXELS, _CPU_PIXELS = 256 * 340 * 256, 2**21
#: bytes of a GPU's free memory per pixel: what TV-L1 in torch needs, the most of all solvers
_BYTES_PER_PIXEL = 600
#: what to do about a GPU that can't compute
ADVICE = "use --device cpu, or another GPU"
#: how an error of another package quotes one of the GPU or of its installation
_OF_GPU = re.compile("CUDA error|Triton Error")


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a pass failed. It doesn't hold the error, whose traceback holds the pass's tensors.

    Attributes:
        reason: The error, in one line.
        short: Memory ran out.
        stops: Why all work must stop, in one line; empty if other passes may succeed.
    """

    reason: str
    short: bool = False
    stops: str = ""


@dataclasses.dataclass(eq=False)
class Batch:
    """A batch in progress: its requests, and their levels once `done` has occurred; or why it failed.

    Attributes:
        source: The frames, which the device may still be reading.
    """

    requests: list["Request"]
    source: Tensor | None = None
    levels: Tensor | None = None
    done: torch.cuda.Event | None = None
    failure: Failure | None = None

    def is_done(self) -> bool:
        """True unless the device is still computing it."""
        try:
            return self.done is None or bool(self.done.query())
        except RuntimeError:  # it has failed; `finish` reports how
            return True


class BatchMaker:
    """Computes batches on a device. If a batch fails, its chains are computed one by one; if memory runs out, in parts.

    The constructor tries a GPU, and raises CUDA's error if it can't compute.

    Args:
        flow: The estimator.
        bound: Flow is clipped to +- this many pixels.
        camera_motion: "subtract" or "keep".
        device: The device that gets the frames.
    """

    def __init__(self, flow: FlowFunction, bound: float, camera_motion: str, device: Device) -> None:
        self._flow, self._bound, self._camera_motion, self._device = flow, bound, camera_motion, device
        self._pixels = _CPU_PIXELS
        self._copies: torch.cuda.Stream | None = None
        if (free := device.free_memory()) is not None:
            self._pixels = min(_CUDA_PIXELS, free // _BYTES_PER_PIXEL)
            self._copies = torch.cuda.Stream(device.device)
            torch.ones(1, device=device.device).add(1).item()  # torch may have no code for this GPU

    def most_pairs(self, height: int, width: int) -> int:
        """Return the largest number of pairs of this size for a batch."""
        return max(1, self._pixels // (height * width))

    def launch(self, requests: list["Request"]) -> Batch:
        """Queue a batch. On CUDA it does not wait for the device."""
        try:
            return self._launch(requests)
        except Exception as error:
            return Batch(requests, failure=self._examine(error))

    def _launch(self, requests: list["Request"]) -> Batch:
        """Do `launch`, but raise errors."""
        chains = [len(request.frames) for request in requests]
        shape = (sum(chains), *requests[0].frames.shape[1:])
        source = torch.empty(shape, dtype=torch.uint8, pin_memory=self._copies is not None)
        torch.cat([request.frames for request in requests], out=source)
        if self._copies is None:
            return Batch(requests, levels=self._compute(self._device.move(source), chains).cpu())
        current = torch.cuda.current_stream(self._device.device)
        with torch.cuda.stream(self._copies):  # in parallel with the GPU's current work
            frames = self._device.move(source)
        current.wait_stream(self._copies)
        frames.record_stream(current)
        found = self._compute(frames, chains)
        levels = torch.empty(found.shape, dtype=torch.uint8, pin_memory=True)
        levels.copy_(found, non_blocking=True)
        return Batch(requests, source, levels, mark_queue(self._device.device))

    def _compute(self, frames: Tensor, chains: Sequence[int]) -> Tensor:
        """Compute the levels of all chains."""
        return compute_levels(frames, self._flow, self._bound, self._camera_motion, chains)

    def finish(self, batch: Batch) -> list[tuple["Request", str]]:
        """Wait for a batch and put its levels into the slots.

        Returns:
            The requests, each with the reason why it failed, or "".

        Raises:
            FatalJobError: The device, or a package, has failed permanently.
        """
        failure = batch.failure
        if failure is None:
            try:
                return self._deliver(batch)
            except Exception as error:  # a kernel's error shows when the host waits for it
                failure = self._examine(error)
        if failure.stops:
            raise FatalJobError(failure.stops)
        self._check_device(failure.reason)
        reason, short = failure.reason, failure.short
        if short:
            pixels = sum(request.levels.shape[0] * request.levels[0, 0].numel() for request in batch.requests)
            self._pixels = max(1, min(self._pixels, pixels // 2))
        if len(batch.requests) > 1:
            return [answer for request in batch.requests for answer in self.finish(self.launch([request]))]
        [request] = batch.requests
        pairs = len(request.levels)
        if short and pairs == 1 and self._is_taken(request):
            raise FatalJobError(f"{self._device.device}: {reason}: other programs hold its memory; {ADVICE}")
        if not short or pairs == 1:
            return [(request, reason)]
        half = pairs // 2
        parts = ((request.frames[: half + 1], request.levels[:half]), (request.frames[half:], request.levels[half:]))
        for frames, levels in parts:
            part = dataclasses.replace(request, frames=frames, levels=levels)
            [(_, reason)] = self.finish(self.launch([part]))
            if reason:
                return [(request, reason)]
        return [(request, "")]

    def _deliver(self, batch: Batch) -> list[tuple["Request", str]]:
        """Copy the levels of a finished batch into the slots of its requests."""
        assert batch.levels is not None
        if batch.done is not None:
            batch.done.synchronize()
        counts = [len(request.levels) for request in batch.requests]
        for request, levels in zip(batch.requests, batch.levels.split(counts), strict=True):
            request.levels.copy_(levels)
        return [(request, "") for request in batch.requests]

    def _examine(self, error: Exception) -> Failure:
        """Find out what an error means, and free the memory of the pass that it ended.

        The frames are valid, and another package's errors are `StmnError`s (`stmn.flow.estimator`). So any other error
        on a GPU, unless memory runs out, is that of the GPU, its driver, Triton or the disk: no video is to blame.
        """
        reason, short, stops = describe_error(error), find_shortage(error) is not None, ""
        if isinstance(error, MissingExtra):
            stops = reason
        elif self._copies is not None and not short and (not isinstance(error, StmnError) or _OF_GPU.search(reason)):
            stops = f"{self._device.device}: {reason}; {ADVICE}"
        traceback.clear_frames(error.__traceback__)
        return Failure(reason, short, stops)

    def _is_taken(self, request: "Request") -> bool:
        """True if a GPU has room for a single pair, and what other programs leave of it has not."""
        if (free := self._device.free_memory()) is None:
            return False
        needed = request.levels[0, 0].numel() * _BYTES_PER_PIXEL
        _, total = torch.cuda.mem_get_info(self._device.device)
        return free < needed <= total

    def _check_device(self, reason: str) -> None:
        """Free a failed batch's GPU memory. Raises `FatalJobError` if the GPU no longer works."""
        if self._copies is None:
            return
        try:
            torch.cuda.synchronize(self._device.device)
            torch.cuda.empty_cache()
        except Exception as broken:
            raise FatalJobError(f"{self._device.device}: {reason}; {ADVICE}") from broken
