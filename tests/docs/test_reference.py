"""The generated reference pages are those of today's command line and options, and their example recipe is valid."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from stmn.cli.main import COMMANDS
from stmn.options import MODELS, command_of, options_of
from stmn.recipe.load import load_recipe

DOCS = Path(__file__).parents[2] / "docs"


def load_script(name: str) -> ModuleType:
    """A script of docs/."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made_pages() -> dict[str, str]:
    """What docs/make_reference.py would write."""
    return load_script("make_reference").pages()


def test_options_of_python_functions_are_current():
    script = load_script("make_arguments")
    assert script.FILE.read_text() == script.made_arguments(), "run: python docs/make_arguments.py"


@pytest.mark.parametrize("page", ["commands.md", "recipes.md"])
def test_pages_are_current(page):
    assert (DOCS / "reference" / page).read_text() == made_pages()[page], "run: python docs/make_reference.py"


def test_every_command_and_flag_is_there():
    text = (DOCS / "reference/commands.md").read_text()
    for name in COMMANDS:
        assert f"\n## stmn {name}\n" in text
    for verb in MODELS:
        level = "###" if " " in command_of(verb) else "##"
        section = text.split(f"\n{level} stmn {command_of(verb)}\n")[1].split("\n## ")[0].split("\n### ")[0]
        for option in options_of(verb).described().values():
            shown = option.name.upper() if option.argument else option.flag
            assert f"| `{shown}" in section, f"{verb}: {option.name}"


def test_every_key_is_there():
    text = (DOCS / "reference/recipes.md").read_text()
    for verb in MODELS:
        section = text.split(f"\n## {verb}\n")[1].split("\n## ")[0]
        assert re.findall(r"^\| `(\w+)`", section, re.MULTILINE) == [
            o.key for o in options_of(verb).described().values() if not o.command_line_only
        ]


def test_example_recipe_is_valid(tmp_path):
    example = re.search(r"(?:^ {4}.*\n|^\n)+", (DOCS / "reference/recipes.md").read_text(), re.MULTILINE)
    blocks = re.findall(
        r"^    \[recipe\](?:.*\n)(?: {4}.*\n|\n)+", (DOCS / "reference/recipes.md").read_text(), re.MULTILINE
    )
    assert example and len(blocks) == 1
    path = tmp_path / "mine.toml"
    path.write_text(re.sub(r"^    ", "", blocks[0], flags=re.MULTILINE))
    assert [stage.id for stage in load_recipe(str(path)).stages] == ["videos", "motion", "test"]
