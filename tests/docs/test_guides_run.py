"""The commands of README and of the guides do what they say, in the order in which a reader types them.

Networks are narrow and train for two steps: what is tested is that each command runs with what the ones before it made.
"""

import shutil
from pathlib import Path

import pytest
from helpers.commands import call
from helpers.films import film, moving
from helpers.pages import CHECKOUT, commands

pytestmark = pytest.mark.slow

#: so that a laptop's minutes become seconds
SETTINGS = """
[defaults.prepare]
short_side = 40
workers = 1
flow_options = { scales = 1, warps = 1, iterations = 2 }
[defaults.train-stream]
steps = 2
batch = 2
micro_batch = 2
size = 32
width = 0.125
schedule = "cosine"
validation = 0.0
[defaults.fuse]
steps = 2
batch = 2
micro_batch = 2
chunks = 2
schedule = "cosine"
validation = 0.0
[defaults.evaluate]
chunks = 2
"""
#: words of a page that stand for something of the reader's
STANDS_FOR = {"MODEL": "fused", "VIDEO...": "clip.mp4", "VIDEO": "clip.mp4", "VIDEOS": "videos"}
#: what can't run here: how the command begins, and why
LEFT_OUT = {
    "weights": "downloads",
    "browse": "serves until Ctrl-C; tests/browse clicks through it",
    "predict hf://": "needs the hub; tests/hub speaks to a server of its own",
    "push": "needs the hub; tests/hub speaks to a server of its own",
    "fuse --fusion my_gate": "needs the package that the page has made installed; tests/testing does that",
}
#: what takes hours is planned, not run
PLANNED = ("run ",)
#: where another way to the same end begins, in a new folder
ANOTHER_WAY = ("init videos", "prepare videos mine")
#: what a page shows in passing: each runs in a folder of its own
ASIDE = ("prepare list.csv", "prepare weizmann")
#: what makes a command short that defaults don't reach
SHORTER = {
    "train videos --out": [
        "--short-side",
        "40",
        "--size",
        "32",
        "--width",
        "0.125",
        "--steps",
        "2",
        "--seeds",
        "1",
        "--folds",
        "1",
    ]
}

GUIDES = ["README.md", "docs/guides/own-videos.md", "docs/guides/predicting.md", "docs/guides/exporting.md"]
#: pages that start where another one has got to
AFTER_TRAINING = {"docs/guides/predicting.md", "docs/guides/exporting.md"}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with what the pages' commands name: clips in class folders, a list of them, films, a home folder."""
    folder = tmp_path_factory.mktemp("reader")
    for number, action in enumerate(("jump", "run")):
        for letter in "abcdef":
            clip = moving(14, dx=2 * number - 1, seed=ord(letter))
            film(folder / "videos" / action / f"{letter}{'' if action == 'jump' else '2'}.mp4", clip)
            film(folder / "weizmann" / action / f"{letter}nna_{action}.mp4", clip)
    film(folder / "clip.mp4", moving(20))
    film(folder / "film.mp4", moving(80))
    for place in ("new", "videos"):
        shutil.copytree(folder / "videos" / "jump", folder / "home" / place)
    lines = [f"{path.relative_to(folder)},{path.parent.name}" for path in sorted(folder.glob("videos/*/*"))]
    (folder / "list.csv").write_text("\n".join(["path,class", *lines]) + "\n")
    (folder / "stmn.toml").write_text(SETTINGS)
    return folder


@pytest.fixture
def reader(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a reader types, and small networks as defaults."""
    folder = Path(shutil.copytree(files, tmp_path / "reader"))
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.chdir(folder)
    return folder


def type_in(words: list[str]) -> None:
    result = call(*words)
    assert result.exit_code == 0, f"stmn {' '.join(words)}\n{result.stderr}"


@pytest.mark.parametrize("page", GUIDES)
def test_commands_of_a_page_run(page, reader, files, tmp_path, monkeypatch):
    if page in AFTER_TRAINING:
        for line in (
            "prepare videos mine",
            "train-stream --modality rgb",
            "train-stream --modality flow",
            "fuse",
            "evaluate",
        ):
            type_in(line.split())
    here, made = reader, 0
    for words in commands((CHECKOUT / page).read_text()):
        words = [
            str(Path(STANDS_FOR.get(word, word)).expanduser()) if word.startswith("~") else STANDS_FOR.get(word, word)
            for word in words
        ]
        line = " ".join(words)
        if any(line.startswith(start) for start in LEFT_OUT):
            continue
        if line.startswith(PLANNED):
            words = [*dict.fromkeys([*words, "--dry-run"])]
        words += next((more for start, more in SHORTER.items() if line.startswith(start)), [])
        if line.startswith((*ASIDE, *ANOTHER_WAY)):
            made += 1
            monkeypatch.chdir(shutil.copytree(files, tmp_path / f"folder{made}"))
        type_in(words)
        here = here if line.startswith(ASIDE) else Path.cwd()
        monkeypatch.chdir(here)
