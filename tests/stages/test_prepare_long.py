"""`stmn prepare` on long films, thousands of files and damaged ones. Each test runs a small version of a benchmark."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def benchmark(name: str, out: Path, *arguments: object) -> dict:
    """Run a benchmark as its users do; returns what it wrote."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", out, *arguments]
    done = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text())


def test_memory_does_not_grow_with_length_or_number_of_videos(tmp_path):
    pytest.importorskip("cv2")
    result = benchmark("memory", tmp_path / "memory.json", "--few", "20", "--many", "1000")
    print(result)
    assert result["long_clip"]["clip_seconds"] == 60 * result["short_clip"]["clip_seconds"]
    # a single minute of these pictures, kept, would be 28 MB
    for axis in ("length", "number"):
        for process in ("main_mb", "worker_mb"):
            assert result[f"growth_with_{axis}_{process}"] < 20


def test_damaged_videos_are_ok_or_skipped_with_a_reason(tmp_path, shared_data):
    clips = ["--clips", shared_data / "clips", "--clips", shared_data / "ut_interaction" / "videos"]
    result = benchmark("fuzz_prepare", tmp_path / "fuzz.json", *clips, "--variants", "210", "--seed", "1")
    assert result["wrong"] == []
    assert result["ok"] + result["skipped"] == 210
    assert result["ok"] > 20, "not everything is so damaged that nothing is left to look at"
    assert result["skipped"] > 20
    assert result["frames"] > result["ok"]
