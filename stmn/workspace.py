"""The workspace: `data/` holds prepared sets, `runs/` the runs of stages.

A run's folder is named by a label and a fingerprint of everything that decides its result: options, inputs, data,
plugins, and the format of the stage. So no work is done twice, whichever recipe or command asks for it, and no result
overwrites another.
"""

import shlex
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from stmn.errors import DataError, UsageError, describe_mistake, near_match
from stmn.runtime.files import digest, file_digest
from stmn.runtime.hub import fetch_model, is_hub_name, pin_revision
from stmn.runtime.json_files import read_record, write_record
from stmn.runtime.locks import find_holder
from stmn.runtime.names import folder_name, has_slash
from stmn.runtime.notices import notice
from stmn.store.format.header import HEADER

_RECORD = "run.json"


class _Record(BaseModel):
    """The types of a record's entries; what a stage measured is in `results`."""

    model_config = ConfigDict(strict=True, extra="allow")

    verb: str = ""
    fingerprint: str = ""
    status: str = ""
    error: str = ""
    recipe: str = ""
    stage: str = ""
    stmn: str = ""
    started: float = 0.0
    finished: float = 0.0
    options: dict[str, Any] = {}
    given: dict[str, Any] = {}
    inputs: dict[str, list[str]] = {}
    data: dict[str, str] = {}
    plugins: list[dict[str, str]] = []
    outputs: dict[str, str] = {}
    digests: dict[str, str] = {}
    steps: dict[str, dict[str, str]] = {}
    results: dict[str, Any] = {}

    @field_validator("outputs", "digests")
    @classmethod
    def _stay_inside(cls, files: dict[str, str], info: Any) -> dict[str, str]:
        """Refuse files outside the folder of the run."""
        for name in files.values() if info.field_name == "outputs" else files:
            if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
                raise ValueError("names a file outside the folder")
        return files


@dataclass
class Run:
    """The folder of one run of a stage, and its record."""

    path: Path
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the folder: label and fingerprint."""
        return self.path.name

    @property
    def label(self) -> str:
        """Its name in messages: `test-fused (test-1a2b3c4d)` for the stage `test-fused` of a recipe."""
        stage = self.record.get("stage")
        return f"{stage} ({self.name})" if stage else self.name

    def matches_name(self, name: str) -> bool:
        """True if its name begins with `name`, or if `name` is its stage's id in a recipe."""
        return self.name.startswith(name) or self.record.get("stage") == name

    @property
    def done(self) -> bool:
        """True if the stage finished without an error."""
        return self.record.get("status") == "done" and "outputs" in self.record

    def makes(self, *kinds: str) -> bool:
        """True if the stage finished and made a file of one of the kinds ("model", "scores", "splits")."""
        return self.done and any(kind in self.record["outputs"] for kind in kinds)

    @property
    def results(self) -> dict[str, Any]:
        """The values that the stage returned."""
        results: dict[str, Any] = self.record.get("results", {})
        return results

    def output(self, kind: str) -> Path:
        """The file of a kind ("model", "scores", ...). Raises `DataError` if this run made none."""
        outputs: dict[str, str] = self.record.get("outputs", {})
        if kind not in outputs:
            makes = ", ".join(outputs) or "nothing"
            raise DataError(f"run {self.name} ({self.record.get('verb')}) has no {kind}; it made {makes}")
        return self.path / outputs[kind]

    def save(self, **changes: Any) -> None:
        """Update the record on disk."""
        self.record |= changes
        write_record(self.path / _RECORD, self.record)

    def digest_files(self, names: Iterable[str]) -> dict[str, str]:
        """Name -> digest, for files in the folder, and for folders in it (by the names and sizes of their files)."""
        return {name: _digest(self.path / name) for name in names}

    def find_change(self, only: str = "") -> str:
        """Find a file of a finished run that has changed: "scores.safetensors is missing"; empty if none has.

        Runs of older versions have no digests, so only missing files are found.

        Args:
            only: check only this file or folder.
        """
        files = dict.fromkeys(self.record.get("outputs", {}).values(), "") | self.record.get("digests", {})
        for name, written in files.items():
            if only not in ("", name):
                continue
            if not (self.path / name).exists():
                return f"{name} is missing"
            if written and _digest(self.path / name) != written:
                return f"{name} has changed since it was written"
        return "" if only else self._find_changed_step()

    def _find_changed_step(self) -> str:
        """Find an earlier step, run by this run, whose output has changed since; empty if there is none."""
        for name, digests in self.record.get("steps", {}).items():
            step = read_run(self.path.parent / PurePath(name).name)
            if step is not None and step.done and (step.record.get("digests") != digests or step.find_change()):
                return f"{name}, which it follows from, has changed"
        return ""

    def verified_output(self, kind: str) -> Path:
        """The file of a kind, after checking that it is unchanged since the stage wrote it.

        Raises:
            DataError: this run made none, or it is missing or has changed.
        """
        path = self.output(kind)
        written = self.record.get("digests", {}).get(self.record["outputs"][kind])
        if not path.exists():
            raise DataError(f"{path}: is missing; run its stage again ({self.record.get('verb')})")
        if written and _digest(path) != written:
            raise DataError(
                f"{path}: is not what its stage wrote (digest); run that stage again ({self.record.get('verb')})"
            )
        return path


