"""From videos to predictions on a system without what Windows lacks (`helpers/windows`).

Nothing can be undone there, so `test_pretended_windows.py` runs this file in a process of its own.
"""

import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.commands import call, errors_of
from helpers.films import film, moving
from helpers.packages import on_path

import stmn
from stmn import registry
from stmn.errors import MissingExtra, PluginError
from stmn.runtime import files, locks, platforms
from stmn.training.state import SavedState
from stmn.workspace import Workspace

FOLDER = Path(os.environ["PRETENDED_FOLDER"])
LIST = FOLDER / "clips" / "list.csv"
PREPARE = "prepare --short-side 32 --flow farneback"
TRAIN = "--batch 4 --micro-batch 4 --bn-group 2 --steps 2 --lr 0.01 --schedule cosine --validation 0 --seed 1"
STREAM = "train-stream --arch resnet18 --width 0.25 --weights none --size 32"
FUSE = f"fuse --chunks 2 --stride-min 1 --stride-max 2 {TRAIN}"
#: classes whose names can be no folders on Windows, and how things move in their videos
CLASSES = {"con": (1, 0), "what: up?": (0, 1), "a|b.": (-1, 0)}

HOLDER = """
import sys
from pathlib import Path
from stmn.runtime.locks import hold_lock
with hold_lock(Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.read()
"""


def run(command: str, *more: object) -> str:
    """What a command prints for people."""
    done = call(*command.split(), *more, "-w", FOLDER / "work")
    assert done.exit_code == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def prepared() -> Workspace:
    """A set of nine short videos, prepared by one worker process."""
    rows = ["path,class,split"]
    for name, (dx, dy) in CLASSES.items():
        for number, part in enumerate(("train", "train", "test")):
            path = film(FOLDER / "clips" / f"{len(rows)}.mp4", moving(14, 32, 32, dx, dy, seed=number))
            rows.append(f"{path.name},{name},{part}")
    LIST.write_text("\n".join(rows) + "\n", encoding="utf-8")
    run(f"{PREPARE} --workers 1", LIST, "toy")
    return Workspace(FOLDER / "work")


@pytest.fixture(scope="module")
def trained(prepared: Workspace) -> Workspace:
    """Both streams and the fused network."""
    for modality in ("rgb", "flow"):
        run(f"{STREAM} --modality {modality} {TRAIN}")
    run(FUSE)
    return prepared


def test_system_lacks_what_windows_lacks():
    assert not platforms.HAS_OWNERS and not platforms.PASSES_DESCRIPTORS
    assert not platforms.has_fork_server() and not platforms.has_private_sockets()
    with pytest.raises(PermissionError), open(FOLDER / "open", "wb"):
        (FOLDER / "open").unlink()
    with pytest.raises(OSError, match="Windows"):
        (FOLDER / "con.txt").write_text("")


def test_every_module_can_be_imported():
    missing = []
    for module in pkgutil.walk_packages(stmn.__path__, "stmn."):
        if module.name == "stmn.__main__":
            continue
        try:
            importlib.import_module(module.name)
        except (MissingExtra, ModuleNotFoundError) as error:
            missing.append(getattr(error, "name", None))
    assert not {"fcntl", "resource", "termios", "pwd", "grp"} & set(missing)


def test_single_process_prepares_a_set(prepared):
    assert json.loads(call("data", "info", "toy", "--json", "-w", prepared.root).stdout)["videos"]["ok"] == 9
    run("data check toy")
    assert "9/9 videos" in run(f"{PREPARE} --workers 1", LIST, "toy")
    run("data extract toy", FOLDER / "pictures")


def test_several_workers_start_in_new_interpreters(prepared):
    done = call(*PREPARE.split(), "--workers", 2, LIST, "two", "-w", FOLDER / "other")
    assert done.exit_code == 0, done.stderr
    assert len(list((FOLDER / "other" / "data" / "two" / "shards").glob("*.sqlite"))) == 2


