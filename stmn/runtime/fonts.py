"""Fonts for text in pictures: Pillow's own, or another with letters that it lacks."""

import os
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

from stmn.errors import UsageError

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

#: fonts with many letters, the most preferred first; those of Chinese, Japanese and Korean last
_PREFERRED = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf", "LiberationSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc", "NotoSansSC-Regular.otf", "wqy-microhei.ttc", "PingFang.ttc", "msyh.ttc",
)  # fmt: skip
_FOLDERS = {
    "darwin": ("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts"),
    "win32": (r"C:\Windows\Fonts", r"~\AppData\Local\Microsoft\Windows\Fonts"),
}
_UNIX = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts")
#: a code point that no font has: its picture is the box for missing letters
_MISSING = "\U0010fffe"

_chosen: list[Path] = []


def choose_font(path: Path) -> None:
    """Prefer a font file to all others.

    Raises:
        UsageError: It is not a font.
    """
    try:
        ImageFont.truetype(str(path), 10)
    except OSError as error:
        raise UsageError(f"{path}: no font that can be read") from error
    _chosen[:] = [path]
    find_font.cache_clear()


@cache
def find_font(text: str, size: int) -> Font:
    """Return a font with all letters of a text, or else the one that lacks the fewest.

    Args:
        text: The text.
        size: Height in pixels.
    """
    best: tuple[int, Font] | None = None
    for font in _candidates(size):
        lacking = count_missing(font, text)
        if best is None or lacking < best[0]:
            best = lacking, font
        if not lacking:
            break
    assert best is not None
    return best[1]


def count_missing(font: Font, text: str) -> int:
    """Return the number of letters in a text that a font lacks."""
    box = _picture(font, _MISSING)
    return sum(_picture(font, letter) == box for letter in {*text} if not letter.isspace())


def _candidates(size: int) -> Iterator[Font]:
    """Yield the chosen font, Pillow's own, then those of this machine."""
    for path in _chosen:
        yield ImageFont.truetype(str(path), size)
    yield ImageFont.load_default(size)
    for path in _font_files():
        try:
            yield ImageFont.truetype(str(path), size)
        except OSError:
            continue


@cache
def _font_files() -> list[Path]:
    """Find the fonts of this machine and of matplotlib, the preferred ones first."""
    found: dict[str, Path] = {}
    folders = [Path(os.path.expanduser(folder)) for folder in _FOLDERS.get(sys.platform, _UNIX)]
    if (plots := find_spec("matplotlib")) and plots.origin:
        folders.append(Path(plots.origin).parent / "mpl-data" / "fonts")
    for folder in folders:
        for here, _, names in os.walk(folder):
            for name in sorted(names):
                if name.lower().endswith((".ttf", ".otf", ".ttc")) and not name.startswith("LastResort"):  # only boxes
                    found.setdefault(name, Path(here, name))
    order = {name: place for place, name in enumerate(_PREFERRED)}
    return sorted(found.values(), key=lambda path: (order.get(path.name, len(order)), path.name))


def _picture(font: Font, letter: str) -> bytes:
    """Return the pixels of a letter."""
    try:
        mask = font.getmask(letter)
    except (OSError, ValueError, UnicodeEncodeError):
        return b""
    return bytes(mask)
