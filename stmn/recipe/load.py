"""Recipes: TOML files that chain stages.

    [recipe]
    name = "demo"            # seed, data, split: defaults of every stage that has such an option
    seed = 1

    [[stage]]
    id = "motion"            # what later stages call this one's output
    uses = "train-stream"    # a stage's verb; every other key is an option of it
    modality = "flow"

Checking a recipe finds every mistake at once.
"""

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import stmn
from stmn import registry
from stmn.errors import PluginError, StmnError, UsageError, near_match
from stmn.options.base import StageOptions, mark, mistakes
from stmn.stages import STAGES, stage

#: keys of [recipe] that are defaults of the stages
SHARED = ("seed", "data", "split")


@dataclass(frozen=True)
class RecipeStage:
    """One `[[stage]]` table: its options as given, checked."""

    id: str
    uses: str
    given: dict[str, Any]

    @property
    def options(self) -> type[StageOptions]:
        """The options model of its verb."""
        return stage(self.uses).Options


@dataclass(frozen=True)
class Recipe:
    """A checked recipe."""

    name: str
    shared: dict[str, Any]
    stages: list[RecipeStage]
    path: Path

    def stage(self, verb: str, stage_id: str | None = None) -> RecipeStage:
        """The stage with an id, or the only one of a verb. Raises `UsageError` when none or several fit."""
        found = [s for s in self.stages if s.uses == verb and stage_id in (None, s.id)]
        ids = [s.id for s in self.stages if s.uses == verb]
        if not found:
            what = f"stage '{stage_id}'{near_match(stage_id, ids)}" if stage_id else "stage"
            raise UsageError(f"{self.path}: no {verb} {what}" + (f"; it has {', '.join(ids)}" if ids else ""))
        if len(found) > 1:
            raise UsageError(f"{self.path}: several {verb} stages: choose one with --stage: {', '.join(ids)}")
        return found[0]


def recipe_folders() -> list[Path]:
    """Where recipes come with the package: installed, or in a checkout."""
    folders = [Path(str(files("stmn") / "recipes")), Path(stmn.__file__).parent.parent / "recipes"]
    return [folder for folder in folders if folder.is_dir()][:1]


def list_recipes() -> dict[str, Path]:
    """Name -> file of the recipes that come with the package."""
    return {path.stem: path for folder in recipe_folders() for path in sorted(folder.glob("*.toml"))}


def find_recipe(name: str) -> Path:
    """A file by its path, or a recipe of the package by its name or path. Raises `UsageError` with near matches."""
    path = Path(name)
    if path.is_file():
        return path
    known = list_recipes()
    found = known.get(path.stem) if path.suffix in ("", ".toml") else None
    if found is None:
        raise UsageError(f"{name}: no such recipe{near_match(path.stem, known)}; known: {', '.join(known)}")
    return found


def load_recipe(name: str) -> Recipe:
    """Read and check a recipe. Raises `UsageError` with every mistake, a line each."""
    path = find_recipe(name)
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path}: not readable as TOML: {error}") from error
    wrong: list[str] = []
    head = content.get("recipe", {})
    if not isinstance(head, dict) or not isinstance(head.get("name"), str):
        wrong.append(f"{path}: [recipe] lacks a name")
        head = {} if not isinstance(head, dict) else head
    wrong += [
        f"{path}: [recipe] unknown key '{k}'{near_match(k, ('name', *SHARED))}"
        for k in head
        if k not in ("name", "about", *SHARED)
    ]
    wrong += [
        f"{path}: unknown table '{k}'{near_match(k, ('recipe', 'stage'))}"
        for k in content
        if k not in ("recipe", "stage")
    ]
    tables = content.get("stage", [])
    if not isinstance(tables, list) or not tables:
        wrong.append(f"{path}: no [[stage]] tables")
        tables = []
    shared = {key: head[key] for key in SHARED if key in head}
    stages: list[RecipeStage] = []
    for number, table in enumerate(tables, 1):
        checked, errors = check_stage(table, number, stages, shared)
        wrong += [f"{path}: {line}" for line in errors]
        if checked:
            stages.append(checked)
    if wrong:
        raise UsageError("\n".join(wrong))
    return Recipe(head["name"], shared, stages, path)


def check_stage(
    table: dict[str, Any], number: int, earlier: list[RecipeStage], shared: dict[str, Any]
) -> tuple[RecipeStage | None, list[str]]:
    """A stage and its mistakes; it is None only when nothing can be said of its options."""
    if not isinstance(table, dict):
        return None, [f"stage {number}: is no table"]
    given = dict(table)
    stage_id, uses = given.pop("id", None), given.pop("uses", None)
    wrong = []
    if stage_id is not None and not isinstance(stage_id, str):
        wrong.append(f"stage {number}: its id is not a text: {stage_id!r}")
        stage_id = None
    elif not stage_id:
        wrong.append(f"stage {number}: lacks an id")
    where = f"stage {number} ('{stage_id}')" if stage_id else f"stage {number}"
    if stage_id in {s.id for s in earlier}:
        wrong.append(f"{where}: a second stage with this id")
    if not isinstance(uses, str) or uses not in STAGES:
        near = near_match(str(uses), STAGES)
        wrong.append(f"{where}: uses = {uses!r}: no such stage{near}; known: {', '.join(STAGES)}")
        return (RecipeStage(stage_id, "", {}) if stage_id else None), wrong
    found = RecipeStage(stage_id or "", uses, given)
    model = found.options
    values = with_shared(given, model, shared)
    try:
        options = model(**values)
    except ValidationError as error:
        wrong += mistakes(error, model, where)
        bad = {item["loc"][0] for item in error.errors() if item["loc"]}
        try:  # what the other keys say may be wrong too
            options = model(**{key: value for key, value in values.items() if key not in bad})
        except ValidationError:
            return found, wrong
    wrong += wrong_inputs(options, where, [s.id for s in earlier])
    wrong += wrong_plugins(options, where)
    return found, wrong


def with_shared(given: dict[str, Any], model: type[StageOptions], shared: dict[str, Any]) -> dict[str, Any]:
    """A stage's keys over the recipe's; `prepare` makes the set that the others read."""
    values = {key: value for key, value in shared.items() if key in model.model_fields}
    if "out" in model.model_fields and "data" in shared:
        values["out"] = shared["data"]
    return values | given


def wrong_inputs(options: StageOptions, where: str, earlier: list[str]) -> list[str]:
    """Inputs that name no earlier stage (a path has a slash or an ending)."""
    wrong = []
    for name in options.inputs():
        value = getattr(options, name)
        for item in value if isinstance(value, list) else [value]:
            if item and item not in earlier and "/" not in item and not item.endswith(".safetensors"):
                wrong.append(f"{where}: {name} = '{item}': no earlier stage has this id{near_match(item, earlier)}")
    return wrong


def wrong_plugins(options: StageOptions, where: str) -> list[str]:
    """Plugins that are not installed."""
    wrong = []
    for name, info in type(options).model_fields.items():
        if (kind := mark(info, "plugin")) and (plugin := getattr(options, name)) is not None:
            try:
                check_plugin(kind, plugin)
            except StmnError as error:
                wrong.append(f"{where}: {name}: {error}")
    return wrong


def check_plugin(kind: str, name: str) -> None:
    """Raise `StmnError` when there is no such plugin (for backbones: nor such a ResNet in timm)."""
    try:
        registry.find(kind, name)
    except PluginError:
        if kind != "backbone":
            raise
        from stmn.nets.backbones import check_arch

        check_arch(name)
