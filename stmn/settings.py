"""Settings that hold for every command: from `stmn.toml`, from STMN_* variables, which win over it, and from flags.

A `stmn.toml` in the current folder:

    workspace = "/big/disk/stmn"
    device = "cuda"

    [defaults.train-stream]        # defaults of a stage's options; recipes and flags win
    micro_batch = 16
"""

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from stmn.errors import UsageError


class Settings(BaseSettings):
    """The settings.

    Attributes:
        workspace: folder with data/ and runs/.
        device: auto, cpu or cuda.
        defaults: defaults of options, by stage and option.
    """

    model_config = SettingsConfigDict(
        env_prefix="STMN_", env_nested_delimiter="__", toml_file="stmn.toml", extra="ignore"
    )

    workspace: Path = Path(".")
    device: str = "auto"
    defaults: dict[str, dict[str, Any]] = {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over variables, and variables over the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(**given: Any) -> Settings:
    """Read the settings; `given` are flags, where None means not given.

    Raises:
        UsageError: the file or a value is wrong.
    """
    try:
        return Settings(**{key: value for key, value in given.items() if value is not None})
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"stmn.toml: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"stmn.toml or STMN_*: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
