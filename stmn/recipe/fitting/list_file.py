"""The rows of a list of clips: path, class, group, and which part of each split a clip is in."""

import os
from collections.abc import Iterator
from pathlib import Path

from stmn.errors import UsageError
from stmn.recipe.fitting.choose import Chosen
from stmn.runtime.csv_cells import safe_cell
from stmn.stages.clips import Clips, divide

#: part of a split -> its name in a list
_WORDS = {"train": "train", "test": "test", "validation": "val"}


def list_rows(clips: Clips, chosen: Chosen, folder: Path) -> Iterator[list[str]]:
    """The header and a row for each clip.

    Args:
        clips: the clips.
        chosen: the choices, which have the number of folds.
        folder: the folder of the list; paths of files in it are relative to it, others absolute.

    Raises:
        UsageError: a name is not UTF-8.
    """
    splits = divide(clips, chosen.folds)
    parts = {name: {i: part for part, ids in split.items() for i in ids} for name, split in splits.items()}
    columns = ["split"] if len(parts) == 1 else [f"split{name}" for name in parts]
    segments = any(entry.segment for entry in clips.entries)
    yield ["path", *(["start", "end"] if segments else []), "class", "group", *columns]
    for entry in clips.entries:
        path = os.path.abspath(entry.path)
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{entry.id}: its name is not UTF-8, which a list must be: rename it") from error
        if Path(path).is_relative_to(folder):
            path = str(Path(path).relative_to(folder))
        times = [f"{entry.start:g}", "" if entry.end is None else f"{entry.end:g}"] if segments else []
        words = [_WORDS.get(part.get(entry.id, ""), "") for part in parts.values()]
        yield [safe_cell(path), *times, safe_cell(entry.class_name), safe_cell(entry.group), *words]
