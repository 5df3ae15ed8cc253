"""Lay a trick into a copy of the arena, run commands, and look at what they give."""

import csv
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attacks.arena import Answer, Arena
from benchmarks.attacks.corrupt import expand
from benchmarks.attacks.tricks import Trick, all_tricks
from benchmarks.attacks.verdicts import BAD, Case, judge, result_of


def cases(whole: Arena, count: int, seed: int) -> list[Case]:
    """`count` of all tricks, drawn evenly from the kinds."""
    kinds = all_tricks(whole)
    rng = np.random.default_rng([seed, 4])
    left, mixed = count, list[Trick]()
    for place, tricks in enumerate(sorted(kinds, key=len)):  # what small kinds lack, large ones give
        mixed += _some(tricks, round(left / (len(kinds) - place)), rng)
        left = count - len(mixed)
    return [Case(number, trick.name, (seed, trick.name)) for number, trick in enumerate(mixed)]


def _some(tricks: list[Trick], count: int, rng: np.random.Generator) -> list[Trick]:
    """At most `count` of the tricks."""
    chosen = rng.permutation(len(tricks))[:count]
    return [tricks[number] for number in sorted(chosen)]


def attack(case: Case, whole: Arena, root: Path) -> dict[str, Any]:
    """Lay a trick into a fresh copy and run its commands; the worst verdict counts."""
    name = case.what[1]
    trick = next(trick for trick in itertools.chain(*all_tricks(whole)) if trick.name == name)
    arena = whole.copy(root / f"trick-{case.number}")
    trick.lay(arena)
    verdict, answer = "right", Answer(0, "", "", 0)
    for command in trick.commands:
        words = expand(arena, command) if isinstance(command, str) else command
        answer = arena.attempt(*words)
        verdict = judge(answer)
        if verdict == "right" and (strange := strange_output(arena, words, answer)):
            verdict, answer = "escape", replace(answer, err=strange)
        if verdict in BAD:
            break
    if verdict == "right" and trick.refused:
        verdict = "silently different"  # what should have been refused was taken
    shutil.rmtree(arena.root)
    return result_of(case, verdict, answer)


def strange_output(arena: Arena, words: list[str], answer: Answer) -> str:
    """What is wrong with JSON or CSV that a command wrote; empty if nothing is."""
    if "--json" in words:
        for text in [answer.out] if words[0] != "predict" else answer.out.splitlines():
            try:
                json.loads(text, parse_constant=lambda constant: 1 / 0)
            except (ValueError, ZeroDivisionError):
                return f"not JSON: {text[:200]}"
    for path in arena.root.glob("out*.csv"):
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            for cell in itertools.chain.from_iterable(csv.reader(file)):
                if cell[:1] in ("=", "+", "-", "@", "\t", "\r") and not is_number(cell):
                    return f"{path.name}: the cell {cell!r} is a formula"
    return ""


def is_number(text: str) -> bool:
    """True if a cell holds a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
