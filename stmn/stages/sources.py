"""Take the data set, split and part of a stage that reads scores from these scores."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from stmn.errors import DataError
from stmn.options.base import DataOptions
from stmn.workspace import Input, Workspace

if TYPE_CHECKING:
    from stmn.evaluation.scores import Scores
    from stmn.store.format.read import Store

OptionsT = TypeVar("OptionsT", bound=DataOptions)


def holds_scores(item: Input) -> bool:
    """True for a scores file, False for a model. Raises `CheckpointError` if it is damaged."""
    from stmn.runtime.tensor_files import read_metadata

    return "scores" in read_metadata(item.path)


def fill_source(options: OptionsT, items: Sequence[Input], workspace: Workspace) -> OptionsT:
    """Fill in the data set, split and part of given scores.

    Args:
        options: The options of a stage. Those that are set must agree with the scores.
        items: Scores files.
        workspace: Where the data set is.

    Raises:
        DataError: The scores contradict each other or the options, or don't fit the data set.
        CheckpointError: A file is damaged.
    """
    from stmn.evaluation.agreement import align_scores, check_source, find_source
    from stmn.evaluation.scores import load_scores
    from stmn.store.format.header import read_header

    parts, names = [load_scores(item.path) for item in items], [item.label for item in items]
    said = find_source(parts, names)
    if options.data is None and said.data in workspace.prepared():
        options = options.model_copy(update={"data": said.data})
    header = read_header(workspace.find_data(options.data))
    asked = (options.split or said.split, getattr(options, "part", None) or said.part)
    for part, name in zip(parts, names, strict=True):
        align_scores(parts[0], part, name, names[0])
        source = check_source(part, name, header, *asked)
    found = {"split": source.split} | ({"part": source.part} if "part" in type(options).model_fields else {})
    return options.with_defaults(**found)


def fill_folds(options: OptionsT, items: Sequence[Input], workspace: Workspace) -> OptionsT:
    """Fill in the data set and part of scores of several folds, and the split "all".

    Raises:
        DataError: The scores can't be joined, or don't fit the options or the data set.
        CheckpointError: A file is damaged.
    """
    from stmn.evaluation.agreement import check_source
    from stmn.evaluation.joining import join_folds
    from stmn.evaluation.scores import load_scores
    from stmn.store.format.header import read_header

    whole = join_folds([load_scores(item.path) for item in items], [item.label for item in items])
    if options.data is None and whole.protocol.get("data") in workspace.prepared():
        options = options.model_copy(update={"data": whole.protocol["data"]})
    if options.split not in (None, "all"):
        raise DataError(f"the folds together are of all splits, but --split asks for {options.split}; leave it out")
    header = read_header(workspace.find_data(options.data))
    source = check_source(whole, "the folds together", header, "all", getattr(options, "part", None))
    return options.with_defaults(split="all", part=source.part)


def describe_changes(parts: Sequence["Scores"], names: Sequence[str], store: "Store") -> Iterator[str]:
    """One line for each of `parts` whose data set has changed since the test.

    Raises:
        DataError: A scored video itself has changed.
    """
    from stmn.evaluation.agreement import find_changes

    for part, name in zip(parts, names, strict=True):
        if changed := find_changes(part, name, store):
            yield changed


def find_inputs(options: Any, name: str, workspace: Workspace, inputs: dict[str, list[Input]]) -> list[Input]:
    """The files of an input option: from a recipe's stages, or looked up by name. Raises `StmnError`."""
    if name in inputs:
        return inputs[name]
    value = getattr(options, name)
    values = value if isinstance(value, list) else [value] if value else []
    return [workspace.find_input(str(item), *options.inputs()[name]) for item in values]
