"""Folders that may not be read or written, without root's right to ignore that; and workspaces that were moved."""

import ctypes
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.commands import STMN, call
from helpers.films import film, moving

FAST = ["--short-side", "32", "--workers", "1", "--flow", "farneback"]
#: of Linux: to give up a capability, and those that let root read and write everything
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


@pytest.fixture
def place(tmp_path):
    """Videos of three classes; what a test locks is unlocked at its end."""
    for name in ("run/a.avi", "run/b.avi", "jump/c.avi", "locked/d.avi"):
        film(tmp_path / "v" / name, moving(3, 32, 32))
    yield tmp_path
    for path in (*tmp_path.glob("v/*"), *tmp_path.glob("v"), *tmp_path.glob("work")):
        path.chmod(0o755)


def obey() -> None:
    """In a child process: be bound by the rights of files, as anybody but root is."""
    libc = ctypes.CDLL(None)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def prepare(place: Path, workspace: Path) -> subprocess.CompletedProcess:
    """Prepare without the rights of root."""
    (place / "secret").touch(mode=0)
    if (
        subprocess.run(["cat", place / "secret"], preexec_fn=obey, stderr=subprocess.DEVNULL, check=False).returncode
        == 0
    ):
        pytest.skip("root's rights can't be given up here")
    return subprocess.run(
        [STMN, "prepare", place / "v", "mine", *FAST, "-w", workspace, "--json"], capture_output=True, text=True,
        preexec_fn=obey, timeout=120, check=False,
    )  # fmt: skip


def reasons(done: subprocess.CompletedProcess) -> dict[str, str]:
    """What became of each video: "" or why it was skipped."""
    events = map(json.loads, done.stdout.splitlines())
    return {event["video"]: event["reason"] for event in events if "video" in event}


def test_folders_and_files_that_cannot_be_read_are_named(place):
    (place / "v" / "locked").chmod(0)
    (place / "v" / "run" / "b.avi").chmod(0)
    for path in ("run", "jump", "."):
        (place / "v" / path).chmod(0o555)  # nothing is ever written beside videos
    done = prepare(place, place / "work")
    assert done.returncode == 1, done.stderr
    found = reasons(done)
    assert {name: bool(reason) for name, reason in found.items()} == {
        "run/a.avi": False, "run/b.avi": True, "jump/c.avi": False
    }  # fmt: skip
    assert found["run/b.avi"].endswith("run/b.avi: not a readable video: Permission denied")
    left_out = [event for event in map(json.loads, done.stdout.splitlines()) if "left_out" in event]
    assert [(Path(item["left_out"]).name, item["reason"]) for item in left_out] == [
        ("locked", "folder that can't be read")
    ]  # fmt: skip


def test_workspace_that_cannot_be_written_is_one_line(place):
    (place / "work").mkdir()
    (place / "work").chmod(0o555)
    done = prepare(place, place / "work")
    [line] = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith("error: ") and "Permission denied" in line
    assert str(place / "work") in line and "Traceback" not in done.stderr


def test_moved_workspace_and_videos_are_not_prepared_again(place):
    line = ["prepare", place / "v", "mine", *FAST]
    assert call(*line, "-w", place / "work").exit_code == 0
    shutil.move(place / "work", place / "elsewhere")
    shutil.move(place / "v", place / "videos")
    again = call("prepare", place / "videos", "mine", *FAST, "-w", place / "elsewhere", "--json")
    assert again.exit_code == 0, again.stderr
    events = [event for event in map(json.loads, again.stdout.splitlines()) if "video" in event]
    assert len(events) == 4 and not any(event["new"] for event in events)
