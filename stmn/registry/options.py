"""The options of plugins: keyword-only parameters of the object that an entry point names, with types and defaults.

One rule holds for all kinds: `--fusion-options reduction=4`, in a recipe `fusion_options = { reduction = 4 }`, sets the
parameter `reduction` of the fusion. For a data set, all parameters after the root folder count, keyword-only or not.
"""

import errno
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from stmn.errors import PluginError, StmnError, UsageError, describe_mistake, is_out_of_memory, message_of, near_match
from stmn.registry import BUILT_IN, Plugin, find, names

#: kind -> how many arguments stmn passes by position
_GIVEN = {"fusion": 1, "injector": 3, "flow": 2, "dataset": 1, "logger": 3, "weights": 1}
#: kind -> the arguments that stmn passes by name
_NAMED = {"backbone": ("in_channels", "width")}
#: kind -> its name in messages, if that differs
_WORDS = {"dataset": "data set"}
_MOST_SHOWN = 100
#: the section of a docstring on arguments, and one argument in it
_ARGS = re.compile(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", re.MULTILINE)
_ARGUMENT = re.compile(r"^ {4}(\w+)(?: \([^)]*\))?: (.*(?:\n {5,}.*)*)", re.MULTILINE)


@dataclass(frozen=True)
class PluginOption:
    """An option of a plugin.

    Attributes:
        name: its name in flags and recipes.
        parameter: its name in the code: `lambda_` for `lambda`, which is reserved in Python.
        annotation: its type.
        default: its default.
        required: it has no default.
        help: its description in the docstring.
    """

    name: str
    parameter: str
    annotation: Any
    default: Any
    required: bool
    help: str

    @property
    def type(self) -> str:
        """Its type in words: `int`, `'a' or 'b'`."""
        if self.annotation is inspect.Parameter.empty:
            return "any"
        if get_origin(self.annotation) is Literal:
            return " or ".join(map(repr, get_args(self.annotation)))
        plain = isinstance(self.annotation, type) and get_origin(self.annotation) is None
        text = self.annotation.__name__ if plain else str(self.annotation)
        return re.sub(r"\b(typing|pathlib|collections\.abc)\.", "", text)


def list_options(kind: str, target: Any) -> dict[str, PluginOption]:
    """The options of a plugin by name.

    Args:
        kind: one of `stmn.registry.KINDS`.
        target: the object that its entry point names.
    """
    parameters = _parameters(target)
    keyword, either = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    counted = (keyword, either) if kind == "dataset" else (keyword,)
    explained = _explain(target)
    return {
        parameter.name.rstrip("_"): PluginOption(
            parameter.name.rstrip("_"), parameter.name, parameter.annotation, parameter.default,
            parameter.default is parameter.empty, explained.get(parameter.name, ""),
        )
        for parameter in parameters[_GIVEN.get(kind, 0) :]
        if parameter.kind in counted and parameter.name not in _NAMED.get(kind, ())
    }  # fmt: skip


def check_options(kind: str, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Check the options that the user gives to a plugin.

    Args:
        kind: the plugin's kind.
        name: the plugin's name; a backbone may also be a ResNet of timm, which has no options.
        values: option -> value, as in flags and recipes.

    Returns:
        Option -> value of its type. Options left to their defaults are not included.

    Raises:
        UsageError: the plugin has no such option, one has the wrong type, or one is missing.
        PluginError: there is no such plugin, or it can't be imported.
    """
    if kind == "backbone" and ":" not in name and name not in names(kind):
        raise UsageError(f"backbone '{name}' is a ResNet of timm, which has no options; leave out {', '.join(values)}")
    target = find(kind, name).load()
    named = {option.parameter: option.name for option in list_options(kind, target).values()}
    return {named.get(key, key): value for key, value in _read(kind, name, target, values).items()}


def load_with(kind: str, name: str, values: Mapping[str, Any]) -> Callable[..., Any]:
    """Import a plugin and set its options. Raises as `check_options` does."""
    target = find(kind, name).load()
    chosen = _read(kind, name, target, values)
    return partial(target, **chosen) if chosen else target


def build(kind: str, name: str, values: Mapping[str, Any], *given: Any, **named: Any) -> Any:
    """Import a plugin and call it with its options: a fusion returns a module, for example.

    Args:
        kind: the plugin's kind.
        name: the plugin's name.
        values: its options.
        given: the arguments that its contract passes by position.
        named: the arguments that its contract passes by name.

    Raises:
        UsageError: the options are wrong.
        PluginError: there is no such plugin, or it breaks its contract.
    """
    make = load_with(kind, name, values)
    with plugin_errors(find(kind, name)):
        return make(*given, **named)


@contextmanager
def plugin_errors(plugin: Plugin) -> Iterator[None]:
    """A block that runs a plugin's code, and reports what the code raises as errors of the plugin.

    A `ValueError` is about its options. Any other exception is a bug, reported as the plugin's if that is of another
    package.

    Raises:
        UsageError, PluginError: in place of the plugin's exception.
    """
    try:
        yield
    except StmnError:
        raise
    except ValueError as error:
        raise UsageError(f"{_title(plugin.kind)} '{plugin.name}': {error}") from error
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if plugin.package == BUILT_IN or full or is_out_of_memory(error):
            raise
        raise PluginError(
            f"{plugin.title} failed: {type(error).__name__}: {message_of(error)}; stmn plugins list --check says what "
            f"its authors must change"
        ) from error


def _read(kind: str, name: str, target: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameter -> value of its type."""
    known, title = list_options(kind, target), f"{_title(kind)} '{name}'"
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in _parameters(target))
    chosen = {}
    for key, value in values.items():
        if key in known:
            chosen[known[key].parameter] = _validate(known[key], value, title)
        elif takes_any:
            chosen[key] = value
        else:
            has = f"it has: {', '.join(known)}" if known else "it has none"
            raise UsageError(f"{title} has no option '{key[:_MOST_SHOWN]}'{near_match(key, known)}; {has}")
    for option in known.values():
        if option.required and option.parameter not in chosen:
            raise UsageError(f"{title} needs its option '{option.name}'{option.help and f': {option.help}'}")
    return chosen


def _validate(option: PluginOption, value: Any, title: str) -> Any:
    """Convert a value to the option's type. Booleans are not numbers, and numbers must be finite."""
    where = f"{title}: {option.name} = {repr(value)[:_MOST_SHOWN]}"
    if option.annotation is inspect.Parameter.empty:
        return value
    if isinstance(value, bool) and option.annotation in (int, float):
        raise UsageError(f"{where}: must be a {'whole number' if option.annotation is int else 'number'}")
    try:
        return _adapter(option.annotation).validate_python(value)
    except ValidationError as error:
        raise UsageError(f"{where}: {describe_mistake(error.errors()[0])}") from error


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    """The validator of a type."""
    try:
        return TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False, arbitrary_types_allowed=True))
    except PydanticUserError:  # a model or a dataclass, which has a configuration of its own
        return TypeAdapter(annotation)


def _parameters(target: Any) -> list[inspect.Parameter]:
    """The parameters of a function, or of a class's constructor; empty if Python can't tell."""
    if getattr(getattr(target, "__init__", None), "__module__", "") == "typing":  # that of a Protocol takes nothing
        return []
    for evaluated in (True, False):
        try:
            return list(inspect.signature(target, eval_str=evaluated).parameters.values())
        except (NameError, TypeError, ValueError):
            continue
    return []


def _explain(target: Any) -> dict[str, str]:
    """Parameter -> its description in the section "Args:" of the docstring, in one line."""
    target = target.func if isinstance(target, partial) else target
    found: dict[str, str] = {}
    for documented in (target, getattr(target, "__init__", None)):
        section = _ARGS.search(inspect.getdoc(documented) or "")
        for name, text in _ARGUMENT.findall(section[1]) if section else ():
            found.setdefault(name, " ".join(text.split()))
    return found


def _title(kind: str) -> str:
    """A kind's name in messages."""
    return _WORDS.get(kind, kind)
