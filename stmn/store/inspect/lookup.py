"""Find a video by part of its id."""

from difflib import get_close_matches

from stmn.errors import DataError, near_match
from stmn.runtime.names import printable
from stmn.store.format.read import Store, StoredVideo

#: largest number of candidates in an error
_MOST_LISTED = 5


def quote_id(video_id: str) -> str:
    """Return an id in quotes, on one line whatever characters it contains."""
    return f"'{printable(video_id)}'"


def find_video(store: Store, text: str) -> StoredVideo:
    """Find the readable video whose id is `text`, or the only one whose id starts with it, or else contains it.

    Raises:
        DataError: No video or several videos match, or the video was skipped; the message names candidates, a near
            match, or the reason.
    """
    if text in store.videos:
        return store.video(text)
    for matches in (str.startswith, str.__contains__):
        found = sorted(i for i in store.videos if matches(i.lower(), text.lower()))
        if len(found) == 1:
            return store.video(found[0])
        if found:
            names = ", ".join(map(quote_id, found[:_MOST_LISTED]))
            more = ", ..." if len(found) > _MOST_LISTED else ""
            raise DataError(f"{store.folder}: {len(found)} videos match {quote_id(text)}: {names}{more}")
    raise DataError(f"{store.folder}: no video {quote_id(text)}{_near_id(store, text)}")


def _near_id(store: Store, text: str) -> str:
    """Return the id that may have been meant, in brackets; "" if none is close."""
    if near := near_match(text, store.videos):
        return near
    # a misspelt file name is closer to the file name than to the whole id
    names = {i.rpartition("/")[2]: i for i in store.videos}
    close = get_close_matches(text.rpartition("/")[2], names, n=1)
    return f" (did you mean {quote_id(names[close[0]])}?)" if close else ""
