"""Who may do what: two processes at a time, and workspaces that can only be read."""

import json
import os
import platform
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers.commands import STMN, call, errors_of, start, write_recipe

RENDERED = (
    'id = "videos"\nuses = "prepare"\ndataset = "synthetic"\nshort_side = 32\nworkers = 1\n'
    "dataset_options = {train = 6, test = 2, frames = 12, size = 32}\n"
)


def wait_for(what: "callable", seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_runs_of_a_recipe_and_of_a_set(tmp_path, monkeypatch):
    """The second stops with a line that says who is at work; nothing is lost. A dead process blocks nobody."""
    monkeypatch.chdir(tmp_path)
    recipe = write_recipe(tmp_path / "r.toml", 'name = "r"\ndata = "toy"', RENDERED)
    first = start("run", "r.toml")
    wait_for(lambda: any(path.stat().st_size for path in Path("data").glob("toy/run.lock")))
    first.send_signal(signal.SIGSTOP)  # so that it is certainly there
    who = f"process {first.pid} on {platform.node()} has been running this"
    how = "(stmn run r.toml); wait until it ends (--wait), or end it"
    [again] = errors_of(call("run", recipe))
    assert f"{who} recipe since" in again and again.endswith(how)
    options = ["--dataset", "synthetic", "--dataset-options", "train=6,test=2,frames=12,size=32"]
    for name in ("toy", "./data/toy", tmp_path / "data" / "toy"):  # one set, however it is called
        result = call("prepare", tmp_path / "x", name, *options, "--short-side", 32)
        assert result.exit_code == 1
        [error] = errors_of(result)
        assert f"{who} stage since" in error and error.endswith(how)
    first.kill()
    first.wait()
    second = call("run", recipe)
    assert second.exit_code == 0, second.stderr
    assert not list(Path("runs").glob(".recipe-*")) and not Path("data/toy/run.lock").exists()
    assert json.loads(call("data", "info", "toy", "--json").stdout)["videos"]["ok"] == 8


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"pid": "x"}', '{"host": "\\u001b[2J", "pid": 1, "since": 1e99}', "9" * 9999]
)
def test_what_a_left_lock_says_counts_for_nothing(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "toy").mkdir(parents=True)
    (tmp_path / "data" / "toy" / "run.lock").write_text(content)
    [error] = errors_of(call("prepare", "--dataset", "folder", tmp_path, "toy"))
    assert "in use" not in error and "has been running" not in error and "run.lock" not in error


@pytest.fixture
def read_only(trained, tmp_path):
    """The trained workspace, where nobody may write."""
    root = tmp_path / "shared"
    shutil.copytree(trained.root, root)
    paths = [root, *root.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield root
    for path in paths:
        path.chmod(0o755)


def as_reader(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    """Run a command as somebody whom the permissions of files bind, which they don't root."""
    bound = [] if os.getuid() else ["setpriv", "--inh-caps=-all", "--bounding-set=-all", "--"]
    if bound and not shutil.which(bound[0]):
        pytest.skip("these tests run as root, and setpriv is missing")
    command = [*bound, STMN, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


@pytest.mark.slow
def test_workspaces_that_can_only_be_read(read_only, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    there = ["-w", read_only]
    tests = sorted(path.name for path in (read_only / "runs").glob("test-*"))
    [data] = (read_only / "data").iterdir()
    video = next(read_only.rglob("*.mp4"))
    for command in (
        ["predict", "fused", video, *there],
        ["data", "info", *there],
        ["data", "check", *there],
        ["data", "extract", "out", "--video", "test/which_moves_00000", *there],
        ["scores", "show", tests[0], *there],
        ["scores", "convert", tests[0], "scores.csv", *there],
        ["compare", *tests[:2], "--page", "page.html", *there],
        ["nets", "show", "fused", *there],
        ["recipes", "show", "final"],
        ["export", read_only / "runs" / "fused", *there],
        ["report", "--data", data, "--evaluations", ",".join(str(read_only / "runs" / name) for name in tests)],
    ):
        done = as_reader(*command, cwd=elsewhere)
        if command[0] == "export":  # what writes there says so
            assert done.returncode != 0 and len(errors_of(done)) == 1
        else:
            assert done.returncode == 0, (command, done.stderr)
    assert list(elsewhere.glob("runs/report-*/report.html"))
    done = as_reader("evaluate", "fused", "--chunks", 2, *there, cwd=elsewhere)
    assert done.returncode == 1 and [
        line.endswith("can't be written: Permission denied") for line in errors_of(done)
    ] == [True]
