"""What an attempt came to."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.attacks.arena import Answer, Arena

#: what is fine: an error of one line, the right result, a result that says what it left out
GOOD = ("refused", "right", "said")
#: what must not be
BAD = ("silently different", "traceback", "unclear", "outside write", "hang", "memory", "escape", "left over")


class Case(NamedTuple):
    """One attack.

    Attributes:
        number: its number, which seeds what it draws.
        name: what it is, for people.
        what: what it needs.
    """

    number: int
    name: str
    what: Any


def judge(answer: Answer) -> str:
    """The verdict on an answer; "right" stands for exit code 0, before its result is looked at."""
    both = answer.out + answer.err
    if answer.outside:
        return "outside write"
    if answer.hung:
        return "hang"
    if "Traceback" in both or "a bug of stmn" in both or answer.code < 0:
        return "traceback"
    if re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", both):
        return "escape"
    if answer.code == 0:
        return "right"
    if re.search("(not enough|out of) memory", answer.err):
        return "memory"
    if answer.code == 1 and ('"problems": [' in answer.out or re.search(r"\d problems?$", answer.err.rstrip())):
        # of data check
        return "refused"
    errors = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    return "refused" if errors and len(max(errors, key=len)) < 2000 else "unclear"


def result_of(case: Case, verdict: str, answer: Answer, path: Path | None = None) -> dict[str, Any]:
    """What the JSON file says of a case: all of it if it went wrong."""
    result: dict[str, Any] = {"number": case.number, "case": case.name, "verdict": verdict}
    if verdict in BAD:
        result |= {"file": str(path), "code": answer.code, "out": answer.out[-600:], "err": answer.err[-1500:]}
        result |= {"outside": list(answer.outside)}
    return result


def of_text(text: str, arena: Arena) -> str:
    """A text without the place of the arena and without times, which differ from copy to copy."""
    text = text.replace(str(arena.root), "ARENA")
    return re.sub(r"\b\d+(\.\d+)? ?(s|ms|min)\b|\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?", "TIME", text)