@dataclass(frozen=True)
class Input:
    """A file that a stage reads.

    Attributes:
        path: where it is.
        fingerprint: identifies its content.
        name: the name of the run that made it, or its path.
        label: its name in messages: its stage's id in a recipe, if there is one, and the run.
    """

    path: Path
    fingerprint: str
    name: str
    label: str


def load_run(path: Path) -> Run | None:
    """The run in a folder, or None if there is none.

    Raises:
        DataError: its record can't be read or is damaged.
    """
    try:
        record = read_record(path / _RECORD)
        _Record.model_validate(record)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{path / _RECORD}: is damaged: {where} {describe_mistake(first)}") from error
    return Run(path, record)


def read_run(path: Path) -> Run | None:
    """The run in a folder; None if there is none or, with a notice, if its record is damaged."""
    try:
        return load_run(path)
    except DataError as error:
        notice(f"{error}; the run is left out: repeat its command, or delete the folder")
        return None


@dataclass(frozen=True)
class Workspace:
    """A folder with `data/` and `runs/`."""

    root: Path

    @property
    def runs_dir(self) -> Path:
        """The folder of runs."""
        return self.root / "runs"

    def command(self, *arguments: str, data: str | None = None, split: str | None = None) -> str:
        """A command line of `stmn` for a message, quoted so that it can be pasted.

        Args:
            arguments: the command and its arguments.
            data: the prepared set that it reads; named unless it is the only one.
            split: the split that it reads; named unless it is the default.
        """
        more = ["--data", data] if data and self.prepared() != [data] else []
        more += ["--split", split] if split not in (None, "1") else []
        more += ["--workspace", str(self.root)] if self.root != Path(".") else []
        return shlex.join(["stmn", *arguments, *more])

    def data_dir(self, name: str) -> Path:
        """The folder of the prepared set `name`; a path with a separator is returned as it is."""
        return Path(name) if has_slash(name) else self.root / "data" / name

    def prepared(self) -> list[str]:
        """The names of the prepared data sets."""
        return sorted(header.parent.name for header in (self.root / "data").glob(f"*/{HEADER}"))

    def find_data(self, name: str | None, choose: str = "--data NAME", partial: bool = False) -> Path:
        """The folder of a prepared set; if `name` is None, of the only one.

        Args:
            name: its name, or its folder.
            choose: how to choose a set, for the message that lists several.
            partial: also accept a set whose `prepare` failed because videos were skipped, or that lacks shards.

        Raises:
            DataError: there is no such set, or there are several; the message has the command that makes one, or the
                names.
        """
        known = self.prepared()
        if name is None:
            if not known:
                command = self.command("prepare", "VIDEOS", "NAME")
                raise DataError(f"{self.root / 'data'}: no prepared data; make it with: {command}")
            if len(known) > 1:
                raise DataError(f"several prepared data sets: {', '.join(known)}; choose one with {choose}")
            name = known[0]
        path = self.data_dir(name)
        if name not in known and (Path(name) / HEADER).exists():  # a folder's name without a separator
            path = Path(name)
        if not (path / HEADER).exists():
            how = f"; make it with: {self.command('prepare', 'VIDEOS', name)}" if not has_slash(name) else ""
            raise DataError(f"{path}: no prepared data set{near_match(name, known)}{how}")
        try:
            run = load_run(path)
        except DataError as error:
            raise DataError(f"{error}; repeat the stmn prepare command: what is prepared stays") from error
        if run is not None and not run.done:
            if run.record.get("status") == "failed":
                if partial:
                    return path
                raise DataError(f"{path}: is not ready: {run.record.get('error')}")
            if holder := find_holder(path):
                raise DataError(f"{path}: prepare is not finished: {holder}; wait until it ends")
            raise DataError(f"{path}: prepare was interrupted; finish it with the same stmn prepare command")
        if run is not None and not partial and (change := run.find_change("shards")):
            raise DataError(f"{path}: {change}; repeat the stmn prepare command, which adds what is missing")
        return path

    def fingerprint_of(self, data_dir: Path) -> str:
        """A fingerprint of the content of a prepared set."""
        from stmn.store.format.read import Store

        with Store(data_dir) as store:
            return store.fingerprint

    def runs(self) -> Iterator[Run]:
        """All runs, newest first."""
        found = [run for path in self.runs_dir.glob("*") if (run := read_run(path))]
        yield from sorted(found, key=lambda run: run.record.get("finished", 0), reverse=True)

    def new_run(self, label: str, fingerprint: str) -> Run:
        """The run with a label and fingerprint, with its record if it has one."""
        path = self.runs_dir / f"{folder_name(label)}-{fingerprint[:8]}"
        return read_run(path) or Run(path)

    def newest(self, kind: str, data: str | None = None, verb: str | None = None, **match: Any) -> Run | None:
        """The newest finished run that made a file of a kind.

        Args:
            kind: "model" or "scores".
            data: the name of the prepared set that it read; None for any.
            verb: the kind of its stage; None for any.
            match: values that its options must have.
        """
        for run in self.runs():
            options, read = run.record.get("options", {}), run.record.get("data", {}).get("name")
            fits = (
                data in (None, read)
                and verb in (None, run.record.get("verb"))
                and all(options.get(k) == v for k, v in match.items())
            )
            if fits and run.makes(kind):
                return run
        return None

    def find_model(self, value: str | Path) -> Path:
        """The model file that a user names.

        Args:
            value: A model file, a folder with a `model.safetensors`, a run's folder, the beginning of a run's name (the
                newest match wins), or a name on the hub, `hf://user/name`.

        Raises:
            UsageError: There is no such model.
            DataError: The run is unfinished or made no model, or the hub can't be reached.
        """
        if is_hub_name(str(value)):
            return fetch_model(str(value))
        path = Path(value)
        if path.is_file():
            return path
        if not (path / _RECORD).is_file() and (path / "model.safetensors").is_file():
            return path / "model.safetensors"
        return self.find_input(str(value), "model").path

    def find_input(self, value: str, *kinds: str) -> Input:
        """The file that an option names: by its path, by a run or its folder, or by a name on the hub.

        A run is named by the beginning of its name, or by its stage's id in a recipe; the newest match wins.

        Args:
            kinds: the kinds of output that will do, the preferred first.

        Raises:
            UsageError: nothing fits.
            DataError: the run is unfinished, or made nothing of these kinds; or the hub can't be reached.
        """
        if is_hub_name(value):
            if "model" not in kinds:
                raise UsageError(f"{value}: is a model on the hub, and {' or '.join(kinds)} are needed here")
            path = fetch_model(value)
            return Input(path, file_digest(path), pin_revision(value, path), value)
        path = Path(value)
        if path.is_file():
            return Input(path, file_digest(path), str(path), str(path))
        run = read_run(path) if path.is_dir() else None
        if run is None:
            run = next((run for run in self.runs() if run.matches_name(value) and run.makes(*kinds)), None)
        if run is None:
            known = [run.name for run in self.runs() if run.makes(*kinds)]
            raise UsageError(
                f"'{value}': no such file, and no finished run with {' or '.join(kinds)} in {self.runs_dir}"
                + near_match(value, known)
                + (f"; there are: {', '.join(known[:6])}" if known else "")
            )
        return as_input(run, *kinds)


def as_input(run: Run, *kinds: str) -> Input:
    """A run's output as another stage's input: the first of `kinds` that it made.

    Raises:
        DataError: the run is unfinished, or made nothing of these kinds.
    """
    if not run.done:
        holder = find_holder(run.path)
        status = f": {holder}" if holder else f" (status: {run.record.get('status', 'not started')})"
        raise DataError(f"run {run.name} is not finished{status}")
    kind = next((kind for kind in kinds if kind in run.record["outputs"]), kinds[0])
    return Input(run.verified_output(kind), run.record["fingerprint"], run.name, run.label)


def _digest(path: Path) -> str:
    """The digest of a file, or of the names and sizes of a folder's files, which have checksums of their own."""
    if path.is_dir():
        return digest(sorted([file.name, file.stat().st_size] for file in path.glob("*.sqlite")))
    return file_digest(path)


def now() -> float:
    """Seconds since the epoch, for records."""
    return round(time.time(), 3)
