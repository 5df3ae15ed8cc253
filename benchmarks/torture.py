"""Attacks on `stmn`: is every answer the right one or an error of one line?

    python -m benchmarks.torture --json FILE [--corruptions 1000] [--kills 100] [--hostile 200] [--together 10]

A chain of eleven stages of all kinds is run on rendered videos. Then copies of its workspace are attacked:

- corruptions: a file of the workspace is damaged, and a command reads it;
- kills: the chain is killed at random moments and run again until it is done;
- hostile: models, recipes, lists, names and videos that were made to do harm;
- together: several processes run the chain in one workspace while others read it.

A seed decides everything but the moments of processes. Each attempt is refused (an error of one line), right (the
result of an undisturbed run), or said (a result that names what it left out). It must not be silently different, end in
a traceback, hang, write outside the workspace, take much memory, or send control characters to the terminal. Exits with
1 if one did.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.attacks import corrupt, hostile, kill, together
from benchmarks.attacks.arena import Arena, import_all, in_processes, make_arena
from benchmarks.attacks.verdicts import BAD, GOOD, Case
from benchmarks.frame import describe_machine, run


def corruptions(whole: Arena, options: argparse.Namespace, root: Path) -> list[dict[str, Any]]:
    """All corruptions."""
    interrupted = corrupt.interrupt_training(whole, root / "interrupted")
    tasks = list(corrupt.cases(whole, options.corruptions, options.seed))
    given = corrupt.baselines(whole, interrupted, tasks, root / "base")
    work = partial(corrupt.attack, whole=whole, interrupted=interrupted, given=given, root=root)
    return in_processes(work, tasks, options.workers)


def hostilities(whole: Arena, options: argparse.Namespace, root: Path) -> list[dict[str, Any]]:
    """What was made to do harm."""
    work = partial(hostile.attack, whole=whole, root=root)
    return in_processes(work, hostile.cases(whole, options.hostile, options.seed), options.workers)


def kills(whole: Arena, options: argparse.Namespace, root: Path, seconds: float) -> list[dict[str, Any]]:
    """Chains that are killed, until the kills are enough."""
    done: list[dict[str, Any]] = []
    given = corrupt.collect(whole, corrupt.AGAIN, "")
    work = partial(kill.attack, whole=whole, given=given, root=root)
    while (missing := options.kills - sum(result["kills"] for result in done)) > 0:
        chains = range(len(done), len(done) + max(options.workers, missing // kill.KILLS))
        what = {"seed": options.seed, "seconds": seconds, "kills": min(missing, kill.KILLS)}
        tasks = [Case(number, "kills: chain", what) for number in chains]
        done += in_processes(work, tasks, options.workers)
    return done


def concurrent(whole: Arena, options: argparse.Namespace, root: Path) -> list[dict[str, Any]]:
    """Chains that run in one workspace at once."""
    given = corrupt.collect(whole, corrupt.AGAIN, "")
    work = partial(together.attack, whole=whole, given=given, root=root)
    tasks = [Case(number, "together: three chains", {"seed": options.seed}) for number in range(options.together)]
    return in_processes(work, tasks, 1)


def summarise(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts of verdicts, and all that went wrong."""
    counts = Counter(result["verdict"] for result in results)
    kinds = {result["case"].split(":")[0] for result in results}
    return {
        "tried": len(results),
        **{verdict: counts[verdict] for verdict in (*GOOD, *BAD)},
        "by_kind": {
            kind: dict(Counter(r["verdict"] for r in results if r["case"].split(":")[0] == kind))
            for kind in sorted(kinds)
        },
        "wrong": [result for result in results if result["verdict"] in BAD],
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The content of the JSON file."""
    import_all()
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        started = time.perf_counter()
        root = Path(folder)
        whole = make_arena(root / "whole")
        chain = time.perf_counter() - started
        result: dict[str, Any] = {"seed": options.seed, **describe_machine(), "chain_seconds": round(chain, 1)}
        if options.hostile:
            result["hostile"] = summarise(hostilities(whole, options, root))
        if options.corruptions:
            result["corruptions"] = summarise(corruptions(whole, options, root))
        if options.kills:
            killed = kills(whole, options, root, chain)
            result["kills"] = {"kills": sum(r["kills"] for r in killed)} | summarise(killed)
        if options.together:
            result["together"] = summarise(concurrent(whole, options, root))
        return result | {"seconds": round(time.perf_counter() - started, 1)}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--corruptions", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--hostile", type=int, default=200)
    parser.add_argument("--together", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2, help="attempts at a time")
    parser.add_argument("--seed", type=int, default=0)


if __name__ == "__main__":
    result = run(__doc__, add_options, measure)
    sys.exit(1 if any(part["wrong"] for part in result.values() if isinstance(part, dict)) else 0)
