"""The workspace: `data/` holds prepared sets, `runs/` what stages made.

A run's folder is named after what was run and a fingerprint of everything that decides its result: options, inputs,
plugins and their versions. So the same work is never done twice, whichever recipe or command asked for it, and no
result is ever overwritten by another.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stmn.errors import DataError, UsageError, near_match
from stmn.runtime.files import file_digest, is_locked, write_json
from stmn.store.format.header import HEADER

RECORD = "run.json"


@dataclass
class Run:
    """One stage's folder and its record."""

    path: Path
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder's name: what was run and the fingerprint."""
        return self.path.name

    @property
    def done(self) -> bool:
        """True when the stage ended well."""
        return self.record.get("status") == "done"

    def makes(self, kind: str) -> bool:
        """True when the stage ended well and made a file of the kind."""
        return self.done and any(name in self.record["outputs"] for name in kind.split("_or_"))

    @property
    def results(self) -> dict[str, Any]:
        """What the stage returned."""
        return self.record.get("results", {})

    def output(self, kind: str) -> Path:
        """The file of a kind ("model", "scores", ...). Raises `DataError` when this run makes none."""
        outputs = self.record.get("outputs", {})
        if kind not in outputs:
            makes = ", ".join(outputs) or "nothing"
            raise DataError(f"run {self.name} ({self.record.get('verb')}) has no {kind}; it made {makes}")
        return self.path / outputs[kind]

    def save(self, **changes: Any) -> None:
        """Update the record on disk."""
        self.record |= changes
        write_json(self.path / RECORD, self.record)


@dataclass(frozen=True)
class Input:
    """A file that a stage reads: where, what identifies its content, and what a person calls it."""

    path: Path
    fingerprint: str
    name: str


def read_run(path: Path) -> Run | None:
    """The run in a folder, or None when there is none (or its record is damaged)."""
    try:
        return Run(path, json.loads((path / RECORD).read_text()))
    except (OSError, json.JSONDecodeError):
        return None


@dataclass(frozen=True)
class Workspace:
    """A folder with `data/` and `runs/`."""

    root: Path

    @property
    def runs_dir(self) -> Path:
        """Where stages write."""
        return self.root / "runs"

    def data_dir(self, name: str) -> Path:
        """Where the prepared set `name` lies; a path with a separator is taken as it is."""
        return Path(name) if "/" in name else self.root / "data" / name

    def prepared(self) -> list[str]:
        """The names of the prepared data sets."""
        return sorted(header.parent.name for header in (self.root / "data").glob(f"*/{HEADER}"))

    def find_data(self, name: str | None, choose: str = "--data NAME", partial: bool = False) -> Path:
        """The folder of a prepared set; without a name, of the only one.

        With `partial` a set is found too at whose end `prepare` was not content (videos were skipped). `choose` is how
        the command names a set. Raises `DataError` with the command that makes it, or with the names to choose from.
        """
        known = self.prepared()
        if name is None:
            if not known:
                raise DataError(f"{self.root / 'data'}: no prepared data; make it with: stmn prepare VIDEOS NAME")
            if len(known) > 1:
                raise DataError(f"several prepared data sets: {', '.join(known)}; choose one with {choose}")
            name = known[0]
        path = self.data_dir(name)
        if name not in known and (Path(name) / HEADER).exists():  # a folder's name without a separator
            path = Path(name)
        if not (path / HEADER).exists():
            raise DataError(
                f"{path}: no prepared data set{near_match(name, known)}; make it with: stmn prepare VIDEOS {name}"
            )
        run = read_run(path)
        if run is not None and not run.done:
            if run.record.get("status") == "failed":
                if partial:
                    return path
                raise DataError(f"{path}: is not ready: {run.record.get('error')}")
            if is_locked(path / "shards"):
                raise DataError(f"{path}: prepare is at work here; wait until it ends")
            raise DataError(f"{path}: prepare was interrupted; finish it with: stmn prepare (the same line again)")
        return path

    def runs(self) -> Iterator[Run]:
        """All runs, newest first."""
        found = [run for path in self.runs_dir.glob("*") if (run := read_run(path))]
        yield from sorted(found, key=lambda run: run.record.get("finished", 0), reverse=True)

    def new_run(self, label: str, fingerprint: str) -> Run:
        """The folder for a label and fingerprint, with the record that is there, if any."""
        path = self.runs_dir / f"{label}-{fingerprint[:8]}"
        return read_run(path) or Run(path)

    def newest(self, kind: str, **match: Any) -> Run | None:
        """The newest finished run that made `kind` and whose options equal `match`."""
        for run in self.runs():
            options = run.record.get("options", {})
            if run.makes(kind) and all(options.get(k) == v for k, v in match.items()):
                return run
        return None

    def find_input(self, value: str, kind: str) -> Input:
        """What an option names: a file, a run's folder, or a run's name (its beginning is enough; the newest wins).

        Raises `UsageError` when nothing fits.
        """
        path = Path(value)
        if path.is_file():
            return Input(path, file_digest(path), str(path))
        run = read_run(path) if path.is_dir() else None
        if run is None:
            run = next((run for run in self.runs() if run.name.startswith(value) and run.makes(kind)), None)
        if run is None:
            known = [run.name for run in self.runs() if run.makes(kind)]
            raise UsageError(
                f"'{value}': no such file, and no such finished run with {kind.replace('_', ' ')} in {self.runs_dir}"
                + near_match(value, known)
                + (f"; there are: {', '.join(known[:6])}" if known else "")
            )
        return as_input(run, kind)


def as_input(run: Run, kind: str) -> Input:
    """A run's output as another stage's input. Raises `DataError` when the run is unfinished."""
    if not run.done:
        raise DataError(f"run {run.name} is not finished (status: {run.record.get('status', 'not started')})")
    names = kind.split("_or_")  # the first that there is
    kind = next((name for name in names if name in run.record["outputs"]), names[0])
    return Input(run.output(kind), run.record["fingerprint"], run.name)


def now() -> float:
    """Seconds since the epoch, for records."""
    return round(time.time(), 3)
