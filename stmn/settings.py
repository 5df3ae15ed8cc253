"""Settings for all commands: from `stmn.toml`, STMN_* variables, which override it, and flags, which override both.

A `stmn.toml` in the current folder:

    workspace = "/big/disk/stmn"
    device = "cuda"

    [defaults.train-stream]        # defaults of a stage's options; recipes and flags win
    micro_batch = 16

An unknown key, variable, stage or option is an error, whichever command runs.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from stmn.errors import UsageError, describe_mistake, near_match
from stmn.options import MODELS, options_of
from stmn.options.base import find_outside, mistakes
from stmn.runtime.json_files import check_values
from stmn.runtime.toml_files import read_toml

_FILE = Path("stmn.toml")
_PREFIX = "STMN_"
#: variables of other parts of stmn, of its tests and of its benchmarks
_OTHER_VARIABLES = (
    "STMN_FLOW_KERNEL", "STMN_FLOW_OWNER", "STMN_PLUGINS", "STMN_PLUGINS_TIMEOUT", "STMN_SHARED_DATA",
    "STMN_BUILD_KERNELS", "STMN_MEMORY_MARK",
)  # fmt: skip


class Settings(BaseSettings):
    """The settings.

    Attributes:
        workspace: folder with data/ and runs/.
        device: auto, cpu or cuda.
        defaults: defaults of options, by stage and option.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_nested_delimiter="__", extra="forbid")

    workspace: Path = Path(".")
    device: str = "auto"
    defaults: dict[str, dict[str, Any]] = {}

    @field_validator("defaults", mode="before")
    @classmethod
    def _without_underscores(cls, defaults: Any) -> Any:
        """`train_stream` is `train-stream`."""
        if isinstance(defaults, dict):
            check_values(defaults)  # those from variables; those from the file are already checked
        return _name_stages(defaults)

    @field_validator("workspace", "device", mode="before")
    @classmethod
    def _name_something(cls, value: Any) -> Any:
        """Refuse NUL characters, which no name can have."""
        if "\0" in str(value):
            raise ValueError("has a NUL character")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments override variables, and variables override the file."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, _read_file())


def load_settings(**given: Any) -> Settings:
    """Read the settings; `given` are flags, of which None means not given.

    Raises:
        UsageError: the file, a variable or a value is wrong; the message has all mistakes, one line each.
    """
    wrong = list(_unknown_variables())
    in_file = _name_stages(_read_file().get("defaults"))
    tables = {k: v for k, v in in_file.items() if isinstance(v, dict)} if isinstance(in_file, dict) else {}
    try:
        settings = Settings(**{key: value for key, value in given.items() if value is not None})
    except ValidationError as error:
        wrong += _mistakes_in_defaults(tables)
        raise UsageError(*_describe(error), *wrong) from error
    except (SettingsError, RecursionError) as error:
        raise UsageError(f"{_PREFIX}DEFAULTS: is not readable as JSON: {error}") from error
    wrong += _mistakes_in_defaults(settings.defaults)
    for verb, values in tables.items():
        wrong += find_outside(options_of(verb), values, f"{_FILE}: [defaults.{verb}]") if verb in MODELS else []
    if wrong:
        raise UsageError(*wrong)
    return settings


def _name_stages(defaults: Any) -> Any:
    """Replace underscores in stage names, `train_stream`, as names of variables can't have hyphens."""
    if not isinstance(defaults, dict):
        return defaults
    return {str(verb).replace("_", "-"): values for verb, values in defaults.items()}


def _read_file() -> dict[str, Any]:
    """The contents of `stmn.toml`; empty if there is none."""
    if not os.path.lexists(_FILE):
        return {}
    return read_toml(_FILE)


def _unknown_variables() -> Iterator[str]:
    """A line for each STMN_* variable that doesn't exist."""
    known = [f"{_PREFIX}{name.upper()}" for name in Settings.model_fields] + list(_OTHER_VARIABLES)
    for name in sorted(os.environ):
        ours = name.upper().startswith(_PREFIX) and not name.upper().startswith(f"{_PREFIX}DEFAULTS__")
        if ours and name.upper() not in known:
            yield f"environment variable {name}: unknown{near_match(name.upper(), known)}"


def _describe(error: ValidationError) -> Iterator[str]:
    """A line for each mistake in the settings themselves."""
    for item in error.errors():
        key = ".".join(map(str, item["loc"]))
        if item["type"] == "extra_forbidden":
            yield f"{_FILE}: unknown key '{key}'{near_match(key, Settings.model_fields)}"
        else:
            yield f"{_FILE} or {_PREFIX}*: {key}: {describe_mistake(item)}"


def _mistakes_in_defaults(defaults: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A line for each unknown stage or option, and for each value that an option can't have."""
    for verb, values in defaults.items():
        where = f"[defaults.{verb}]"
        if verb not in MODELS:
            yield f"{where}: no such stage{near_match(verb, MODELS)}; known: {', '.join(MODELS)}"
            continue
        model = options_of(verb)
        try:
            model(**values)
        except ValidationError as error:
            # missing options, and options that contradict each other, are left to the command
            yield from mistakes(error, model, where, only=values)
