"""Names in any language, on terminals of any encoding, and as text in pictures."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import STMN, call, errors_of, write_recipe
from helpers.films import moving
from helpers.made_sets import MadeVideo, make_set
from helpers.paper_sized import named_scores
from PIL import Image, ImageFont

from stmn.flow.quantise import quantise
from stmn.runtime.fonts import count_missing, find_font

NAMES = ["Türe öffnen", "прыжок", "中文"]
#: the locale C without Python's remedies, and a Western European one
ENCODINGS = {
    "ascii": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
}


def run(encoding: str, *arguments: object) -> str:
    """The standard output of a command whose terminal has an encoding."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LC_")} | ENCODINGS[encoding]
    done = subprocess.run([STMN, *map(str, arguments)], capture_output=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode("cp1252" if encoding == "cp1252" else "utf-8")


def prepared(root: Path) -> Path:
    """A set of a video in each class."""
    frames = torch.from_numpy(np.stack(moving(12)))
    flow = quantise(torch.ones(11, 2, 48, 64), 20.0)
    videos = [MadeVideo(f"{name}/{name} 1.mp4", name, frames, flow) for name in NAMES]
    return make_set(root / "data" / "mine", videos)


@pytest.mark.parametrize(("encoding", "shown"), [
    ("ascii", "Türe öffnen (1), прыжок (1), 中文 (1)"),
    ("cp1252", r"Türe öffnen (1), \u043f\u0440\u044b\u0436\u043e\u043a (1), \u4e2d\u6587 (1)"),
])  # fmt: skip
def test_terminal_shows_what_it_can(encoding, shown, tmp_path):
    prepared(tmp_path)
    assert shown in run(encoding, "data", "info", "-w", tmp_path)


def test_table_of_scores_is_utf_8_in_any_locale(tmp_path):
    [scores] = named_scores(tmp_path, ["a"], NAMES)
    run("ascii", "scores", "convert", scores, tmp_path / "table.csv")
    assert "motion: прыжок" in (tmp_path / "table.csv").read_text(encoding="utf-8")


def test_files_have_their_names_in_any_locale(tmp_path):
    run("ascii", "data", "extract", prepared(tmp_path), tmp_path / "größe", "--as", "mp4")
    assert sorted(path.name for path in (tmp_path / "größe").iterdir()) == [f"{name} 1.mp4" for name in sorted(NAMES)]


def test_recipe_in_any_language_and_locale(tmp_path):
    path = write_recipe(tmp_path / "größe.toml", 'name = "größe"', 'id = "a"\nuses = "train-stream"')
    assert "ok, 1 stage: a" in run("ascii", "recipes", "validate", path)


@pytest.mark.parametrize("name", NAMES[:2])
def test_pictures_have_a_font_with_the_letters(name):
    """Pillow's own lacks even ö and ß; matplotlib's has Latin, Greek and Cyrillic."""
    pytest.importorskip("matplotlib")
    assert count_missing(ImageFont.load_default(13), "ößп") == 3
    assert count_missing(find_font(name, 13), name) == 0


def test_font_can_be_named(tmp_path):
    folder = prepared(tmp_path)
    assert errors_of(
        call("data", "show", folder, "中", "--font", folder / "dataset.json", "-o", tmp_path / "a.png")
    ) == [f"{folder / 'dataset.json'}: no font that can be read"]
    matplotlib = pytest.importorskip("matplotlib")
    font = Path(matplotlib.__file__).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSerif.ttf"
    pages = []
    for number, flags in enumerate([[], ["--font", font]]):
        assert call("data", "show", folder, "прыжок", *flags, "-o", tmp_path / f"{number}.png").exit_code == 0
        pages.append(np.asarray(Image.open(tmp_path / f"{number}.png")))
    assert (pages[0] != pages[1]).any()
