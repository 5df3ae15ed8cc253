"""The values that a study tries: `--space lr=1e-4..1e-1`, `--space dropout=0,0.2,0.5`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from math import log10, prod
from typing import Any

from stmn.errors import UsageError
from stmn.options.base import Option, StageOptions, format_value
from stmn.recipe.sweep import find_mistakes, find_unknown

#: a value of an option that is varied
Value = bool | int | float | str

_FORM = "write KEY=LOW..HIGH or KEY=A,B,C"
#: options that are the same in all trials, and why
_FIXED = {
    **dict.fromkeys(
        ("data", "split", "validation", "validation_seed"),
        "decides which videos trials are judged on, and they must be the same in all trials",
    ),
    "keep": "decides which validation counts, and best would look better than last in any case",
    "seed": "the best seed is chance; a sweep in a recipe shows how much seeds differ",
}
#: with fewer combinations, none is tried twice
FEW = 10_000
#: significant digits of a drawn number, so that it is easy to read and type
_DIGITS = 4


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; `whole`: only integers; `log`: on a logarithmic scale."""

    low: float
    high: float
    whole: bool
    log: bool

    def __str__(self) -> str:
        return f"{show_value(self.low)}..{show_value(self.high)}:{'log' if self.log else 'linear'}"

    @property
    def ends(self) -> tuple[Value, ...]:
        """Its smallest and its largest value."""
        return self.low, self.high

    @property
    def values(self) -> Sequence[Value] | None:
        """All values if it is of whole numbers, else None."""
        return range(int(self.low), int(self.high) + 1) if self.whole else None

    def round(self, value: float) -> float:
        """Round a value to few digits, within the range."""
        if self.whole:
            return round(value)
        return min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Choices:
    """A list of values."""

    values: tuple[Value, ...]

    @property
    def ends(self) -> tuple[Value, ...]:
        """All values: they have no order."""
        return self.values

    def __str__(self) -> str:
        return ",".join(map(show_value, self.values))


#: key of an option -> the values that it takes
Space = Mapping[str, Range | Choices]


def show_value(value: Value) -> str:
    """A value as the user types it."""
    return format_value(value) if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def show_values(values: Mapping[str, Value]) -> str:
    """`lr = 0.0123, dropout = 0.2`."""
    return ", ".join(f"{key} = {show_value(value)}" for key, value in values.items())


def count_combinations(space: Space) -> int | None:
    """How many combinations there are; None if a range is of real numbers."""
    values = [one.values for one in space.values()]
    return None if None in values else prod(len(those) for those in values if those is not None)


def combine(space: Space) -> Iterator[dict[str, Value]]:
    """All combinations; a range of real numbers, or of very many whole ones, gives only its ends."""
    lists = (one.values if one.values is not None and len(one.values) <= FEW else one.ends for one in space.values())
    for chosen in product(*lists):
        yield dict(zip(space, chosen, strict=True))


def read_space(asked: Sequence[str] | Mapping[str, Any], model: type[StageOptions], given: Mapping[str, Any]) -> Space:
    """Check a space against the options of a stage.

    Args:
        asked: Texts `KEY=LOW..HIGH` (`:log` or `:linear` behind it chooses the scale) and `KEY=A,B,C`. Or key -> such a
            text without the key, a tuple (low, high), a tuple (low, high, "log" or "linear"), or a list of values.
        model: The options of the stage.
        given: Options that are the same in all trials.

    Raises:
        UsageError: Every mistake, one line each.
    """
    wrong: list[str] = []
    pairs: list[tuple[str, Any]] = list(asked.items()) if isinstance(asked, Mapping) else []
    for text in () if isinstance(asked, Mapping) else asked:
        key, equals, values = text.partition("=")
        if equals and key.strip():
            pairs.append((key.strip(), values))
        else:
            wrong.append(f"space: {text}: {_FORM}")
    found: dict[str, Range | Choices] = {}
    for name, value in pairs:
        key = name.replace("-", "_")
        where = f"space: {key}"
        option = next((o for o in model.described().values() if o.key == key), None)
        if option is None:
            wrong += find_unknown("space:", key, model)
        elif fault := _find_fault(option, key in found, key in given):
            wrong.append(f"{where}: {fault}")
        else:
            try:
                found[key] = _read(value, option)
            except ValueError as error:
                wrong.append(f"{where}: {error}")
                continue
            wrong += [
                line for item in found[key].ends for line in find_mistakes("space:", {key: item}, model, dict(given))
            ]
    if not asked:
        wrong.append(f"space: nothing to vary: {_FORM}")
    if wrong:
        raise UsageError(*dict.fromkeys(wrong))
    return found


