"""A short form of `python -m benchmarks.torture`; docs/reference/robustness.md has the figures of a long one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def test_attacks_are_refused_or_change_nothing(tmp_path):
    pytest.importorskip("cv2")
    command = [
        sys.executable, "-m", "benchmarks.torture", "--json", tmp_path / "result.json", "--corruptions", "14", "--kills", "1",
        "--hostile", "6", "--together", "0", "--workers", "1",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    result = json.loads((tmp_path / "result.json").read_text())
    parts = {name: part for name, part in result.items() if isinstance(part, dict)}
    assert [wrong for part in parts.values() for wrong in part["wrong"]] == []
    assert done.returncode == 0
    assert {name: part["tried"] for name, part in parts.items()} == {"hostile": 6, "corruptions": 14, "kills": 1}
