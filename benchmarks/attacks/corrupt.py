"""Damage one file of a workspace, run a command that reads it, and compare what it gives with what it gave before."""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load_file

from benchmarks.attacks.arena import NETWORK, Arena, end_session
from benchmarks.attacks.damage import DAMAGES, Damage
from benchmarks.attacks.verdicts import Case, judge, of_text, result_of

#: what is in a record or log because of the moment, not the work
_MOMENT = re.compile(
    r'"(started|finished|seconds|videos_per_second|data_wait|written|pid|host|progress)": ?("[^"]*"|[-\d.e]+|null)'
)


def flags(text: str) -> str:
    """The options of a recipe's stage as flags."""
    lines = [line.split(" = ") for line in text.splitlines() if not line.startswith("uses")]
    return " ".join(f"--{key.replace('_', '-')} {json.loads(value)}" for key, value in lines) + " --seed 3"


class Reader(NamedTuple):
    """A command that reads a file.

    Attributes:
        command: what follows `stmn`; a word with `*` stands for the files that it matches, as in a shell.
        forgets: folders that are removed first, so that there is something to do.
        gives: files that are its result; without any, its standard output is.
    """

    command: str
    forgets: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()


MODELS = "runs/*/model.safetensors"
SCORES = "runs/*/scores.safetensors"
FLOW = "train-stream --modality flow -w work " + flags(NETWORK)
SVMS = "idt score --gaussians 2 -w work"
#: what a chain makes
RESULTS = (MODELS, SCORES, "runs/*/codebook.safetensors", "runs/*/metrics.json", "runs/*/metrics.jsonl")
AGAIN = Reader("run recipe/chain.toml -w work", (), RESULTS)
TEST = Reader("evaluate --model work/runs/fused-multiply* -w work", ("runs/test-*",), ("runs/test-*/*.safetensors",))
PREDICT = Reader("predict work/runs/fused-multiply*/model.safetensors videos/test/left/3.mp4 --json")
TRAIN = Reader(FLOW, ("runs/motion-*",), ("runs/motion-*/model.safetensors",))
RESUME = Reader(FLOW, (), ("runs/motion-*/model.safetensors", "runs/motion-*/metrics.jsonl"))
SVM = Reader(SVMS, ("runs/idt-scores-*",), ("runs/idt-scores-*/scores.safetensors",))
ENCODE = SVM._replace(forgets=("runs/idt-scores-*", "runs/idt-vectors-*"))
FIT = SVM._replace(forgets=("runs/idt-scores-*", "runs/idt-vectors-*", "runs/idt-codebook-*"))
SHOW = Reader("scores show work/runs/test-late* --json -w work")
COMPARE = Reader("compare work/runs/test-[0-9a-f]*/scores.safetensors --json -w work")
INFO = Reader("data info --json -w work")
CHECK = Reader("data check --json -w work")
REPORT = Reader("report -w work", ("runs/report-*",), ("runs/report-*/report.html",))
EXPORT = Reader("export work/runs/motion-* -w work", ("runs/export-*",), ("runs/export-*/model.onnx",))
DRY_RUN = Reader("run recipe/chain.toml --dry-run -w work")

#: kind of file -> its files, the commands that read it
KINDS: dict[str, tuple[str, tuple[Reader, ...]]] = {
    "model": (MODELS, (PREDICT, TEST, AGAIN, EXPORT)),
    "scores": (SCORES, (SHOW, COMPARE, AGAIN, REPORT)),
    "training state": ("runs/motion-*/training.safetensors", (RESUME,)),
    "shard": ("data/films/shards/*", (TEST, TRAIN, CHECK, AGAIN)),
    "data set's header": ("data/films/dataset.json", (TEST, INFO, CHECK, AGAIN)),
    "data set's record": ("data/films/run.json", (TEST, INFO, AGAIN)),
    "record": ("runs/*/run.json", (REPORT, AGAIN, TEST, COMPARE)),
    "metrics": ("runs/*/metrics.json*", (REPORT, AGAIN)),
    "trajectories": ("runs/idt-tracks-*/**/*.[sj]*", (FIT, ENCODE)),
    "codebook": ("runs/idt-codebook-*/codebook*", (ENCODE, SVM)),
    "Fisher vectors": ("runs/idt-vectors-*/**/*.[sj]*", (SVM,)),
    "export": ("runs/export-*/model.onnx", (AGAIN,)),
    "recipe": ("../recipe/chain.toml", (DRY_RUN,)),
    "settings": ("../stmn.toml", (INFO, DRY_RUN)),
}
#: the settings file before it is damaged
SETTINGS = 'workspace = "work"\n[defaults.train-stream]\nmicro_batch = 4\n[defaults.prepare]\nworkers = 2\n'
#: what a person writes; any text that reads well is what they meant
TEXTS = ("recipe", "settings")


def one_bit(data: bytearray, other: bytes, rng: np.random.Generator) -> bytearray:
    """Flip a single bit."""
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return data


def interrupt_training(whole: Arena, root: Path) -> Arena:
    """A copy of an arena where the training of the motion stream was stopped after a saved state."""
    arena = whole.copy(root)
    for folder in arena.work.glob("runs/motion-*"):
        shutil.rmtree(folder)
    child = arena.start(*expand(arena, RESUME.command))
    limit = time.monotonic() + 120
    while not list(arena.work.glob("runs/motion-*/training.safetensors")) and time.monotonic() < limit:
        time.sleep(0.01)
    end_session(child)
    reap(arena, child)
    return arena


