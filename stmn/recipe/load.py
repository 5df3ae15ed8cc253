"""Recipes: TOML files that chain stages.

    [recipe]
    name = "demo"            # seed, data, split: defaults of every stage that has such an option
    seed = 1

    [[stage]]
    id = "motion"            # what later stages call this one's output
    uses = "train-stream"    # the verb of the stage; every other key is one of its options
    modality = "flow"

A table [sweep] varies options, seeds and splits (`stmn.recipe.sweep`). All mistakes in a recipe are reported at once.
"""

from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stmn import registry
from stmn.errors import PluginError, UsageError, near_match
from stmn.options import MODELS
from stmn.options.base import StageOptions, find_outside, mistakes
from stmn.options.prepare import PrepareOptions
from stmn.recipe.changes import change_recipe
from stmn.recipe.content import Recipe, RecipeStage, with_shared
from stmn.recipe.expand import expand
from stmn.recipe.sweep import MOST_STAGES, read_sweep
from stmn.runtime.files import names_path
from stmn.runtime.toml_files import read_toml
from stmn.stages import find_stage
from stmn.stages.base import find_unknown_plugins

#: keys of [recipe] that are defaults of the stages
_SHARED = ("seed", "data", "split")


def list_recipes() -> dict[str, Path]:
    """Name -> file of the recipes that come with the package, such as `final` and `tables/table2_ucf101`."""
    package = Path(str(files("stmn")))
    folders = [package / "recipes", package.parent / "recipes"]
    found = [(folder, path) for folder in folders for path in folder.rglob("*.toml")]
    named = {path.relative_to(folder).with_suffix("").as_posix(): path for folder, path in found}
    return dict(sorted(named.items(), key=lambda item: ("/" in item[0], item[0])))


def find_recipe(name: str) -> Path:
    """A file by its path, or a recipe of the package by its name or path.

    Raises:
        UsageError: there is none; the message has the nearest file or recipe.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = list_recipes()
    wanted = f"/{path.with_suffix('').as_posix()}" if path.suffix in ("", ".toml") else ""
    # `recipes/final.toml` is `final`, and `table2_ucf101` is `tables/table2_ucf101`
    fitting = [key for key in known if wanted.endswith(f"/{key}") or f"/{key}".endswith(wanted)] if wanted else []
    found = known[fitting[0]] if fitting else None
    if found is None:
        there = [file.name for file in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        near = near_match(path.name, there) or near_match(path.stem, known)
        raise UsageError(f"{name}: no such recipe{near}; known: {', '.join(known)}")
    return found


def load_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        name: a file, or a recipe of the package.
        changes: the user's changes to it, as `change_recipe` takes them.

    Raises:
        UsageError: it can't be found or read, or has mistakes: all of them, one line each.
    """
    path = find_recipe(name)
    content = read_toml(path)
    if unknown := change_recipe(content, changes):
        raise UsageError(*unknown)
    wrong: list[str] = []
    head = content.get("recipe", {})
    if not isinstance(head, dict) or not isinstance(head.get("name"), str):
        wrong.append("[recipe] has no name")
        head = {} if not isinstance(head, dict) else head
    wrong += [
        f"[recipe] unknown key '{key}'{near_match(key, ('name', *_SHARED))}"
        for key in head
        if key not in ("name", "about", *_SHARED)
    ]
    wrong += [
        f"unknown table '{key}'{near_match(key, ('recipe', 'stage', 'sweep'))}"
        for key in content
        if key not in ("recipe", "stage", "sweep")
    ]
    tables = content.get("stage", [])
    if not isinstance(tables, list) or not tables:
        wrong.append("no [[stage]] tables")
        tables = []
    if len(tables) > MOST_STAGES:
        raise UsageError(f"{path}: has {len(tables):,} stages; a recipe has {MOST_STAGES:,} at most")
    shared = {key: head[key] for key in _SHARED if key in head}
    stages: list[RecipeStage] = []
    for number, table in enumerate(tables, 1):
        stage, errors = _check_stage(table, number, stages, shared)
        wrong += errors
        if stage:
            stages.append(stage)
    known = {s.id: (s.options, with_shared(s.given, s.options, shared)) for s in stages if s.uses}
    sweep, errors = read_sweep(content.get("sweep"), known)
    wrong += errors
    if wrong:
        raise UsageError(*(f"{path}: {line}" for line in wrong))
    recipe = Recipe(head["name"], shared, stages, path, sweep)
    expand(recipe)  # finds mistakes that only show in instances
    return recipe


