"""A text file of rows, from which the rows of a video that fails can be removed."""

from typing import TextIO


class RowFile:
    """Writes rows as they come; those since the last `commit` can be removed.

    Args:
        file: An empty text file, open for writing.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._committed = 0

    def commit(self) -> None:
        """Keep the rows written so far."""
        self._file.flush()
        self._committed = self._file.tell()

    def roll_back(self) -> None:
        """Remove the rows written since the last `commit`."""
        self._file.flush()
        self._file.seek(self._committed)
        self._file.truncate()
