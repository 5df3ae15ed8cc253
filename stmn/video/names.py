"""Names of video files. Imports nothing, so that whoever only lists videos need not load a decoder."""

import os

#: in lower case
VIDEO_SUFFIXES = frozenset({
    ".avi", ".mp4", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".m4v", ".wmv", ".flv", ".3gp", ".ts", ".ogv", ".gif",
    ".m2ts", ".vob", ".asf",
})  # fmt: skip


def without_suffix(name: str) -> str:
    """Return a file name or a path without a video's suffix; other suffixes stay."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in VIDEO_SUFFIXES else name