def reap(arena: Arena, child: int) -> int:
    """Wait for a child, remove its output, and return its exit code."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for suffix in ("out", "err"):
        (arena.root / f"{child}.{suffix}").unlink(missing_ok=True)
    return code


def expand(arena: Arena, command: str) -> list[str]:
    """The words of a command, with patterns replaced by the files that they match."""
    words = []
    for word in command.split():
        found = sorted(str(path.relative_to(arena.root)) for path in arena.root.glob(word)) if "*" in word else [word]
        words += found or [word]
    return words


def collect(arena: Arena, reader: Reader, out: str) -> dict[str, list[str]]:
    """Digests of a command's results: of tensors, of text without times, or of its output; by the names of files.

    The fingerprint at the end of a run's name is left out: it also covers what doesn't change a result.
    """
    if not reader.gives:
        return {"output": [digest(of_text(out, arena).encode(errors="surrogateescape"))]}
    found: dict[str, list[str]] = {}
    for path in sorted(path for pattern in reader.gives for path in arena.work.glob(pattern)):
        if path.suffix == ".safetensors":
            tensors = sorted(load_file(path).items())
            content = b"".join(f"{k} {t.dtype} {t.shape}".encode() + t.tobytes() for k, t in tensors)
        elif path.suffix == ".onnx":
            content = path.read_bytes()
        else:
            content = of_text(_MOMENT.sub("", path.read_text(errors="replace")), arena).encode(errors="replace")
        found.setdefault(f"{path.parent.name.rpartition('-')[0]}/{path.name}", []).append(digest(content))
    return {name: sorted(digests) for name, digests in found.items()}


def digest(content: bytes) -> str:
    """The digest of some bytes."""
    return hashlib.sha256(content).hexdigest()


def cases(whole: Arena, count: int, seed: int) -> Iterator[Case]:
    """What to damage and how, evenly over kinds of file and the commands that read them."""
    pairs = [(kind, place) for kind, (_, readers) in KINDS.items() for place in range(len(readers))]
    for number in range(count):
        kind, place = pairs[number % len(pairs)]
        ways: tuple[Damage, ...] = (one_bit, one_bit, one_bit, *DAMAGES)
        way = ways[(number // len(pairs)) % len(ways)]
        yield Case(
            number, f"{kind}: {way.__name__}, {KINDS[kind][1][place].command}", (kind, place, way.__name__, seed)
        )


def damage_file(arena: Arena, kind: str, way: str, number: int, seed: int) -> Path:
    """Damage a file of a kind, chosen by the case's number; the file's times change as they do when it is written."""
    rng = np.random.default_rng([seed, number, 1])
    files = sorted(path for path in arena.work.glob(KINDS[kind][0]) if path.is_file())
    path = files[int(rng.integers(len(files)))]
    change = {function.__name__: function for function in (one_bit, *DAMAGES)}[way]
    before = path.read_bytes()
    for _ in range(20):  # parts may be replaced by equal ones
        after = bytes(change(bytearray(before), before[::-1], rng))
        if after != before:
            break
    path.write_bytes(after)
    return path


def baselines(whole: Arena, interrupted: Arena, tasks: list[Case], root: Path) -> dict[Reader, dict[str, Any]]:
    """What the commands of some cases give while nothing is damaged.

    Raises:
        RuntimeError: a command fails already.
    """
    given: dict[Reader, dict[str, Any]] = {}
    for reader in {KINDS[case.what[0]][1][case.what[1]] for case in tasks}:
        arena = (interrupted if reader == RESUME else whole).copy(root)
        forget(arena, reader)
        answer = arena.attempt(*expand(arena, reader.command))
        if answer.code:
            raise RuntimeError(f"stmn {reader.command} fails with nothing damaged: {answer.err}{answer.out}")
        given[reader] = collect(arena, reader, answer.out)
    return given


def forget(arena: Arena, reader: Reader) -> None:
    """Remove what the command shall make."""
    for pattern in reader.forgets:
        for folder in arena.work.glob(pattern):
            shutil.rmtree(folder)


def attack(case: Case, whole: Arena, interrupted: Arena, given: dict[Reader, Any], root: Path) -> dict[str, Any]:
    """Damage a file in a fresh copy, run a command there, and compare."""
    kind, place, way, seed = case.what
    reader = KINDS[kind][1][place]
    arena = (interrupted if reader == RESUME else whole).copy(root / f"case-{case.number}")
    if kind == "settings":
        (arena.root / "stmn.toml").write_text(SETTINGS)
    forget(arena, reader)
    path = damage_file(arena, kind, way, case.number, seed)
    answer = arena.attempt(*expand(arena, reader.command))
    verdict = judge(answer)
    if verdict == "right":
        same = kind in TEXTS or collect(arena, reader, answer.out) == given[reader]
        named = path.name in answer.err or path.parent.name in answer.err
        verdict = "right" if same else "said" if named else "silently different"
    shutil.rmtree(arena.root)
    return result_of(case, verdict, answer, path.relative_to(arena.root))
