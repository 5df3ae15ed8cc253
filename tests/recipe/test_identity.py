"""What a run is: the format of its stage, what it was asked for, and who may work in its folder."""

import json
import re
from pathlib import Path

import pytest
from conftest import train_tiny
from helpers.commands import call, errors_of, start
from helpers.packages import on_path

from stmn import registry
from stmn.options import MODELS, options_of
from stmn.recipe.plan import plan_stage
from stmn.runtime.locks import LOCK_FILE, FolderInUse, find_holder, hold_lock
from stmn.stages import find_stage

FORMATS = Path(__file__).parents[2] / "docs" / "reference" / "formats.md"
_WORDS = (
    "train-stream --modality flow --arch resnet18 --width 0.125 --weights none --size 32 --batch 8 --micro-batch 8 "
    "--steps 1 --schedule cosine --validation 0"
)
TINY = _WORDS.split()


def ignore(line: str) -> None:
    """Say nothing."""


def test_formats_of_stages_are_those_of_the_reference():
    """Raise the number when the same options give other results, and say there what changed."""
    table = FORMATS.read_text().partition("| stage | format |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (.*?) \| (\d+) \|", table, re.MULTILINE)
    stated = {verb: int(number) for verbs, number in rows for verb in re.findall("`(.*?)`", verbs)}
    assert stated == {verb: find_stage(verb).format for verb in MODELS}


def test_identity_of_a_run_has_no_version_of_stmn(prepared):
    plan = plan_stage("train-stream", options_of("train-stream")(modality="flow", weights="none"), prepared)
    assert list(plan.identity) == ["verb", "format", "options", "inputs", "plugins", "data"]
    assert all("version" not in known for known in plan.identity["plugins"] if known["package"] == "stmn")


def test_changed_default_is_said(scratch):
    assert call(*TINY, "-w", scratch.root).exit_code == 0
    run = next(scratch.runs())
    options = run.record["options"] | {"momentum": 0.8}  # as if that had been the default
    run.save(options=options)
    run.path.rename(run.path.with_name("motion-resnet18-older"))
    again = call(*TINY, "-w", scratch.root)
    assert again.exit_code == 0
    assert "not motion-resnet18-older: the defaults differ (momentum = 0.9, there 0.8)" in again.stderr
    asked = call(*TINY, "--momentum", "0.7", "-w", scratch.root)
    assert asked.exit_code == 0 and "this is a new run" not in asked.stderr


def test_another_model_is_asked_for_and_not_reported_as_a_change(own):
    for name in ("appearance", "motion"):
        made = call("evaluate", name, "--chunks", "2", "-w", own.root)
        assert made.exit_code == 0 and "this is a new run" not in made.stderr


def test_command_waits_for_another_process_if_it_is_told_to(scratch):
    run = train_tiny(scratch, "flow", steps=1)
    words = (
        "train-stream --modality flow --arch resnet18 --width 0.25 --weights none --size 32 --batch 8 --micro-batch 8 "
        "--steps 1 --lr 0.05 --schedule cosine --validation 0 --seed 1 --force"
    )
    command = words.split()
    with hold_lock(run.path, ignore):
        refused = call(*command, "-w", scratch.root)
        assert refused.exit_code == 1 and "has been running this stage since" in errors_of(refused)[0]
        waiting = start(*command, "--wait", "-w", scratch.root)
        stderr = ""
        while "waiting for" not in stderr:
            assert waiting.poll() is None, waiting.communicate()
            stderr += waiting.stderr.readline()
    stderr += waiting.communicate(timeout=120)[1]
    assert waiting.returncode == 0 and "made by the other process" in stderr


def test_lock_of_a_dead_process_blocks_nobody_and_leaves_nothing(tmp_path):
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    (folder / LOCK_FILE).write_text(json.dumps({"host": "elsewhere", "pid": 1, "since": 0}))
    assert find_holder(folder) is None
    with hold_lock(folder, ignore):
        assert find_holder(folder).pid > 1
        with pytest.raises(FolderInUse, match="process"), hold_lock(folder, ignore):
            pass
    assert list(folder.iterdir()) == []


def test_folder_of_a_refused_run_is_not_left(tmp_path):
    with pytest.raises(ZeroDivisionError), hold_lock(tmp_path / "runs" / "one", ignore):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff", b'{"status": "done"}', b'{"options": 3, "status": "done"}'])
def test_damaged_record_stops_nothing(scratch, content):
    assert call(*TINY, "-w", scratch.root).exit_code == 0
    run = next(scratch.runs())
    (run.path / "run.json").write_bytes(content)
    again = call(*TINY, "-w", scratch.root)
    assert again.exit_code == 0, again.stderr
    assert next(scratch.runs()).name == run.name and next(scratch.runs()).done


def test_code_of_a_plugin_is_all_that_its_package_installed(tmp_path, monkeypatch):
    with on_path(tmp_path / "site", monkeypatch) as packages:
        packages.install("gates", "from gate_helpers import Gate", fusion={"gate": "Gate"})
        helper, info = packages.folder / "gate_helpers.py", packages.folder / "gates-1.0.dist-info"
        helper.write_text("scale = 1")
        (info / "RECORD").write_text("gates.py,,\ngate_helpers.py,,\n")
        before = registry.find("fusion", "gate").identity["source"]
        assert registry.find("fusion", "gate").identity["source"] == before
        helper.write_text("scale = 2")
        assert registry.find("fusion", "gate").identity["source"] != before
    assert "source" not in registry.find("fusion", "multiply").identity
