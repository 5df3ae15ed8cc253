"""Import the code of a plugin within a time limit, and explain a failure."""

import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import EntryPoint
from types import FrameType
from typing import Any

from stmn.errors import UsageError
from stmn.registry.code import module_of

#: the variable that limits the seconds of an import, and its default
_VARIABLE, _SECONDS = "STMN_PLUGINS_TIMEOUT", 60.0


class _TooLong(BaseException):
    """An import has not ended. As a `BaseException` it isn't caught by an `except Exception` in the plugin."""


def import_entry(entry: EntryPoint, package: str) -> tuple[Any, str]:
    """Import the object that an entry point names.

    Args:
        entry: the entry point of a plugin.
        package: the package that has it.

    Returns:
        The object, and "". If importing fails: None, and a message with the cause and what to do.
    """
    seconds = import_seconds()
    try:
        with nullcontext() if module_of(entry).startswith("stmn.") else _limited(seconds):
            return entry.load(), ""
    except KeyboardInterrupt:
        raise
    except _TooLong:
        return None, (
            f"its import has not ended after {seconds:g} s; {_VARIABLE}=SECONDS gives it longer, pip uninstall "
            f"{package} removes it"
        )
    except BaseException as error:  # it may call `sys.exit`
        return None, f"{type(error).__name__}: {error}; {_advise(error, entry, package)}"


def import_seconds() -> float:
    """The most seconds that an import may take.

    Raises:
        UsageError: STMN_PLUGINS_TIMEOUT is not a number above 0.
    """
    text = os.environ.get(_VARIABLE, "")
    try:
        seconds = float(text) if text else _SECONDS
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise UsageError(f"{_VARIABLE} is '{text}'; it must be a number of seconds above 0")
    return seconds


def _advise(error: BaseException, entry: EntryPoint, package: str) -> str:
    """What the user can do about a failed import."""
    module = module_of(entry)
    missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    if not module or (missing and (missing == module or module.startswith(f"{missing}."))):
        return f"its entry point is {entry.value}, and there is no such module: reinstall {package}"
    if missing:
        return f"install the package that has the module {missing}"
    if isinstance(error, AttributeError) and error.obj is not None and not error.__cause__:
        return f"its entry point is {entry.value}: correct that in its pyproject.toml and reinstall {package}"
    return f"update {package} or its dependencies, or remove it: pip uninstall {package}"


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise `_TooLong` in a block that takes longer than `seconds`.

    In the main thread of a system with alarms this interrupts anything; elsewhere, only Python code.
    """
    alarms = hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread()
    with _interrupted_by_alarm(seconds) if alarms else _interrupted_by_thread(seconds):
        yield


@contextmanager
def _interrupted_by_thread(seconds: float) -> Iterator[None]:
    """Raise `_TooLong` in this thread when it next runs Python code after `seconds` in the block."""
    this, lock, ended = ctypes.c_ulong(threading.get_ident()), threading.Lock(), False

    def stop() -> None:
        with lock:
            if not ended:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(this, ctypes.py_object(_TooLong))

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            ended = True
        timer.cancel()


@contextmanager
def _interrupted_by_alarm(seconds: float) -> Iterator[None]:
    """Raise `_TooLong` in the main thread after `seconds` in the block."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, stop)
    rest, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, rest, interval)
        signal.signal(signal.SIGALRM, before)
