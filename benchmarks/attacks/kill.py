"""Kill a chain again and again, let it end, and compare what it made with what an undisturbed chain made."""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attacks.arena import PATIENCE, Arena, end_session
from benchmarks.attacks.corrupt import AGAIN, collect, expand, reap
from benchmarks.attacks.verdicts import Case, judge, result_of

#: kills of one chain
KILLS = 10
#: files that other runs of the chain need not leave
_PASSING = (".lock",)


def attack(case: Case, whole: Arena, given: dict[str, Any], root: Path) -> dict[str, Any]:
    """Start a chain on new ground and kill it some times at random moments; then run it to its end.

    The moments are exponentially distributed with a mean of a twelfth of what the undisturbed chain took. Of the kills
    six in ten hit the whole session, as when a machine fails, three the command alone, and one a worker.
    """
    rng = np.random.default_rng([case.what["seed"], case.number, 2])
    arena = whole.copy(root / f"chain-{case.number}")
    empty(arena.work)
    kills = 0
    for _ in range(case.what["kills"]):
        child = arena.start(*expand(arena, AGAIN.command))
        moment = time.monotonic() + rng.exponential(case.what["seconds"] / 12)
        while time.monotonic() < moment and is_running(child):
            time.sleep(0.01)
        if not is_running(child):  # the chain is done
            finish(arena, child)
            break
        kills += 1
        how = rng.random()
        if how < 0.6:
            end_session(child)
        elif how < 0.9:
            os.kill(child, signal.SIGKILL)
        else:
            kill_worker(child, rng)
            time.sleep(0.3)
            os.kill(child, signal.SIGKILL)
        finish(arena, child)
    answer = arena.attempt(*expand(arena, AGAIN.command), patience=5 * PATIENCE)
    verdict = judge(answer)
    if verdict == "refused":  # nothing may keep the chain from its end
        verdict = "unclear"
    left: list[str] = []
    if verdict == "right":
        left = sorted(files_of(arena) ^ files_of(whole))
        same = collect(arena, AGAIN, answer.out) == given
        verdict = "silently different" if not same else "left over" if left else "right"
    shutil.rmtree(arena.root)
    return result_of(case, verdict, answer) | {"kills": kills, "left": left[:20]}


def empty(folder: Path) -> None:
    """Remove all that is in a folder."""
    shutil.rmtree(folder)
    folder.mkdir()


def is_running(child: int) -> bool:
    """True while a child has not ended; it stays a child that can be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def finish(arena: Arena, child: int) -> None:
    """Wait for a child; its workers must end by themselves in ten seconds, and are killed then."""
    reap(arena, child)
    limit = time.monotonic() + 10
    while workers_of(child) and time.monotonic() < limit:
        time.sleep(0.02)
    end_session(child)


def workers_of(leader: int) -> list[int]:
    """Processes of a session other than its leader, without those that have ended and wait to be collected."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z" and int(path.parent.name) != leader:
                found.append(int(path.parent.name))
    return sorted(found)


def kill_worker(leader: int, rng: np.random.Generator) -> None:
    """Kill one process that a command started, if there is one."""
    if found := workers_of(leader):
        with contextlib.suppress(ProcessLookupError):
            os.kill(found[int(rng.integers(len(found)))], signal.SIGKILL)


def files_of(arena: Arena) -> set[str]:
    """The names of all files in the workspace, without locks."""
    return {
        str(path.relative_to(arena.work))
        for path in arena.work.rglob("*")
        if path.is_file() and not path.name.endswith(_PASSING)
    }
