"""Allow one process at a time in a folder: a lock that ends with the process that holds it.

The lock is on a file, not on the folder, because NFS locks only files that are open for writing. The file says who
holds the lock, but counts only while the lock is held, so a file left by a killed process blocks nobody.
"""

import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from stmn.errors import StmnError
from stmn.runtime.files import open_regular
from stmn.runtime.json_files import parse_json
from stmn.runtime.platforms import (
    AS_IS,
    NO_LINK,
    NO_WAIT,
    READABLE_FROM,
    is_locked,
    remove_locked,
    take_lock,
)

#: name of the lock's file in the folder
LOCK_FILE = "run.lock"
#: seconds to retry before refusing: another process may only be checking the lock, which takes a moment
_PATIENCE = 0.5
#: seconds between checks while waiting
_POLL_SECONDS = 0.5
#: longest command line in a message, in characters
_LONGEST = 200
#: bytes of a lock's file that are read; command lines are shorter
_MOST_BYTES = 2**16
#: the end of the year 9999, seconds since the epoch
_LAST = 253_402_300_799


class FolderInUse(StmnError):
    """Another process holds the lock of a folder."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock.

    Attributes:
        host: name of the machine; empty if unknown.
        pid: process id on that machine.
        since: when it took the lock, in seconds since the epoch.
        command: its command line.
        work: what it is doing, such as "this stage".
    """

    host: str = ""
    pid: int = 0
    since: float = 0.0
    command: str = ""
    work: str = "this stage"

    @property
    def is_known(self) -> bool:
        """True if the values are valid, so the other process has finished writing its file."""
        kinds = isinstance(self.host, str) and isinstance(self.pid, int) and isinstance(self.since, int | float)
        texts = isinstance(self.command, str) and isinstance(self.work, str)
        return kinds and texts and self.host.isprintable() and 0 < self.since < _LAST

    def __str__(self) -> str:
        if not self.host:
            return f"another process has been running {self.work}"
        begun = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        how = f" ({self.command})" if self.command else ""
        return f"process {self.pid} on {self.host} has been running {self.work} since {begun}{how}"


@contextmanager
def hold_lock(folder: Path, say: Callable[[str], None], wait: bool = False, work: str = "this stage") -> Iterator[bool]:
    """Lock `folder` against other processes that ask for the lock, until the block or this process ends.

    Yields whether another process held the lock first. The folder is created if it is missing, and removed again if
    nothing was written there.

    Args:
        say: called with a line when this process waits, or when the file system has no locks; then the folder is not
            locked.
        wait: wait for the process that holds the lock.
        work: what is done in the block, for messages.

    Raises:
        FolderInUse: another process holds the lock.
        StmnError: the folder can't be written.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    path = folder / LOCK_FILE
    try:
        handle, waited = _acquire(path, say, wait)
        try:
            own = Holder(platform.node(), os.getpid(), round(time.time(), 3), _command_line(), work)
            content = " " * READABLE_FROM + json.dumps(asdict(own))
            os.ftruncate(handle, 0)
            os.write(handle, f"{content}\n".encode())
            yield waited
        finally:
            remove_locked(path, handle)
    finally:
        with suppress(OSError):  # fails, as it should, if something was written
            for made in missing:
                made.rmdir()


def find_holder(folder: Path) -> Holder | None:
    """Return the holder of the lock of `folder`, which need not be writable; None if there is none."""
    try:
        handle = os.open(folder / LOCK_FILE, os.O_RDONLY | NO_WAIT)  # it might be a pipe
    except OSError:
        return None
    try:
        return _read_holder(folder / LOCK_FILE) if is_locked(handle) else None
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(handle)


def _acquire(path: Path, say: Callable[[str], None], wait: bool) -> tuple[int, bool]:
    """Take the lock: return its open file, and whether this process had to wait for another one."""
    begun, said = time.monotonic(), False
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | NO_LINK | AS_IS, 0o666)
        except FileNotFoundError:  # another process has just removed the folder that it had made
            continue
        except OSError as error:
            raise StmnError(f"{path}: can't be written: {error.strerror or error}") from error
        try:
            taken = take_lock(handle)
        except OSError as error:
            say(f"{path.parent}: no locks on this file system ({error.strerror}): start one process at a time here")
            return handle, said
        if taken and _is_there(handle, path):
            return handle, said
        os.close(handle)
        if taken:  # its last holder removed it after it was opened here and before it was locked
            continue
        holder = _read_holder(path)
        if not wait and time.monotonic() - begun > _PATIENCE:
            raise FolderInUse(f"{path.parent}: {holder}; wait until it ends (--wait), or end it")
        if wait and not said and time.monotonic() - begun > _PATIENCE:
            say(f"waiting for {path.parent}: {holder}")
            said = True
        time.sleep(_POLL_SECONDS if said else 0.05)


def _is_there(handle: int, path: Path) -> bool:
    """True if an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _read_holder(path: Path) -> Holder:
    """Read the holder from a lock's file; an empty `Holder` if it is missing or incomplete."""
    try:
        with open_regular(path) as file:
            file.seek(READABLE_FROM)
            holder = Holder(**parse_json(file.read(_MOST_BYTES)))
        return holder if holder.is_known else Holder()
    except (OSError, ValueError, TypeError):
        return Holder()


def _command_line() -> str:
    """Return the command line of this process, as a person would type it, shortened if long."""
    line = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
