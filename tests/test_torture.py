"""Short forms of `python -m benchmarks.torture`; docs/reference/robustness.md has the figures of a long one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(("corruptions", "kills", "hostile"), [(6, 0, 4), (14, 1, 6)])
def test_attacks_are_refused_or_change_nothing(corruptions, kills, hostile, tmp_path):
    pytest.importorskip("cv2")
    command = [
        sys.executable, "-m", "benchmarks.torture", "--json", tmp_path / "result.json", "--corruptions", str(corruptions),
        "--kills", str(kills), "--hostile", str(hostile), "--together", "0", "--workers", "1",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    result = json.loads((tmp_path / "result.json").read_text())
    parts = {name: part for name, part in result.items() if isinstance(part, dict)}
    assert [wrong for part in parts.values() for wrong in part["wrong"]] == []
    assert done.returncode == 0
    tried = {"hostile": hostile, "corruptions": corruptions, "kills": kills}
    assert {name: part["tried"] for name, part in parts.items() if part["tried"]} == {
        k: n for k, n in tried.items() if n
    }