def _find_fault(option: Option, twice: bool, given: bool) -> str:
    """Say why an option can't be varied; empty if it can."""
    if option.shape in ("list", "table"):
        return "is a list or a table, and only options with a single value can be varied"
    if option.execution:
        return "decides how fast or where a training runs, not its result"
    if given:
        return f"is given as {option.flag} too: give one of them"
    return _FIXED.get(option.name, "is there twice" if twice else "")


def _read(value: Any, option: Option) -> Range | Choices:
    """The values of one option. Raises `ValueError` with what is wrong."""
    number = option.shape in ("integer", "number")
    if isinstance(value, str) and number and ".." in value:
        numbers, _, scale = value.partition(":")
        low, _, high = numbers.partition("..")
        return _read_range(low, high, scale or None, option)
    if isinstance(value, tuple):
        if not number:
            raise ValueError(f"has no range: it is no number: list its values, {option.key}=A,B")
        if len(value) not in (2, 3):
            raise ValueError('a range is (low, high) or (low, high, "log")')
        return _read_range(value[0], value[1], value[2] if len(value) == 3 else None, option)
    if not isinstance(value, str | list):
        raise ValueError(f"{format_value(value)}: {_FORM}")
    if isinstance(value, str) and ".." in value and option.shape in ("switch", "choice"):
        raise ValueError(f"has no range: it is no number: list its values, {option.key}=A,B")
    items = [item.strip() for item in value.split(",")] if isinstance(value, str) else value
    values = tuple(_read_value(item, option) for item in items)
    if "" in values:
        raise ValueError("a value is empty")
    if twice := next((one for one in values if values.count(one) > 1), None):
        raise ValueError(f"has {show_value(twice)} twice")
    if len(values) < 2:
        raise ValueError("has one value, and nothing to choose from: give it as a flag")
    return Choices(values)


def _read_range(low: Any, high: Any, scale: str | None, option: Option) -> Range:
    """A range. Raises `ValueError` with what is wrong."""
    whole = option.shape == "integer"
    ends = [_read_value(end.strip() if isinstance(end, str) else end, option) for end in (low, high)]
    for end in ends:
        if isinstance(end, bool | str) or (whole and not isinstance(end, int)):
            raise ValueError(f"{format_value(end)} must be a {'whole number' if whole else 'number'}: write LOW..HIGH")
    first, last = (end for end in ends if not isinstance(end, str))
    shown = f"{show_value(first)}..{show_value(last)}"
    if scale not in (None, "log", "linear"):
        raise ValueError(f"{shown}:{scale}: the scale is log or linear")
    if first > last:
        raise ValueError(f"{shown}: LOW is above HIGH")
    if first == last:
        raise ValueError(f"{shown}: has one value, and nothing to choose from: give it as a flag")
    if not abs(first) + abs(last) < float("inf"):
        raise ValueError(f"{shown}: must be finite")
    if scale == "log" and first <= 0:
        raise ValueError(f"{shown}: a logarithmic scale needs a LOW above 0")
    return Range(first, last, whole, scale == "log" or (scale is None and first > 0 and log10(last / first) >= 1))


def _read_value(item: Any, option: Option) -> Any:
    """Convert a value to the type of its option; one that doesn't fit stays as it is, for the model to refuse."""
    if option.shape == "number" and isinstance(item, int) and not isinstance(item, bool):
        return float(item)
    if not isinstance(item, str):
        return item
    if option.shape == "switch":
        return {"true": True, "yes": True, "false": False, "no": False}.get(item.lower(), item)
    for kind in {"integer": (int, float), "number": (float,)}.get(option.shape, ()):
        with suppress(ValueError):
            return kind(item)
    return item
