"""What systems differ in: locks, files that are open, descriptors, owners, how processes start.

Linux and macOS have all of it. Windows has locks that keep readers out of what is locked, keeps files that are open
under their names, starts processes in new interpreters alone, and has no owners. Each difference is looked for by what
the system has, and not by its name, which decides on what can't be looked for.
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
#: a child process can get the number of an open file or pipe, and FFmpeg too
PASSES_DESCRIPTORS = hasattr(os, "fork")

#: how many processes one can wait for; Windows waits for 63 things at most
MOST_WORKERS = 60 if os.name == "nt" else 2**16
#: a name in a folder can have any letter but a slash
TAKES_ALL_NAMES = os.name != "nt"

#: flags to open what strangers may have put there: a link is not followed, a pipe is not waited for
NO_LINK, NO_WAIT = getattr(os, "O_NOFOLLOW", 0), getattr(os, "O_NONBLOCK", 0)
#: bytes stay as they are
AS_IS = getattr(os, "O_BINARY", 0)
#: a locked file's bytes from here on can be read by others
READABLE_FROM = 1

#: looks at a lock that may be another look, and seconds between them
_LOOKS, _LOOK_SECONDS = 5, 0.02
#: seconds for which a file under a temporary name has not been written, so that it is left over where none are locked
_OLD = 600.0


def take_lock(handle: int) -> bool:
    """Lock an open file that can be written, until its handle is closed or this process ends, however it does.

    Returns:
        False if another process has locked it.

    Raises:
        OSError: its file system has no locks.
    """
    from filelock import lock_descriptor  # takes longer than most commands need

    return lock_descriptor(handle, blocking=False)


def is_locked(handle: int) -> bool:
    """True if another process has locked an open file, which this one may read only. Raises `OSError`."""
    if fcntl:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # two that look don't see each other
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
    with suppress(OSError):  # another process has opened it by now, so that it stays: an unlocked file says nothing
        path.unlink()


def mark_as_used(handle: int) -> int | None:
    """Mark a new file as in use, until the returned handle is closed or this process ends.

    Returns:
        The handle. None where a file that is open can't get another name: there it is closed, and is not marked.
    """
    if not fcntl:
        os.close(handle)
        return None
    with suppress(OSError):  # a file system without locks
        fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def remove_unused(path: Path) -> None:
    """Remove a file that a killed process has left, and not one that a living process has marked.

    Where files are not marked, one that is open or was written in the last ten minutes stays.
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
    """True where worker processes can start from a server that has imported torch; else each is a new interpreter."""
    import multiprocessing

    return "forkserver" in multiprocessing.get_all_start_methods()


def has_private_sockets() -> bool:
    """True where a process can be reached by a name that is no file, and sees whose the others are: on Linux."""
    import socket

    return HAS_OWNERS and hasattr(socket, "AF_UNIX") and hasattr(socket, "SO_PEERCRED")
