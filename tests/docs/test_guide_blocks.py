"""What guides show besides commands and Python: lists of videos and parts of recipes are read as they are printed."""

import re
import textwrap
import tomllib
from pathlib import Path

import pytest
from helpers.commands import call, write_recipe
from helpers.films import film, moving
from helpers.pages import CHECKOUT

from stmn.recipe.expand import expand
from stmn.recipe.load import load_recipe

GUIDES = sorted(CHECKOUT.glob("docs/guides/*.md"))
STAGES = (
    'id = "motion"\nuses = "train-stream"\nmodality = "flow"\narch = "resnet18"\nweights = "none"',
    'id = "test-motion"\nuses = "evaluate"\nmodel = "motion"',
)


def blocks(page: Path, start: str) -> list[str]:
    """The code blocks of a page that begin so."""
    text = page.read_text()
    indented = map(textwrap.dedent, re.findall(r"^(?: {4}.*\n|\n(?= {4}))+", text, re.MULTILINE))
    found = [*indented, *re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]
    return [block for block in found if re.match(start, block.strip())]


LISTS = blocks(CHECKOUT / "docs/guides/own-videos.md", "path,class")
SWEEPS = [pytest.param(block, id=page.stem) for page in GUIDES for block in blocks(page, r"\[sweep\]")]


@pytest.mark.parametrize("rows", LISTS, ids=["groups", "segments"])
def test_list_of_videos_is_prepared(rows, tmp_path):
    for name in {line.split(",")[0] for line in rows.strip().splitlines()[1:]}:
        film(tmp_path / name.lstrip("/"), moving(140, height=24, width=32), rate=2)  # 70 seconds
    (tmp_path / "list.csv").write_text(rows.replace("/elsewhere", str(tmp_path / "elsewhere")))
    quick = ["--short-side", 24, "--flow-options", "scales=1,warps=1,iterations=2", "--workers", 1]
    done = call("prepare", tmp_path / "list.csv", "mine", "-w", tmp_path / "work", *quick)
    assert done.exit_code == 0, done.stderr
    shown = call("data", "info", "mine", "-w", tmp_path / "work").stdout
    assert re.search(r"^videos +2\b", shown, re.MULTILINE), shown


@pytest.mark.parametrize("block", SWEEPS)
def test_sweep_fits_a_recipe(block, tmp_path):
    recipe = write_recipe(tmp_path / "toy.toml", 'name = "toy"\ndata = "toy"', *STAGES)
    recipe.write_text(f"{recipe.read_text()}\n{block}")
    made = expand(load_recipe(str(recipe)), ("1", "2"), folds=True).stages
    assert sum(stage.uses == "train-stream" for stage in made) == 2 * len(tomllib.loads(block)["sweep"]["seed"])


def test_tables_of_toml_are_whole():
    tables = [block for page in GUIDES for block in blocks(page, r"\[[\w.\-\"\[\]]+\]\n")]
    assert len(tables) > 1 and all(tomllib.loads(block) for block in tables)