def test_training_goes_on_from_its_state(trained, monkeypatch):
    """Its state is saved over the one before, and over the one that it began with."""
    save = SavedState.save

    def save_and_interrupt(*arguments: object) -> None:
        save(*arguments)
        monkeypatch.undo()
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(SavedState, "save", save_and_interrupt)
    command = f"{STREAM} --modality flow {TRAIN.replace('steps 2', 'steps 5')} --checkpoint-minutes 0.0000001"
    assert call(*command.split(), "-w", trained.root).exit_code == 130
    assert "continuing at step" in run(command)
    run(f"{FUSE} --force")


def test_models_are_tested(trained):
    run("evaluate fused-multiply --chunks 2")
    run("evaluate fused-multiply --chunks 2 --force")


def test_videos_are_classified(trained):
    clip = FOLDER / "clips" / "3.mp4"
    for words in ("", f"--out {FOLDER / 'table.csv'}", f"--window 0.3 --timeline {FOLDER / 'line.csv'}"):
        assert call("predict", "fused-multiply", clip, *words.split(), "-w", trained.root).exit_code == 0, words
    assert set(CLASSES) >= {scored.class_name for scored in stmn.load(trained.newest("model").path).predict(clip)}


def test_models_and_features_are_written(trained):
    for more in ((), ("--force",)):
        run("export appearance --format safetensors --copy-to", FOLDER / "model.safetensors", *more)
    for name in ("features.npz", "features.safetensors"):
        run("features fused-multiply", FOLDER / "clips" / "3.mp4", "--out", FOLDER / name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "openvino", "pt2"])
def test_models_are_exported(trained, name):
    for more in ((), ("--force",)):
        run(f"export appearance --format {name}", *more)
    [file] = [path for path in trained.root.glob(f"runs/export-{name}-*/model.*") if path.suffix != ".bin"]
    assert call("predict", file, FOLDER / "clips" / "3.mp4").exit_code == 0


def test_one_process_at_a_time_works_in_a_folder():
    folder = FOLDER / "held"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with open(folder / locks.LOCK_FILE, "r+b") as file:
        file.write(b"\xff")  # Windows lets no other process read the byte that is locked
    assert locks.find_holder(folder).pid == holder.pid
    with pytest.raises(locks.FolderInUse, match=f"process {holder.pid} "), locks.hold_lock(folder, print):
        pass
    holder.kill()
    holder.wait()
    assert locks.find_holder(folder) is None
    with locks.hold_lock(folder, print):
        assert locks.find_holder(folder).pid == os.getpid()
    assert not folder.exists() or not list(folder.iterdir())


def test_files_that_nobody_writes_any_more_are_removed():
    with files.atomic_write(FOLDER / "new" / "a.txt") as temporary:
        files.remove_leftovers(FOLDER / "new")
        assert temporary.exists()
        temporary.write_text("whole")
    left = FOLDER / "new" / ".b.txt.abcd1234.part.txt"
    left.write_text("half")
    long_ago = time.time() - 3600
    os.utime(left, (long_ago, long_ago))
    files.remove_leftovers(FOLDER / "new")
    assert [path.name for path in (FOLDER / "new").iterdir()] == ["a.txt"]


def test_names_that_windows_does_not_take_are_refused(prepared):
    for name in ("a:b", "con", "what?", "end."):
        done = call(*PREPARE.split(), LIST, name, "-w", prepared.root)
        assert done.exit_code == 2 and "Windows" in errors_of(done)[0]


def test_import_of_a_plugin_ends_after_a_while(monkeypatch, tmp_path):
    monkeypatch.setenv("STMN_PLUGINS_TIMEOUT", "1")
    with on_path(tmp_path / "packages", monkeypatch) as packages:
        packages.install("hanging", "while True:\n    pass", fusion={"hanging": "hang"})
        with pytest.raises(PluginError, match="its import has not ended after 1 s"):
            registry.load("fusion", "hanging")
