"""Plugins that exit, print and raise what nobody expects: a stage that did not finish is never success."""

import json
import subprocess

import pytest
from helpers.commands import STMN, call, errors_of, write_recipe
from helpers.packages import on_path

HOSTILE = """
import os, sys
from stmn.datasets.synthetic import Synthetic
from stmn.plugins import Dataset

class Own(BaseException):
    pass

def hostile(first, second):
    if first.any():  # not when it is tried
        do(os.environ["DEED"])
    return first.new_zeros(len(first), 2, *first.shape[1:], dtype=__import__("torch").float32)

def do(deed):
    if deed == "exit":
        sys.exit(0)
    if deed == "leave":
        os._exit(0)
    if deed == "generator":
        raise GeneratorExit
    if deed == "own":
        raise Own("\\x1b[2J[/oops]\\nerror: not mine")
    if deed == "value":
        raise ValueError("it broke")
    if deed == "print":
        print("printed", flush=True)
        os.write(1, b"written\\n")

class Hostile(Synthetic):
    def __init__(self, root, deed="print", **options):
        do(deed)
        super().__init__(root, **options)
"""
SMALL = ["--dataset-options", "train=2,test=2,frames=3,size=32", "--short-side", "32", "--workers", "1"]


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with on_path(tmp_path / "site", monkeypatch) as packages:
        packages.install("hostile", HOSTILE, flow={"hostile": "hostile"}, dataset={"hostile": "Hostile"})
        packages.install("leaving", "import sys\nsys.exit(0)", flow={"leaving": "nothing"})
        yield packages.folder


@pytest.mark.parametrize(
    ("deed", "what"),
    [
        ("exit", "sys.exit(0) was called: a bug of the plugins of hostile; --debug shows where"),
        ("generator", "GeneratorExit: a bug of the plugins of hostile; --debug shows where"),
        ("own", r"Own: \x1b[2J[/oops]\nerror: not mine: a bug of the plugins of hostile; --debug shows where"),
        ("value", "data set 'hostile': it broke"),
    ],
)
def test_a_stage_that_did_not_finish_is_no_success(site, deed, what):
    options = f'dataset = "hostile"\nshort_side = 32\ndataset_options = {{deed = "{deed}"}}'
    recipe = write_recipe(site / "r.toml", 'name = "r"', f'id = "videos"\nuses = "prepare"\n{options}')
    result = call("run", recipe)
    assert result.exit_code in (1, 2) and errors_of(result) == [what] and "Traceback" not in result.stderr


def test_a_plugin_that_ends_the_process_is_no_success(site):
    command = [STMN, "prepare", "--dataset", "hostile", "--dataset-options", "deed=leave"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"}
    )
    assert done.returncode == 1
    assert errors_of(done) == ["os._exit(0) was called, by a plugin or a library, before the command was done"]


def test_a_plugin_that_exits_when_imported_is_named(site):
    result = call("prepare", "--dataset", "synthetic", *SMALL, "--flow", "leaving", "--flow-options", "a=1")
    assert result.exit_code != 0
    assert errors_of(result) == [
        "flow 'leaving' of package leaving 1.0 can't be imported: SystemExit: 0; update leaving or its dependencies, or "
        "remove it: pip uninstall leaving"
    ]


@pytest.mark.parametrize("deed", ["exit", *(pytest.param(deed, marks=pytest.mark.slow) for deed in ("own", "print"))])
def test_exits_and_prints_in_worker_processes(site, deed):
    """A flow that exits costs the video; what it prints is no part of the JSON."""
    command = ["prepare", "--dataset", "synthetic", *SMALL, "--flow", "hostile"]
    done = subprocess.run(
        [STMN, *command, "--json"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin", "DEED": deed},
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows[-1]["status"] == ("done" if deed == "print" else "failed"), done.stderr
    assert (done.returncode == 0) == (deed == "print") and "Traceback" not in done.stderr
    if deed == "print":
        assert "printed" in done.stderr and "written" in done.stderr
    else:
        assert "4 of 4 videos were skipped" in errors_of(done)[0]