def _check_stage(
    table: dict[str, Any], number: int, earlier: list[RecipeStage], shared: dict[str, Any]
) -> tuple[RecipeStage | None, list[str]]:
    """A stage and its mistakes; the stage is None only if its options can't be checked at all."""
    if not isinstance(table, dict):
        return None, [f"stage {number}: is not a table"]
    given = dict(table)
    stage_id, uses = given.pop("id", None), given.pop("uses", None)
    wrong = []
    if stage_id is not None and not isinstance(stage_id, str):
        wrong.append(f"stage {number}: its id is not text: {stage_id!r}")
        stage_id = None
    elif not stage_id:
        wrong.append(f"stage {number}: has no id")
    where = f"stage {number} ('{stage_id}')" if stage_id else f"stage {number}"
    if stage_id in {s.id for s in earlier}:
        wrong.append(f"{where}: another stage has this id already")
    if not isinstance(uses, str) or uses not in MODELS:
        near = near_match(str(uses), MODELS)
        wrong.append(f"{where}: uses = {uses!r}: no such stage{near}; known: {', '.join(MODELS)}")
        return (RecipeStage(stage_id, "", {}) if stage_id else None), wrong
    found = RecipeStage(stage_id or "", uses, given)
    model = found.options
    values = with_shared(given, model, shared)
    try:
        options = model(**values)
    except ValidationError as error:
        wrong += mistakes(error, model, where)
        bad = {item["loc"][0] for item in error.errors() if item["loc"]}
        try:  # the other keys may be wrong too
            options = model(**{key: value for key, value in values.items() if key not in bad})
        except ValidationError:
            return found, wrong
    wrong += find_outside(model, values, where) + _find_rendering(options, where)
    wrong += _check_inputs(options, where, earlier)
    wrong += [f"{where}: {mistake}" for mistake in find_unknown_plugins(options)]
    return found, wrong


def _find_rendering(options: StageOptions, where: str) -> list[str]:
    """A line if a recipe names a folder for a data set that makes its own videos: it belongs in the workspace."""
    if not isinstance(options, PrepareOptions) or options.videos is None:
        return []
    with suppress(PluginError):  # reported elsewhere
        if registry.load("dataset", options.dataset).makes_videos:
            return [f"{where}: data set '{options.dataset}' makes its videos in the workspace: leave out videos"]
    return []


def _check_inputs(options: StageOptions, where: str, earlier: list[RecipeStage]) -> list[str]:
    """One line for each input that names no earlier stage, or one with another kind of output.

    A name with a slash or an ending is a path.
    """
    wrong = []
    by_id = {stage.id: stage for stage in earlier}
    for name, kinds in options.inputs().items():
        kind = options.described()[name].input_plugin
        installed = registry.names(kind) if kind else []
        for item in options.named(name):
            if item in by_id and (verb := by_id[item].uses):
                if not set(kinds) & set(find_stage(verb).makes):
                    article = "an" if verb[0] in "aeiou" else "a"
                    wrong.append(f"{where}: {name} = '{item}': {article} {verb} stage makes no {' or '.join(kinds)}")
            elif item not in by_id and not names_path(item) and not (kind and registry.offers(kind, item)):
                near = near_match(item, [*by_id, *options.described()[name].words, *installed])
                off = [one for one in registry.installed(kind) if one.name == item.rpartition(":")[2]] if kind else []
                package = f", and no installed package has {kind} of this name" if kind else ""
                package = f", and {off[0].title} is left out by STMN_PLUGINS" if off else package
                wrong.append(f"{where}: {name} = '{item}': no earlier stage has this id{package}{near}")
    return wrong
