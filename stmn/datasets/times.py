"""Times in lists: seconds, or hours, minutes and seconds."""

import re

#: 83.5, 1:23.5 or 0:01:23,5
_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:[.,]\d*)?|[.,]\d+)")


def parse_time(text: str) -> float | None:
    """Return a time in seconds; None for an empty text.

    Raises:
        ValueError: It is not a time.
    """
    if not text.strip():
        return None
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"'{text}' is no time")
    hours, minutes, seconds = match.groups()
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + float(seconds.replace(",", "."))
