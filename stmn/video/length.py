"""Check whether a video is complete: compare what its file announces with what was read and decoded."""

import re
from dataclasses import dataclass

import av
from av.container import InputContainer

from stmn.video.reading import Tally
from stmn.video.source import main_stream

#: containers whose header states the length of the video; for others FFmpeg estimates it from their size
_STATING = frozenset({"avi", "mov", "matroska", "flv", "asf", "nut", "rm"})
#: containers that state one length for all streams
_STATING_ONE_LENGTH = frozenset({"flv", "asf", "rm"})
#: above this fraction of missing bytes, a note says how much is missing, not only that the end is
_SOME_BYTES = 0.005
#: no note is given if the header announces this many frames too many, or this fraction too much
_ROUNDED_FRAMES, _ROUNDED_FRACTION = 3.5, 0.03


@dataclass(frozen=True)
class HeaderLength:
    """The length of a video according to its header: frames and seconds, each 0 if not stated.

    The seconds may be those of the sound, or count from the beginning of a longer recording.
    """

    frames: int
    seconds: float


@dataclass(frozen=True)
class Announced:
    """The time at which the last packet should end according to the header, in seconds; 0 if not stated.

    `of_video` is True if this is the last packet of the video, not of any stream.
    """

    seconds: float
    of_video: bool


@dataclass(frozen=True)
class Damage:
    """The damage found in a video, and notes on oddities that are not a loss.

    `lost` frames out of `of` are lost; `words` says how.
    """

    lost: int
    of: int
    words: str
    notes: list[str]


def header_length(container: InputContainer) -> HeaderLength:
    """Return the length of an open video according to its header."""
    stream = main_stream(container)
    seconds = float((stream.duration or 0) * (stream.time_base or 0))
    if "mp4" in container.format.name.split(","):
        # an edit list may show only part of the counted frames; FFmpeg's duration accounts for that
        return HeaderLength(0, seconds)
    if stream.frames or seconds:
        return HeaderLength(stream.frames, seconds)
    # the form in Matroska
    if match := re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", "").strip()):
        return HeaderLength(0, 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3]))
    return HeaderLength(0, (container.duration or 0) / av.time_base)


def announced_end(container: InputContainer) -> Announced:
    """Return the time at which the last packet of an open video should end."""
    formats = set(container.format.name.split(","))
    if not _STATING & formats:
        return Announced(0.0, False)
    stream, length = main_stream(container), header_length(container)
    if "avi" in formats and stream.average_rate:  # for a truncated file, FFmpeg's seconds are too few
        return Announced(float(length.frames / stream.average_rate), True)
    own = bool(stream.duration or stream.metadata.get("DURATION")) and not _STATING_ONE_LENGTH & formats
    return Announced(length.seconds, own)


def judge(tally: Tally, announced: Announced, rate: float, cut: float) -> Damage:
    """Find out what is missing or damaged in a video that has been read to its end.

    A header that announces more than there is proves nothing: it may give the length of the sound, or of a longer
    recording. Frames are lost if the file's index lists packets that were not found, if they could not be decoded, or
    if there are other signs that the file ends too early.

    Args:
        tally: What was read and decoded.
        announced: The time at which the last packet ends according to the header.
        rate: Frames per second.
        cut: The fraction of the file's stated bytes that are missing.
    """
    end = tally.end if announced.of_video else tally.last_end
    missing = announced.seconds - end if announced.seconds else 0.0
    unread = max(tally.indexed - tally.packets, 0)
    ends_early = (cut or tally.incomplete or tally.errors) and missing > 0.5 / rate
    if ends_early:
        unread = max(unread, round(missing * rate))
    if cut and not announced.seconds and not unread:
        unread = round(tally.frames * cut / (1 - cut))
    lost, notes = unread + tally.failed, []
    if tally.early:
        notes.append(f"its first {tally.early} frames need an earlier key frame, which is not in the file")
    if tally.flawed:
        notes.append(f"{tally.flawed} of its {tally.frames} frames are damaged")
    if not unread and missing > max(_ROUNDED_FRAMES / rate, _ROUNDED_FRACTION * announced.seconds):
        notes.append(f"its header announces {announced.seconds:.1f} s, and it ends after {end:.1f} s")
    if cut:
        much = f": {100 * cut:.2g} % of its bytes" if cut > _SOME_BYTES else ""
        notes.append(f"the end of the file is missing{much}")
    of = tally.frames + lost
    if unread > tally.failed and (ends_early or not announced.seconds):
        words = f"breaks off after {tally.frames} of {of} frames"
    elif unread > tally.failed:
        words = f"lacks {lost} of its {of} frames"
    else:
        words = f"{lost} of its {of} frames can't be decoded"
    if tally.reason and lost:
        words += f": {tally.reason}"
    return Damage(lost, of, words, notes)
