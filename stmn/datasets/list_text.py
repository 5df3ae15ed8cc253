"""Read the text of lists from any system: UTF-8 or UTF-16, with any line ends."""

import codecs
from pathlib import Path

from stmn.errors import DataError
from stmn.runtime.files import read_regular

_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
#: bytes that are examined to recognise UTF-16 without a byte-order mark
_SAMPLE = 1000


def read_list(path: Path) -> str:
    """Return the text of a list, without a byte-order mark. Bytes that are not UTF-8 are kept as surrogates.

    File names may hold any bytes; `os.fsencode` gives them back.

    Raises:
        DataError: It can't be read, or is not text.
    """
    try:
        content = read_regular(path)
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror or error}") from error
    encoding = _UTF16.get(content[:2]) or _guess_utf16(content[:_SAMPLE])
    try:
        text = content.decode(encoding) if encoding else content.decode("utf-8", "surrogateescape")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is damaged UTF-16 text; save it as UTF-8") from error
    if "\0" in text:
        raise DataError(f"{path}: is not text; name a folder of videos, or a list of them as CSV")
    return text.removeprefix("\ufeff")


def _guess_utf16(sample: bytes) -> str:
    """Guess the encoding of UTF-16 without a byte-order mark: most high bytes are 0; "" for other text."""
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        high, low = sample[first::2], sample[1 - first :: 2]
        if high.count(0) > len(high) / 2 and not low.count(0):
            return encoding
    return ""
