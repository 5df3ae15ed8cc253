"""The tutorial of the guide works as it is written."""

import re
import shlex
from pathlib import Path

import pytest
from conftest import TINY_TRAINING
from helpers.commands import call, over
from helpers.packages import on_path

from stmn.errors import PluginError
from stmn.testing import check_fusion

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "plugins.md"
TUTORIAL = GUIDE.read_text().partition("## A fusion in ten minutes")[2].partition("\n## ")[0]
CODE = re.findall(r"```python\n(.*?)```", TUTORIAL, re.DOTALL)
COMMANDS = [shlex.split(line)[1:] for line in re.findall(r"^    (stmn .*)$", TUTORIAL, re.MULTILINE)]


def test_a_person_can_follow_the_tutorial(own, tmp_path, monkeypatch, capsys):
    new, show, run, fuse = COMMANDS
    monkeypatch.chdir(tmp_path)
    assert call(*new).exit_code == 0
    gate, check = CODE
    Path("my-gate/my_gate/__init__.py").write_text(gate)
    with on_path(tmp_path / "site", monkeypatch) as packages:
        packages.install("my_gate", gate, fusion={"my_gate": "MyGate"})
        assert "start (float, default 0.0)" in call(*show).stdout
        exec(check, {})
        assert capsys.readouterr().out.count("fusion MyGate: ok: options, constructor, shape") == 2
        changed = run[run.index("--set") :]
        assert call("run", run[1], *changed, "--workspace", "toy", "--dry-run").exit_code == 0
        tiny = [f"--{key.replace('_', '-')}={value}" for key, value in (TINY_TRAINING | {"steps": 1}).items()]
        trained = call(*fuse, *tiny, "--chunks", 1, "-w", own.root)
        assert trained.exit_code == 0, trained.stderr
        refused = call(*over(fuse, "--fusion-options", "start=2"), *tiny, "-w", own.root)
        assert refused.exit_code == 2 and "start = 2.0: must be 0 to 1" in refused.stderr
        broken: dict = {}
        exec(
            gate.replace("self.strength * torch", "(1 + self.strength) * torch"), broken
        )  # the promise is kept no more
        with pytest.raises(
            PluginError, match=r"is not relu.receiving.: initialise it so that it is, or drop starts_untied"
        ):
            check_fusion(broken["MyGate"])
