"""`stmn` on a terminal: what it writes to a pseudo-terminal of a given width."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time

from helpers.commands import STMN

#: what sets a colour: 31, 1;91, 38;5;9, ...
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3\d|4\d|9\d|10\d)(?:;\d+)*m")


def on_terminal(*arguments: object, columns: int = 80, code: int = 0, **environment: str) -> str:
    """All that a command writes to its terminal, escape sequences included; it must end with `code`."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    known = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [STMN, *map(str, arguments)], stdin=theirs, stdout=theirs, stderr=theirs,
        env=known | {"TERM": "xterm-256color"} | environment,
    )  # fmt: skip
    os.close(theirs)
    written, end = b"", time.monotonic() + 120
    while time.monotonic() < end:
        try:
            written += os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
    os.close(ours)
    text = written.decode()
    assert process.wait(timeout=60) == code, text
    return text


def screen_lines(text: str) -> list[str]:
    """The lines that were on the screen at some time, without escape sequences."""
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text).replace("\r", "\n").splitlines()
