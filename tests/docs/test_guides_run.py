"""The commands of README and of the guides do what they say, and their code in Python, in the order of a page.

Networks are narrow and train for two steps: what is tested is that each command runs with what the ones before it made.
"""

import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.commands import call, over
from helpers.films import film, moving
from helpers.hub import use_cache
from helpers.hub_server import serve_hub
from helpers.pages import CHECKOUT, commands
from helpers.published import make_published

from stmn.workspace import Workspace

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
""" + "".join(f"[defaults.{step}]\ncamera = false\n" for step in (
    "fuse-idt", "idt-extract", "idt-fit", "idt-encode", "idt-score",  # these clips move as a whole, as before a camera
))  # fmt: skip
#: words of a page that stand for something of the reader's
STANDS_FOR = {
    "MODEL": "fused", "VIDEO...": "clip.mp4", "VIDEO": "clip.mp4", "VIDEOS": "videos", "UT_INTERACTION": "grouped",
    "WEIZMANN": "weizmann",
}  # fmt: skip
#: what can't run here: how the command begins, and why
LEFT_OUT = {
    "weights": "downloads",
    "browse": "serves until Ctrl-C; tests/browse clicks through it",
    "fuse --fusion my_gate": "needs the package that the page has made installed; tests/testing does that",
    "plugins show my_gate": "the same",
    "run my-gate": "the same",
    "train-stream --modality flow --arch resnet18 --width 0.5 --weights formula": "needs the package; tests/testing does that",
    "prepare videos mine --device cuda": "needs a GPU",
    "prepare videos mine --cluster": "needs Dask workers; tests/stages starts some",
}
#: what takes hours is planned, not run
PLANNED = ("run ",)
#: where another way to the same end begins, in a new folder
ANOTHER_WAY = ("init videos", "prepare videos mine")
#: what a page shows in passing: each runs in a folder of its own
ASIDE = (
    "prepare list.csv",
    "prepare weizmann",
    "prepare --dataset",
    "prepare grouped mine",
    "prepare videos mine --workers",
    "plugins new",
)
#: what makes a command short that defaults don't reach
SHORTER = {
    "train videos --out": "--short-side 40 --size 32 --width 0.125 --steps 2 --seeds 1 --folds 1",
    "train-stream --modality rgb --keep best": "--validation 0.3",
    "tune ": "--validation 0.3 --trials 2",
    "run recipes/final.toml": "--set validation=0.1 --set appearance.weights=none --set motion.weights=none",
    "run final": "--set validation=0.1 --set appearance.weights=none --set motion.weights=none",
    "prepare --dataset": "--dataset-options train=4 --dataset-options test=4",
}

TRAINING = ("train-stream --modality rgb", "train-stream --modality flow", "fuse", "evaluate")
#: a page, and what its reader has done before
PAGES = {
    "README.md": (),
    "docs/guides/own-videos.md": (),
    "docs/guides/training.md": ("prepare videos mine",),
    "docs/guides/testing.md": (),
    "docs/guides/trajectories.md": ("prepare videos mine", *TRAINING),
    "docs/guides/predicting.md": ("prepare videos mine", *TRAINING),
    "docs/guides/exporting.md": ("prepare videos mine", *TRAINING),
    "docs/guides/cluster-and-gpus.md": ("prepare videos mine", *TRAINING),
    "docs/guides/plugins.md": (),
    "docs/guides/synthetic.md": (),
    "docs/guides/paper-datasets.md": (),
    "docs/guides/results.md": (),
    "docs/guides/sharing.md": ("prepare videos mine", *TRAINING, "push fused ada/gates --licence mit"),
}
#: pages whose code in Python runs after their commands
WITH_PYTHON = ("README", "exporting", "predicting", "testing", "trajectories")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with what the pages' commands name: clips in class folders, a list of them, films, a home folder."""
    folder = tmp_path_factory.mktemp("reader")
    for number, action in enumerate(("jump", "run")):
        for letter in "abcdef":
            clip = moving(22, dx=2 * number - 1, seed=ord(letter))
            film(folder / "videos" / action / f"{letter}{'' if action == 'jump' else '2'}.mp4", clip)
            film(folder / "weizmann" / action / f"{letter}nna_{action}.mp4", clip)
            film(folder / "grouped" / action / f"v_{action}_g0{1 + ord(letter) - ord('a')}_c01.mp4", clip)
    film(folder / "clip.mp4", moving(20))
    film(folder / "clip.avi", moving(20))
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


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A model hub on this machine."""
    with serve_hub(monkeypatch, tmp_path / "cache"):
        yield


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.usefixtures("hub")
def test_commands_of_a_page_run(page, reader, files, tmp_path, monkeypatch):
    stands_for = dict(STANDS_FOR)
    if page == "docs/guides/testing.md":
        stands_for |= make_tests_in_folds(reader)
    if page == "docs/guides/paper-datasets.md":
        make_published(reader)
        use_cache(monkeypatch, tmp_path / "weights", "resnet50", "resnet152")
    for line in PAGES[page]:
        type_in(line.split())
    here, made = reader, 0
    for words in commands((CHECKOUT / page).read_text()):
        words = [stands_for.get(word, word) for word in words]
        words = [str(Path(word).expanduser()) if word.startswith("~") else word for word in words]
        line = " ".join(words)
        if any(line.startswith(start) for start in LEFT_OUT):
            continue
        if line.startswith(PLANNED) and "--dry-run" not in words:
            words = [*words, "--dry-run"]
        more = next((more for start, more in SHORTER.items() if line.startswith(start)), "")
        if line.startswith((*ASIDE, *ANOTHER_WAY)):
            made += 1
            monkeypatch.chdir(shutil.copytree(files, tmp_path / f"folder{made}"))
        type_in(over(words, *more.split()) if more else words)
        here = here if line.startswith(ASIDE) else Path.cwd()
        monkeypatch.chdir(here)
    if Path(page).stem in WITH_PYTHON:
        run_python((CHECKOUT / page).read_text())


def run_python(page: str) -> None:
    """Run the blocks of a page that import something, in its order, with the steps and sizes of the settings."""
    found = [block for block in code_blocks(page) if re.search(r"^(import|from) ", block, re.MULTILINE)]
    assert found
    done = subprocess.run([sys.executable, "-c", "\n".join(found)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def code_blocks(page: str) -> list[str]:
    return [textwrap.dedent(block) for block in re.findall(r"^(?: {4}.*\n|\n(?= {4}))+", page, re.MULTILINE)]


def make_tests_in_folds(reader: Path) -> dict[str, str]:
    """What the reader of the guide to testing has: models of three folds, and tests of them; the page's names of these."""
    held_out = ["--validation", "0.3"]
    type_in(["prepare", "grouped", "mine", "--split-by", "group", "--folds", "3"])
    names = {}
    for split in "123":
        for line in TRAINING[:3]:
            type_in([*line.split(), "--split", split, *held_out])
        for model, word in (("motion", f"a{split}"), ("fused", f"b{split}")):
            names[word] = names_run("evaluate", model, "--split", split)
        names[f"TEST_{split}"] = names[f"b{split}"]
    names |= {"MOTION": names["a3"], "APPEARANCE": names_run("evaluate", "appearance", "--split", "3")}
    for model in ("appearance", "motion"):
        names[f"{model.upper()}_VALIDATION"] = names_run("evaluate", model, "--split", "3", "--part", "validation")
    motion, fused = (names_run("evaluate", "--join", *(names[f"{letter}{fold}"] for fold in "123")) for letter in "ab")
    idt = names_run("idt", "score", "--split", "3")
    shutil.copy(reader / "runs" / fused / "scores.safetensors", reader)
    return names | {
        "test-1a2b": names["a3"], "test-9f8e": names["b3"], "test-motion": motion, "test-fused": fused,
        "test": names["b3"], "final": "fused", "VIDEOS": "grouped", "idt.safetensors": idt,
    }  # fmt: skip


def names_run(*words: str) -> str:
    """Type a command; the name of the run with scores that it made."""
    type_in(list(words))
    runs = [run for run in Workspace(Path.cwd()).runs() if run.record["verb"] in ("evaluate", "idt-score")]
    return max(runs, key=lambda run: run.record["started"]).name


def test_code_of_the_guide_to_python_runs(reader):
    """As one script, in the page's order; the recipe is planned as it would take hours, and the rest runs."""
    blocks = code_blocks((CHECKOUT / "docs/guides/python.md").read_text())
    code = "\n".join(block for block in blocks if "stmn.run(" not in block and "pip install" not in block)
    assert "stmn.prepare(" in code and "stmn.fuse(" in code and ".predict(" in code
    code = re.sub(r", (width=0.5|size=64|steps=\d+)", "", code).replace("trials=30", "trials=2, validation=0.3")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.match(r"[\d.]+ \(", done.stdout)
