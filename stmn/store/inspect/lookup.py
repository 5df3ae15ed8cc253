"""Find a video by what a person types of its id."""

from difflib import get_close_matches

from stmn.errors import DataError, near_match
from stmn.store.format.reader import Store, StoredVideo

#: candidates that an error names
NAMED = 5


def quoted(video_id: str) -> str:
    """An id between quotes, on one line whatever a file's name holds."""
    return "'" + "".join(c if c.isprintable() else repr(c)[1:-1] for c in video_id) + "'"


def find_video(store: Store, text: str) -> StoredVideo:
    """The readable video with the id `text`, or the only one whose id begins with, or else contains, it.

    Raises `DataError` naming the candidates or a near match, or the reason when the video was skipped.
    """
    if text in store.videos:
        return store.video(text)
    for fits in (str.startswith, str.__contains__):
        found = sorted(i for i in store.videos if fits(i.lower(), text.lower()))
        if len(found) == 1:
            return store.video(found[0])
        if found:
            names = ", ".join(quoted(i) for i in found[:NAMED]) + (", ..." if len(found) > NAMED else "")
            raise DataError(f"{store.folder}: {len(found)} videos fit {quoted(text)}: {names}")
    raise DataError(f"{store.folder}: no video {quoted(text)}{nearest(store, text)}")


def nearest(store: Store, text: str) -> str:
    """The id that may have been meant, in brackets; "" when none is near."""
    if near := near_match(text, store.videos):
        return near
    # a typing error in the name is nearer to the name alone than to the whole id
    names = {i.rpartition("/")[2]: i for i in store.videos}
    close = get_close_matches(text.rpartition("/")[2], names, n=1)
    return f" (did you mean {quoted(names[close[0]])}?)" if close else ""
