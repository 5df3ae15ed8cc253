"""How an option is written once: type, default and help in a pydantic model.

The flag, the recipe key, the docs and the run's record all come from the field.
"""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stmn.errors import UsageError, near_match

InputKind = Literal["model", "scores", "scores_or_model", "scores_or_splits", "run"]


class StageOptions(BaseModel):
    """Base of all stages' options: unknown keys are errors, values don't change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def identity(self) -> dict[str, Any]:
        """The options that decide the result: without inputs and without how fast or where it runs."""
        skip = {
            name
            for name, info in type(self).model_fields.items()
            if mark(info, "execution") or mark(info, "input") or mark(info, "data")
        }
        return self.model_dump(mode="json", exclude=skip)

    @classmethod
    def inputs(cls) -> dict[str, InputKind]:
        """The options that name another stage's output, and the kind of output."""
        return {name: kind for name, info in cls.model_fields.items() if (kind := mark(info, "input"))}


def option(
    default: Any,
    description: str,
    *,
    argument: bool = False,
    input: InputKind | None = None,
    execution: bool = False,
    data: bool = False,
    plugin: str | None = None,
    **limits: Any,
) -> Any:
    """A field of an options model.

    `argument`: positional on the command line. `input`: names another stage's output of that kind.
    `execution`: decides speed or place, not the result. `data`: names the prepared data set.
    `plugin`: names a plugin of that kind.
    `limits`: pydantic's `ge`, `gt`, `le`, `lt`, `min_length`.
    """
    marks: dict[str, Any] = {
        "argument": argument,
        "input": input,
        "execution": execution,
        "data": data,
        "plugin": plugin,
    }
    return Field(default, description=description, json_schema_extra=marks, **limits)


def mark(info: Any, name: str) -> Any:
    """A mark that `option` left on a field (None or False when it did not)."""
    return (info.json_schema_extra or {}).get(name)


def build(model: type[StageOptions], values: dict[str, Any], where: str) -> StageOptions:
    """Options from values. Raises `UsageError` with every mistake, a line each, and near matches of unknown keys."""
    try:
        return model(**values)
    except ValidationError as error:
        raise UsageError("\n".join(mistakes(error, model, where))) from error


def mistakes(error: ValidationError, model: type[StageOptions], where: str) -> list[str]:
    """One line for each mistake: where, which key, what is wrong."""
    lines = []
    for item in error.errors():
        key = ".".join(map(str, item["loc"])) or "options"
        if item["type"] == "extra_forbidden":
            lines.append(f"{where}: unknown option '{key}'{near_match(key, model.model_fields)}")
        elif item["type"] == "value_error":
            lines.append(f"{where}: {item['msg'].removeprefix('Value error, ')}")
        else:
            given = item.get("input")
            lines.append(f"{where}: {key} = {given!r}: {item['msg'][:1].lower() + item['msg'][1:]}")
    return lines


class Trained(StageOptions):
    """What every stage that reads a prepared data set has."""

    data: str | None = option(None, "prepared data set (default: the only one of the workspace)", data=True)
    split: str = option("1", "which split into training and test videos")
    seed: int = option(0, "all randomness is a function of it", ge=0)

    def with_defaults(self, **values: Any) -> Self:
        """A copy in which the options that are None have these values."""
        return self.model_copy(update={key: value for key, value in values.items() if getattr(self, key) is None})
