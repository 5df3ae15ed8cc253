"""Differences between systems: locks, open files, descriptors, owners, how processes start.

Linux and macOS have all features. On Windows, locks keep readers out of locked bytes, open files can't be removed or
renamed, processes start only in new interpreters, and there are no owners. Each feature is detected where possible; the
system's name decides only about the rest.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: files and processes have owners and groups
HAS_OWNERS = hasattr(os, "geteuid")
#: the number of an open file or pipe can be passed to a child process, and to FFmpeg
PASSES_DESCRIPTORS = hasattr(os, "fork")

#: largest number of processes to wait for; Windows can wait for at most 63 objects
MOST_WORKERS = 60 if os.name == "nt" else 2**16
#: a file name can have any character except a slash
TAKES_ALL_NAMES = os.name != "nt"

#: flags to open untrusted files: links are not followed, and opening a pipe doesn't wait
NO_LINK, NO_WAIT = getattr(os, "O_NOFOLLOW", 0), getattr(os, "O_NONBLOCK", 0)
#: flag to read and write bytes unchanged
AS_IS = getattr(os, "O_BINARY", 0)
#: others can read a locked file's bytes starting here
READABLE_FROM = 1

#: checks of a lock that may only be held by another check, and seconds between them
_LOOKS, _LOOK_SECONDS = 5, 0.02
#: without locks, a temporary file counts as left over if it was not written for this many seconds
_OLD = 600.0


def take_lock(handle: int) -> bool:
    """Lock a writable open file, until its handle is closed or this process ends in any way.

    Returns:
        False if another process has locked it.

    Raises:
        OSError: its file system has no locks.
    """
    from filelock import lock_descriptor  # slow to import

    return lock_descriptor(handle, blocking=False)


def is_locked(handle: int) -> bool:
    """True if another process has locked an open file, which may be read-only here. Raises `OSError`."""
    if fcntl:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two checks don't block each other
        except BlockingIOError:
            return True
        return False
    for _ in range(_LOOKS):
        if take_lock(handle):
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def remove_locked(path: Path, handle: int) -> None:
    """Remove a file that this process has locked, and close it. Raises `OSError`."""
    if fcntl:
        path.unlink(missing_ok=True)  # before another process can lock it
        os.close(handle)
        return
    os.close(handle)
    with suppress(OSError):  # if another process has opened it, it stays: an unlocked file means nothing
        path.unlink()


def mark_as_used(handle: int) -> int | None:
    """Mark a new file as in use, until the returned handle is closed or this process ends.

    Returns:
        The handle. None if open files can't be renamed: then the file is closed, and not marked.
    """
    if not fcntl:
        os.close(handle)
        return None
    with suppress(OSError):  # a file system without locks
        fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def remove_unused(path: Path) -> None:
    """Remove a file that a killed process has left, unless a living process has marked it.

    On systems without marks, a file that is open or was written in the last ten minutes stays.
    """
    with suppress(OSError):
        if not fcntl:
            if time.time() - path.stat().st_mtime > _OLD:
                path.unlink()
            return
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def has_fork_server() -> bool:
    """True if worker processes can start from a server that has imported torch; else each is a new interpreter."""
    import multiprocessing

    return "forkserver" in multiprocessing.get_all_start_methods()


def has_private_sockets() -> bool:
    """True if a process can be reached by a name that is not a file, and can check its clients' user: on Linux."""
    import socket

    return HAS_OWNERS and hasattr(socket, "AF_UNIX") and hasattr(socket, "SO_PEERCRED")
