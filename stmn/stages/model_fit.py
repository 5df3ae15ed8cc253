"""Check that a model fits a prepared set: its classes, how pictures were made, and what it has learned from."""

from typing import TYPE_CHECKING

from stmn.errors import DataError, count_of
from stmn.runtime.notices import notice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stmn.nets.checkpoint import Description
    from stmn.store.format.read import Store, StoredVideo


def check_fits(description: "Description", name: str, store: "Store") -> None:
    """Check that a model has the classes of a set, and was trained on pictures made in the same way.

    Args:
        description: the description in the model file.
        name: the model's name in error messages.
        store: the prepared set.

    Raises:
        DataError: it doesn't fit; the message says what differs.
    """
    header = store.header
    known = description.network.classes
    if known != header.classes:
        raise DataError(
            f"{name} knows {count_of(len(known), 'class', 'classes')} ({', '.join(known[:3])}, ...), which are not "
            f"those of data set {header.name}"
        )
    for key, value in description.preparation:
        if value != (there := getattr(header.preparation, key)) and key != "quality":
            raise DataError(f"{name} was trained on data prepared with {key} = {value}; {header.name} has {there}")


def check_unseen(
    description: "Description", name: str, store: "Store", videos: "Sequence[StoredVideo]", what: str, remedy: str
) -> None:
    """Check that a model has not learned from videos that it is to be tested on.

    Args:
        description: the description in the model file.
        name: the model's name in error messages.
        store: the prepared set.
        videos: the videos of the set to test on.
        what: words for these videos: "test videos of split 1".
        remedy: what to do, for the message.

    Raises:
        DataError: it has; the message says from how many of them.
    """
    known = description.trained_on
    if videos and known.list_hash and not known.contents:
        notice(
            f"{name}: it may have been trained on the {what}: its {count_of(known.count or 0, 'training video')} "
            f"({known.data}) are listed neither in its file nor beside it"
        )
    if seen := known.seen(videos, store.header.name):
        ids = set(known.videos) if known.data == store.header.name else set()
        renamed = sum(video.id not in ids for video in seen)
        under = f"; {renamed} of them under another name" if renamed else ""
        raise DataError(
            f"{name} was trained on {len(seen):,} of the {len(videos):,} {what} (it was trained on "
            f"{describe_list(description, store)}{under}); {remedy}"
        )


def describe_list(description: "Description", store: "Store") -> str:
    """Name the split that a model was trained on, and its data set if it isn't the store's."""
    known = description.trained_on
    other = "" if known.data == store.header.name else f"{known.data} "
    return f"{other}split {known.split}"
