"""A full or read-only disk is not a video's fault, so it stops all work."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stmn.runtime.workers import FatalJobError


@contextmanager
def stop_on_full_disk(folder: Path) -> Iterator[None]:
    """Turn write errors inside the block into `FatalJobError`, which stops all workers.

    Args:
        folder: The folder that is written, for the message.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        raise FatalJobError(f"{folder}: can't be written: {error}") from error
    except OSError as error:
        if disk := find_disk_error(error):
            raise FatalJobError(f"{disk.filename or folder}: can't be written: {disk.strerror}") from error
        raise


def find_disk_error(error: BaseException | None) -> OSError | None:
    """Return the disk error, full or read-only, that caused an error; None if something else did."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            return error
        error = error.__cause__
    return None
