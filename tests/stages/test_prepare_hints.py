"""Hints that `stmn prepare` gives once, before it starts on the videos."""

import re

import pytest
from helpers.commands import call, start
from helpers.films import film, moving


@pytest.mark.parametrize(("size", "said"), [
    ((144, 180), ["most videos are smaller than the short side, 256 pixels, such as 180x144; enlarged they take 3.2 times as "
                  "long: --short-side 144 keeps their size"]),
    ((240, 320), []),  # UCF101's: hardly enlarged
])  # fmt: skip
def test_small_videos_are_named_before_they_are_enlarged(size, said, tmp_path):
    film(tmp_path / "v" / "wave" / "a.mp4", moving(2, *size))
    line = ["prepare", tmp_path / "v", "mine", "--workers", "1", "--flow", "farneback", "-w", tmp_path]
    result = call(*line)
    assert [text for text in result.stderr.splitlines() if "short side" in text] == said
    assert "short side" not in call(*line).stderr  # nothing is left to enlarge


def test_given_short_side_is_meant(tmp_path):
    film(tmp_path / "v" / "wave" / "a.mp4", moving(2, 48, 64))
    result = call(
        "prepare", tmp_path / "v", "--short-side", "96", "--workers", "1", "--flow", "farneback", "-w", tmp_path
    )
    assert (result.exit_code, "short side" in result.stderr) == (0, False)


def test_one_line_says_what_is_slower_without_a_compiler(tmp_path):
    """Once for all workers, which need the kernel, and not this process."""
    process = start(
        "prepare", "--dataset", "synthetic", "--dataset-options", "train=4,test=2", "--short-side", 32, "--workers", 2,
        "--flow-options", "scales=1,warps=1,iterations=1", "-w", tmp_path, env={"CC": "no-such-compiler"},
    )  # fmt: skip
    error = process.communicate()[1]
    assert process.returncode == 0, error
    [line] = [line for line in error.splitlines() if "C kernel" in line]
    assert re.fullmatch(
        r"TV-L1 flow takes \d+ times as long without its C kernel: no C compiler 'no-such-compiler' on the path", line
    )
