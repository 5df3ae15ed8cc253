"""Read and decode the packets of a video as a player does: damaged ones are skipped, and counted."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import PictureType

from stmn.video.alpha import has_hidden_alpha, open_alpha_decoder
from stmn.video.source import describe_ffmpeg_error, main_stream

#: reading ends after this many consecutive errors without a packet
_MOST_ERRORS = 50
#: decoders that skip to the first key frame themselves
_CAREFUL_DECODERS = frozenset({"h264", "hevc", "vvc", "av1", "libdav1d", "vp8", "vp9"})
#: a video without a key frame in this many packets counts as having none, and all of it is decoded
_LONGEST_START = 300


@dataclass
class Tally:
    """Counts of what happened to a video's packets.

    Attributes:
        packets: Packets of the video that were read.
        frames: Frames that were decoded.
        early: Packets before the first decodable frame: they need an earlier key frame.
        failed: Packets after the first key frame that could not be decoded.
        flawed: Frames that were decoded with errors, or from incomplete packets.
        errors: Errors in reading.
        reason: FFmpeg's words for the first error.
        end: Time at which the last packet of the video ends, in seconds.
        last_end: Time at which the last packet of any stream ends, in seconds.
        incomplete: The last packet is incomplete or can't be decoded, or reading ended with an error.
        indexed: Packets of the video that the file's index lists.
    """

    packets: int = 0
    frames: int = 0
    early: int = 0
    failed: int = 0
    flawed: int = 0
    errors: int = 0
    reason: str = ""
    end: float = 0.0
    last_end: float = 0.0
    incomplete: bool = False
    indexed: int = 0


class VideoReader:
    """Reads one video from beginning to end.

    Args:
        container: The open video.
        patient: Continue after a read error. Otherwise, as for streams, reading ends there.
    """

    def __init__(self, container: InputContainer, patient: bool) -> None:
        self.tally = Tally()
        self.stream = main_stream(container)
        self.stream.thread_type = "NONE"  # videos run in parallel instead, and threads deadlock in forked workers
        self.stream.codec_context.thread_count = 1
        hidden = open_alpha_decoder(self.stream) if has_hidden_alpha(self.stream) else None
        self._decoder = hidden or self.stream.codec_context
        #: a note for the user on how it is decoded
        self.note = "" if hidden or not has_hidden_alpha(self.stream) else "its alpha is left out: FFmpeg lacks libvpx"
        self._container, self._patient = container, patient
        self._timed_by_packets = container.format.name == "avi"
        self._times: deque[int | None] = deque()
        self._broken: FFmpegError | OSError | None = None
        self._before: list[int] = []
        self._starts_late = False

    def frames(self) -> Iterator[av.VideoFrame]:
        """Yield the frames that can be decoded. Raises an error if a stream or an animation breaks off."""
        tally, seen_key = self.tally, False
        tally.indexed = len(self.stream.index_entries)
        for packet in self._packets():
            if packet is None:
                tally.incomplete = True
                continue
            self._note_end(packet)
            if packet.stream_index != self.stream.index:
                continue
            tally.packets += 1
            tally.incomplete = packet.is_corrupt
            seen_key = seen_key or packet.is_keyframe
            self._note_start(packet)
            try:
                yield from self._keep(self._decode(packet), packet.is_corrupt)
            except (FFmpegError, ValueError) as error:
                tally.reason = tally.reason or describe_ffmpeg_error(error)
                tally.failed += seen_key
                tally.incomplete = True
        yield from self._drain()
        # a fragmented MP4 lists its packets fragment by fragment
        tally.indexed = max(tally.indexed, len(self.stream.index_entries))
        if self._broken:
            raise self._broken

    def _packets(self) -> "Iterator[Packet[Any] | None]":
        """Yield the packets of all streams; None for a read error."""
        errors = 0
        while errors < _MOST_ERRORS:
            try:
                for packet in self._container.demux():
                    if packet.size:
                        errors = 0
                        yield packet
                return
            except (FFmpegError, OSError) as error:  # OSError: from an animation or a pipe
                errors += 1
                self.tally.errors += 1
                self.tally.reason = self.tally.reason or describe_ffmpeg_error(error)
                if not self._patient or not isinstance(error, FFmpegError):
                    self._broken = error
                    return
                yield None

    def _decode(self, packet: "Packet[Any]") -> list[av.VideoFrame]:
        """Return the frames that a packet completes."""
        frames = self._decoder.decode(packet)
        if self._timed_by_packets and packet.size:
            self._times.append(packet.dts)
        for frame in frames:
            if self._timed_by_packets and self._times:
                # AVI has no time stamps; those that FFmpeg generates jump where frames are stored out of order
                frame.pts = self._times.popleft()
        if not frames and self._times and not self.stream.codec_context.has_b_frames:
            self._times.pop()  # the packet means "repeat the last frame"
        return frames

    def _keep(self, frames: list[av.VideoFrame], corrupt: bool) -> Iterator[av.VideoFrame]:
        """Count and yield the frames, except those decoded without the key frame that they need."""
        for frame in frames:
            if self._starts_late and not self.tally.frames and self._needs_others(frame):
                continue
            if not self.tally.frames and frame.pts is not None:
                self.tally.early = sum(time < frame.pts for time in self._before)
            self.tally.frames += 1
            self.tally.flawed += frame.is_corrupt or corrupt
            yield frame

    def _needs_others(self, frame: av.VideoFrame) -> bool:
        """True for a frame that a decoder outside `_CAREFUL_DECODERS` made without the earlier frames that it needs."""
        name = self.stream.codec_context.codec.name
        return (
            name not in _CAREFUL_DECODERS
            and frame.pict_type in (PictureType.P, PictureType.B, PictureType.S)
            and len(self._before) < _LONGEST_START
        )

    def _drain(self) -> Iterator[av.VideoFrame]:
        """Yield the frames that the decoder still holds."""
        flush = Packet()
        flush.time_base = self.stream.time_base or Fraction(1)
        try:
            yield from self._keep(self._decode(flush), False)
        except (FFmpegError, ValueError) as error:
            self.tally.reason = self.tally.reason or describe_ffmpeg_error(error)
            self.tally.failed += 1

    def _note_start(self, packet: "Packet[Any]") -> None:
        """Remember the times of the packets before the first frame, and whether the video begins with a key frame."""
        if self.tally.packets == 1:
            self._starts_late = not packet.is_keyframe
        time = packet.dts if self._timed_by_packets else packet.pts
        if not self.tally.frames and time is not None and not packet.is_discard:
            self._before.append(time)

    def _note_end(self, packet: "Packet[Any]") -> None:
        """Remember the latest end of the packets read so far."""
        time = packet.dts if packet.pts is None else packet.pts
        if time is not None:
            end = float((time + (packet.duration or 0)) * packet.time_base)
            self.tally.last_end = max(self.tally.last_end, end)
            if packet.stream_index == self.stream.index:
                self.tally.end = max(self.tally.end, end)
