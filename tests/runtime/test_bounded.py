"""A function in a process of its own: what hangs or crashes there costs one call."""

import subprocess

import pytest

from stmn.runtime.bounded import BoundedCall


@pytest.mark.parametrize("bad", ["sleep 60", "kill -9 $PPID", "\0"], ids=["hangs", "crashes", "raises"])
def test_bad_call_gives_nothing_and_the_next_is_made(bad):
    with BoundedCall(subprocess.getoutput, 0.5) as run:
        assert [run("echo 1"), run(bad), run("echo 2")] == ["1", None, "2"]


def test_process_starts_with_the_first_call_and_ends_with_the_block():
    with BoundedCall(subprocess.getoutput, 5) as run:
        number = run("echo $PPID")
        assert run("echo $PPID") == number
    assert subprocess.run(["kill", "-0", number], stderr=subprocess.DEVNULL).returncode != 0
