"""Every Python process that starts with this folder on its path finds a system that lacks what Windows lacks.

What `stmn` imports of the standard library has no `fcntl`, no fork server, no owners, no alarms and so on. Its libraries
are not deceived: they have their own ways on Windows. Below the folder `PRETENDED_FOLDER`, files are as Windows has them:
what is open can't be removed or renamed, names have no `:`, nothing is a link, and a folder can't be opened.
"""

import builtins
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import types
from pathlib import PurePath

MODULES = frozenset({"fcntl", "resource", "termios", "tty", "pty", "pwd", "grp", "syslog", "readline", "curses"})
NAMES = {
    os: """
        fork forkpty getuid geteuid getgid getegid getgroups setsid getsid getpgid killpg nice uname mkfifo mknod statvfs
        fstatvfs chown lchown fchown fchmod lockf memfd_create sched_getaffinity sched_setaffinity sched_yield sysconf
        pread pwrite preadv pwritev sendfile openpty posix_fadvise posix_spawn register_at_fork wait wait3 wait4 setxattr
        getxattr splice copy_file_range sync WIFEXITED WEXITSTATUS O_NOFOLLOW O_DIRECTORY O_NONBLOCK O_CLOEXEC O_SYNC
        O_TMPFILE O_PATH O_NOCTTY""",
    signal: """
        SIGALRM SIGHUP SIGKILL SIGQUIT SIGUSR1 SIGUSR2 SIGPIPE SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGWINCH alarm setitimer
        getitimer ITIMER_REAL pause pthread_kill pthread_sigmask sigwait siginterrupt""",
    socket: "AF_UNIX SO_PEERCRED socketpair sethostname SCM_RIGHTS",
}
#: characters and names that Windows doesn't take
FORBIDDEN, DEVICES = set('<>:"|?*\\') | set(map(chr, range(32))), {"con", "prn", "aux", "nul", "com1", "lpt1"}

ROOT = os.environ["PRETENDED_FOLDER"]


def poorer(module: types.ModuleType) -> types.ModuleType:
    """A module without what Windows' has not."""
    copy = types.ModuleType(module.__name__, module.__doc__)
    gone = set(NAMES[module].split())
    copy.__dict__.update({name: value for name, value in vars(module).items() if name not in gone})
    if module is os:
        copy.name = "nt"
    return copy


def import_poorer(name, globals=None, locals=None, fromlist=(), level=0):
    """`__import__`, which gives `stmn` what is left."""
    asking = (globals or {}).get("__name__", "")
    if level == 0 and (asking == "stmn" or asking.startswith("stmn.")):
        top = name.partition(".")[0]
        if top in MODULES:
            raise ModuleNotFoundError(f"No module named '{top}'", name=top)
        if name in LEFT or (top in LEFT and not fromlist):
            return LEFT[top]
    return really_import(name, globals, locals, fromlist, level)


def watch(event: str, arguments: tuple) -> None:
    """An audit hook: what Windows refuses below the folder."""
    if event in ("open", "os.mkdir", "os.remove"):
        paths = arguments[:1]
    elif event in ("os.rename", "os.symlink"):
        paths = arguments[:2]
    else:
        return
    paths = [os.path.abspath(os.fsdecode(path)) for path in paths if isinstance(path, str | bytes | os.PathLike)]
    paths = [path for path in paths if path.startswith(f"{ROOT}/")]
    if not paths:
        return
    if event == "os.symlink":
        raise OSError(1314, "a required privilege is not held", paths[0])
    for path in paths:
        for part in PurePath(path).relative_to(ROOT).parts:
            if FORBIDDEN & set(part) or part.rstrip(". ") != part or part.split(".")[0].lower() in DEVICES:
                raise OSError(22, f"a name that Windows does not take ({event})", path)
    if event == "open" and os.path.isdir(paths[0]):
        raise PermissionError(13, "Windows does not open folders", paths[0])
    if event in ("os.remove", "os.rename"):
        for path in paths:
            if opened := find_open(path):
                raise PermissionError(13, f"{opened}: Windows keeps what is open ({event})", path)


def find_open(path: str) -> str:
    """How a file is open in this process; empty if it is not."""
    try:
        about = os.lstat(path)
    except OSError:
        return ""
    if os.path.isdir(path):  # with all that is in it
        return next(filter(None, (find_open(entry.path) for entry in os.scandir(path))), "")
    for number in os.listdir("/proc/self/fd"):
        try:
            if os.path.samestat(os.fstat(int(number)), about):
                return f"file {number} is open"
        except OSError:
            continue
    with really_open("/proc/self/maps", encoding="utf-8") as file:
        return "it is mapped" if any(line.rstrip("\n").endswith(path) for line in file) else ""


LEFT = {module.__name__: poorer(module) for module in NAMES}
really_import, really_open = builtins.__import__, open
builtins.__import__ = import_poorer
shutil._use_fd_functions = False
for method in ("fork", "forkserver"):
    multiprocessing.context._concrete_contexts.pop(method)
multiprocessing.get_all_start_methods = lambda: ["spawn"]
multiprocessing.set_start_method("spawn")
sys.addaudithook(watch)
