"""Where POSIX is missing, the commands from videos to predictions work: on a pretended Windows, in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("which", ["not slow", "slow"])
def test_commands_work_without_what_windows_lacks(which, tmp_path):
    file = Path(__file__).with_name("on_pretended_windows.py")
    (tmp_path / "root").mkdir()
    path = os.pathsep.join([str(ROOT / "tests" / "helpers" / "windows"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": path, "PRETENDED_FOLDER": str(tmp_path / "root")}
    words = f"-m pytest -q -p no:xdist --basetemp {tmp_path / 'own'} {file}".split()
    done = subprocess.run(
        [sys.executable, *words, "-m", which], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=600
    )
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 3 and "skipped" not in done.stdout
