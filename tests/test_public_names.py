"""The public names are what they are said to be: listed once, present, documented, and named correctly in the docs."""

import importlib
import inspect
import re
import tomllib
from pathlib import Path

import pytest

import stmn
from stmn import registry

CHECKOUT = Path(__file__).parents[1]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
PAGES = [path for name in ("*.md", "docs/**/*.md", "plugins/*/*.md") for path in sorted(CHECKOUT.glob(name))]
#: `stmn.` names that are no Python names: entry-point groups, and the settings file
OTHER = {*registry.KINDS.values(), "stmn.toml"}


def modules_with_lists() -> list[str]:
    """The modules that list their public names."""
    paths = [path for path in (CHECKOUT / "stmn").rglob("*.py") if "\n__all__ = " in path.read_text()]
    parts = [path.relative_to(CHECKOUT).with_suffix("").parts for path in paths]
    return sorted(".".join(part for part in names if part != "__init__") for names in parts)


def lookup(dotted: str) -> object:
    """What a dotted name means: the longest importable module, then its attributes."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[end:]:
            found = getattr(found, attribute)
        return found
    raise ModuleNotFoundError(dotted)


def test_names_of_the_package():
    assert stmn.__all__ == ["__version__", "evaluate", "fuse", "load", "prepare", "run", "train_stream", "tune"]
    assert stmn.load.__module__ == "stmn"


def test_names_for_plugin_authors():
    kinds = ["backbone", "dataset", "exporter", "flow", "fusion", "injector", "logger", "weights"]
    assert lookup("stmn.testing").__all__ == ["CHECKS", *(f"check_{kind}" for kind in kinds)]


@pytest.mark.parametrize("name", modules_with_lists())
def test_listed_names_exist_and_are_documented(name):
    module = importlib.import_module(name)
    assert sorted(module.__all__) == list(module.__all__)
    for public in module.__all__:
        thing = getattr(module, public)
        if inspect.isroutine(thing) or inspect.isclass(thing):
            assert inspect.getdoc(thing), f"{name}.{public} has no docstring"


@pytest.mark.parametrize("name", modules_with_lists())
def test_no_public_name_is_left_out(name):
    module = importlib.import_module(name)
    own = {
        public for public, thing in vars(module).items()
        if not public.startswith("_") and getattr(thing, "__module__", None) == name
    }  # fmt: skip
    assert own <= set(module.__all__)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(CHECKOUT).as_posix())
def test_docs_name_what_exists(page):
    text = page.read_text()
    named = {name for name in re.findall(r"`(stmn(?:\.\w+)+)", text) if name not in OTHER}
    for module, names in re.findall(r"from (stmn[\w.]*) import ([\w, ]+)", text):
        named |= {f"{module}.{name.strip()}" for name in names.split(",")}
    for name in sorted(named):
        assert lookup(name) is not None


def test_one_version_everywhere():
    citation = (CHECKOUT / "CITATION.cff").read_text()
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [stmn.__version__] == [PROJECT["version"]]


def test_one_licence_everywhere():
    assert "Apache License" in (CHECKOUT / "LICENSE").read_text()
    assert re.findall(r"^license: (.+)$", (CHECKOUT / "CITATION.cff").read_text(), re.MULTILINE) == [PROJECT["license"]]
