"""Several processes run the chain in one workspace while others read it."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attacks.arena import PATIENCE, Answer, Arena, end_session
from benchmarks.attacks.corrupt import AGAIN, CHECK, INFO, REPORT, collect, expand
from benchmarks.attacks.kill import empty, files_of, is_running
from benchmarks.attacks.verdicts import BAD, Case, judge, result_of

#: what reads while chains run
READERS = (INFO.command, CHECK.command, REPORT.command, "recipes list", "plugins list", "doctor")


def attack(case: Case, whole: Arena, given: dict[str, Any], root: Path) -> dict[str, Any]:
    """Three chains start within two seconds on new ground, and readers come and go; then the chain must be complete."""
    rng = np.random.default_rng([case.what["seed"], case.number, 3])
    arena = whole.copy(root / f"together-{case.number}")
    empty(arena.work)
    chains, readers, answers = {}, {}, []
    limit = time.monotonic() + 5 * PATIENCE
    for _ in range(3):
        time.sleep(rng.uniform(0, 1))
        chains[arena.start(*expand(arena, AGAIN.command))] = AGAIN.command
    while any(map(is_running, chains)) and time.monotonic() < limit:
        command = READERS[int(rng.integers(len(READERS)))]
        readers = {arena.start(*expand(arena, command)): command}
        answers += [(command, wait(arena, child, limit)) for child, command in readers.items()]
        time.sleep(rng.exponential(0.5))
    answers += [(command, wait(arena, child, limit)) for child, command in chains.items()]
    for command, answer in answers:
        if (verdict := judge(answer)) in BAD:
            return result_of(case._replace(name=f"{case.name}, {command}"), verdict, answer)
    answer = arena.attempt(*expand(arena, AGAIN.command), patience=5 * PATIENCE)
    verdict = judge(answer)
    left: list[str] = []
    if verdict == "right":
        left = [name for name in sorted(files_of(arena) ^ files_of(whole)) if "report" not in name]
        same = collect(arena, AGAIN, answer.out) == given
        verdict = "silently different" if not same else "left over" if left else "right"
    shutil.rmtree(arena.root)
    return result_of(case, verdict, answer) | {"answers": len(answers), "left": left[:20]}


def wait(arena: Arena, child: int, limit: float) -> Answer:
    """The answer of a process that was started."""
    while is_running(child) and time.monotonic() < limit:
        time.sleep(0.02)
    hung = is_running(child)
    end_session(child)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    out, err = ((arena.root / f"{child}.{end}").read_text(errors="surrogateescape") for end in ("out", "err"))
    return Answer(code, out, err, 0.0, hung)
