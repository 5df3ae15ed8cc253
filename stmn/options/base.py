"""Write an option once: type, default and help in a pydantic field.

The flag, the recipe key, the docs and the run's record all come from the field. `Option` describes a field to code that
needs more than its value; only this module examines a field's type.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from stmn.errors import UsageError, describe_mistake, near_match
from stmn.runtime.names import name_problem

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

#: the kinds of file that a stage can make for a later one, in its run's folder
OutputKind = Literal["model", "scores", "splits", "table"]
#: the titles under which the help of a command shows options
Panel = Literal["Data", "Network", "Features", "Optimisation", "Testing", "Run"]
#: how the value of an option is written: a `list` is values separated by commas, a `table` is KEY=VALUE
Shape = Literal["switch", "integer", "number", "text", "path", "choice", "list", "table"]

#: the help of an option that training and testing share
LOADER_THREADS = (
    "threads that decode pictures, in each process [default: 1 on a CPU; on a GPU one per core, at most 16]"
)

#: the largest whole number: these are counts, sizes, and seeds of 32 bits
_MOST = 2**32 - 1
#: the most characters of a value in a message
_MOST_SHOWN = 100
_SHAPES: dict[Any, Shape] = {bool: "switch", int: "integer", float: "number", Path: "path"}


@dataclass(frozen=True)
class Option:
    """The description of a field of an options model.

    Attributes:
        name: the recipe key.
        help: one line.
        default: its default value.
        shape: how its value is written.
        choices: the values that a `choice` can have.
        panel: the title that it stands under in the help of a command.
        argument: it is positional on the command line; also a flag if it is `flagged`.
        flagged: it has a flag.
        inputs: it is an input: it names a stage's output of one of these kinds; empty for other options.
        words: values of an input that name no output.
        input_plugin: an input may name a plugin of this kind instead.
        execution: it decides speed or place, not the result.
        data: it names the prepared data set.
        plugin: it names a plugin of this kind.
        options_of: it holds options of the plugin that another option names; this is that option's name.
        command_line_only: it may not be given in a file, because it leads out of the workspace.
        makes: it names a folder that the stage makes; in a file it must be a name in the workspace, not a path.
        added_later: at its default it is not part of a run's identity, so earlier runs stay up to date.
    """

    name: str
    help: str
    default: Any
    shape: Shape
    choices: tuple[str, ...]
    panel: Panel
    argument: bool
    flagged: bool
    inputs: tuple[OutputKind, ...]
    words: tuple[str, ...]
    input_plugin: str | None
    execution: bool
    data: bool
    plugin: str | None
    options_of: str | None
    command_line_only: bool
    makes: bool
    added_later: bool

    @property
    def flag(self) -> str:
        """`--late-fusion` for `late_fusion`."""
        return f"--{self.key.replace('_', '-')}"

    @property
    def key(self) -> str:
        """Its name in recipes: `from` for `from_`, because `from` is reserved in Python."""
        return self.name.rstrip("_")


class StageOptions(BaseModel):
    """Base of all stages' options: unknown keys are errors, values don't change."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        alias_generator=lambda name: name.rstrip("_"),  # `from_` is `from` in recipes
        populate_by_name=True,
    )

    #: former name of an option -> its present name
    renamed: ClassVar[dict[str, str]] = {}

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_placeholders(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse booleans as numbers, empty names and lists, numbers that are too large, and NUL characters."""
        name = str(info.field_name)
        shape = cls.described()[name].shape
        if isinstance(value, bool) and shape in ("integer", "number"):
            kind = "whole number" if shape == "integer" else "number"
            raise ValueError(f"{name} = {format_value(value)}: must be a {kind}")
        if value in ("", []) and shape in ("text", "path", "list"):
            raise ValueError(f"{name} is empty: give a value, or leave it out")
        bounded = any(getattr(rule, "le", None) is not None for rule in cls.model_fields[name].metadata)
        for item in _leaves(value):
            if isinstance(item, int) and abs(item) > _MOST and not bounded:  # a bounded option has a message of its own
                raise ValueError(f"{name} = {format_value(value)}: is too large")
            if isinstance(item, str) and "\0" in item:
                raise ValueError(f"{name} = {format_value(value)}: has a NUL character, which nothing is called")
        return value

    @classmethod
    def described(cls) -> dict[str, Option]:
        """Name -> option, for all options."""
        return _describe(cls)

    @classmethod
    def inputs(cls) -> dict[str, tuple[OutputKind, ...]]:
        """Name of each input option -> the kinds of output that it takes."""
        return {option.name: option.inputs for option in cls.described().values() if option.inputs}

    def named(self, name: str) -> list[str]:
        """The outputs that an input option names: none, one or several."""
        value = getattr(self, name)
        values = value if isinstance(value, list) else [value] if value else []
        return [str(item) for item in values if item not in self.described()[name].words]

    def identity(self) -> dict[str, Any]:
        """The options in a run's identity: those that decide the result, less `added_later` ones at their defaults."""
        plain = {o.name for o in self.described().values() if o.added_later and getattr(self, o.name) == o.default}
        return {name: value for name, value in self.deciding().items() if name not in plain}

    def deciding(self) -> dict[str, Any]:
        """The options that decide the result, without inputs: not those for speed or place."""
        skip = {o.name for o in self.described().values() if o.execution or o.data or self._names_output(o)}
        return self.normalise(self.model_dump(mode="json", exclude=skip))

    @classmethod
    def normalise(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Normalise values of options, so that those that give the same result are equal."""
        return values

    def _names_output(self, option: Option) -> bool:
        """True if an option is an input, and its value is not one of its `words`."""
        return bool(option.inputs) and getattr(self, option.name) not in option.words

    def given(self) -> dict[str, Any]:
        """The options that were given, inputs included, except those for speed or place."""
        chosen = {o.name for o in self.described().values() if not o.execution} & self.model_fields_set
        return self.model_dump(mode="json", include=chosen)

    def with_defaults(self, **values: Any) -> Self:
        """A copy in which options that are None get these values."""
        return self.model_copy(update={key: value for key, value in values.items() if getattr(self, key) is None})


class SetOptions(StageOptions):
    """What every stage that reads a prepared data set has."""

    data: str | None = Field(
        None,
        description="prepared data set: a name or a folder [default: the only one]",
        json_schema_extra={"panel": "Data", "data": True},
    )


class DataOptions(SetOptions):
    """What every stage that reads a split of a prepared data set has."""

    split: str = Field(
        "1",
        description="train/test split of the data set; none trains on all videos",
        json_schema_extra={"panel": "Data"},
    )
    seed: int = Field(0, description="random seed", json_schema_extra={"panel": "Run"}, ge=0, le=2**32 - 1)


def option(
    default: Any,
    help: str,
    panel: Panel,
    *,
    argument: bool = False,
    flagged: bool = True,
    inputs: tuple[OutputKind, ...] = (),
    words: tuple[str, ...] = (),
    input_plugin: str | None = None,
    execution: bool = False,
    data: bool = False,
    plugin: str | None = None,
    options_of: str | None = None,
    command_line_only: bool = False,
    makes: bool = False,
    added_later: bool = False,
    **limits: Any,
) -> Any:
    """Declare a field of an options model; the arguments are those of `Option`.

    Args:
        limits: pydantic's `ge`, `gt`, `le`, `lt`, `min_length`, `max_length`.
    """
    marks: dict[str, Any] = {
        "panel": panel,
        "argument": argument,
        "flagged": flagged,
        "inputs": list(inputs),
        "words": list(words),
        "input_plugin": input_plugin,
        "execution": execution,
        "data": data,
        "plugin": plugin,
        "options_of": options_of,
        "command_line_only": command_line_only,
        "makes": makes,
        "added_later": added_later,
    }
    return Field(default, description=help, json_schema_extra=marks, **limits)


@cache
def _describe(model: type[StageOptions]) -> dict[str, Option]:
    """Describe the options of a model."""
    return {name: _described(name, info) for name, info in model.model_fields.items()}


def _described(name: str, info: FieldInfo) -> Option:
    """Describe one field."""
    marks: dict[str, Any] = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    shape, choices = _shape(info.annotation)
    return Option(
        name=name,
        help=info.description or "",
        default=info.default,
        shape=shape,
        choices=choices,
        panel=marks["panel"],
        argument=marks.get("argument", False),
        flagged=marks.get("flagged", True),
        inputs=tuple(marks.get("inputs", ())),
        words=tuple(marks.get("words", ())),
        input_plugin=marks.get("input_plugin"),
        execution=marks.get("execution", False),
        data=marks.get("data", False),
        plugin=marks.get("plugin"),
        options_of=marks.get("options_of"),
        command_line_only=marks.get("command_line_only", False),
        makes=marks.get("makes", False),
        added_later=marks.get("added_later", False),
    )


def _shape(annotation: Any) -> tuple[Shape, tuple[str, ...]]:
    """How values of a type are written, and the values of a choice."""
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(a for a in get_args(annotation) if a is not NoneType)
    if get_origin(annotation) is Literal:
        return "choice", get_args(annotation)
    if get_origin(annotation) in (list, dict):
        return "list" if get_origin(annotation) is list else "table", ()
    return _SHAPES.get(annotation, "text"), ()


def _leaves(value: Any) -> Iterator[Any]:
    """All values within a value, including keys of tables."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield str(value) if isinstance(value, Path) else value


def build_options(model: type[StageOptions], values: dict[str, Any], where: str) -> StageOptions:
    """Build options from values.

    Raises:
        UsageError: there are mistakes, one line each, with near matches for unknown keys.
    """
    try:
        return model(**values)
    except ValidationError as error:
        raise UsageError(*mistakes(error, model, where)) from error


def mistakes(
    error: ValidationError, model: type[StageOptions], where: str, only: Collection[str] | None = None
) -> list[str]:
    """Describe each wrong option in a line: where, its key, and what is wrong.

    Args:
        only: the options to report; None: all, and contradictions between them.
    """
    found: dict[str, list[ErrorDetails]] = {}
    for number, item in enumerate(error.errors()):
        key = str(item["loc"][0]) if item["loc"] else ""
        if only is None or key in only:
            found.setdefault(key or f"options {number}", []).append(item)
    return [f"{where}: {_describe_mistake(key, items, model)}" for key, items in found.items()]


def _describe_mistake(key: str, items: "list[ErrorDetails]", model: type[StageOptions]) -> str:
    """Describe what is wrong with one option, from pydantic's errors: one for each type that it could have."""
    first = items[0]
    if first["type"] == "extra_forbidden" and key in model.renamed:
        return f"option '{key}' is called '{model.renamed[key]}' now"
    if first["type"] == "extra_forbidden":
        return f"unknown option '{key}'{near_match(key, model.model_fields)}"
    if first["type"] == "value_error":
        return describe_mistake(first)
    what = describe_mistake(first)
    if first["type"] == "literal_error":
        what += near_match(str(first["input"]), model.described()[key].choices)
    words = dict.fromkeys(item["ctx"]["expected"] for item in items[1:] if item["type"] == "literal_error")
    what += "".join(f", or give {word} alone" for word in words)
    value = format_value(first["input"])
    return f"{key}: {value} {what}" if isinstance(first["loc"][-1], int) else f"{key} = {value}: {what}"


def find_outside(model: type[StageOptions], values: Mapping[str, Any], where: str) -> list[str]:
    """Find values in a file that would lead out of the workspace: one line each.

    A file may come from someone else, so a path outside the workspace to write to must be typed by the user.

    Args:
        values: key -> option, as in the file.
    """
    found = []
    for option in model.described().values():
        value = values.get(option.key)
        if value is None:
            continue
        if option.command_line_only:
            found.append(f"{where}: {option.key} writes outside the workspace: give {option.flag} on the command line")
        elif option.makes and isinstance(value, str) and (fault := name_problem(value)):
            found.append(f"{where}: {option.key} = {format_value(value)}: {fault}; it should be the name of a new set")
    return found


def format_value(value: Any) -> str:
    """Format a value nearly as in a recipe: `true`, `[0.4, 0.1]`, `'fuse'`, `{train = 4}`; cut if it is long."""
    text = _format_value(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _format_value(value: Any) -> str:
    """Format a value without cutting it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(item if isinstance(item, str) else _format_value(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name} = {_format_value(item)}' for name, item in value.items())}}}"
    return repr(value) if isinstance(value, str) else str(value)
