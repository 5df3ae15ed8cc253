"""Folders and files that only this user can write, so that libraries can be loaded from them safely."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from stmn.runtime.platforms import HAS_OWNERS


class SharedFolderError(OSError):
    """Other users can write to a folder or replace it; the message says why."""


#: permissions that let others than the owner change a file or a folder's contents
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def make_private_folder(path: Path) -> Path:
    """Make a folder that only this user can write, or make sure that an existing one is.

    On systems without owners, the folder is only created.

    Returns:
        The folder's path, without links.

    Raises:
        SharedFolderError: others can write to it, or replace it.
        OSError: it can't be made.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = path.resolve(strict=True)
    if not HAS_OWNERS:
        return folder
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise SharedFolderError(f"{folder} belongs to another user")
    if status.st_mode & _OTHERS:
        folder.chmod(stat.S_IMODE(status.st_mode) & ~_OTHERS)
    for above in folder.parents:
        if fault := _find_fault(above.stat()):
            raise SharedFolderError(f"{above}, which holds it, {fault}")
    return folder


def is_private_file(path: Path) -> bool:
    """True for a file (not a link) that belongs to this user and that no one else can write."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    if not HAS_OWNERS:
        return stat.S_ISREG(status.st_mode)
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & _OTHERS


def _find_fault(status: os.stat_result) -> str:
    """Return why others can replace a folder's contents; empty if they can't."""
    if status.st_uid not in (0, os.geteuid()):
        return "belongs to another user"
    sticky = status.st_mode & stat.S_ISVTX  # as in /tmp: users can replace only their own files
    shared = status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and not _is_own_group(status.st_gid))
    return "can be written by others" if shared and not sticky else ""


def _is_own_group(number: int) -> bool:
    """True for a group with only this user, which many systems create for each user, or for the superuser's group."""
    if number == 0:
        return True
    with suppress(ImportError, KeyError):
        import grp
        import pwd

        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(number)
        return user.pw_gid == number and user.pw_name == group.gr_name and set(group.gr_mem) <= {user.pw_name}
    return False
