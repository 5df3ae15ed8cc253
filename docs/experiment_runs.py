"""Which experiments there are, and their runs, several at once: the part of make_experiments.py that runs `stmn`."""

import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gate_rows import measure_gates

from stmn.errors import count_of
from stmn.report.sources import RunGraph
from stmn.report.words import format_duration
from stmn.workspace import Run, Workspace

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "recipes" / "experiments"
#: the recipe for clips of one's own, which is an experiment on those that are here
SMALL = ROOT / "recipes" / "small.toml"
#: starting weights that it is also run with, in a package of this repository: a file for each modality
WEIGHTS = {"formula": ROOT / "plugins" / "stmn-formula" / "stmn_formula"}
#: data sets that render their videos
RENDERED = ("synthetic", "formula")
#: folders of real clips
CLIPS = ("ut_interaction", "weizmann")
#: seconds that the runs may take together
LIMIT, QUICK_LIMIT = 4 * 3600, 20 * 60
#: of the steps of a training, the part that a quick run makes; and of rendered videos, the part that it renders
QUICK_STEPS, QUICK_VIDEOS = 20, 5
#: chunks per video that a quick run tests
QUICK_CHUNKS = 4
#: what was run when: a file of the workspace
STATE = "experiments.json"


@dataclass(frozen=True)
class Experiment:
    """An experiment.

    Attributes:
        path: its recipe.
        recipe: what the file holds.
        title: the title of its section.
        prose: what it asks.
        clips: the real clips that it is run on; empty if its videos are rendered.
        weights: the starting weights of its streams, one of `WEIGHTS`; empty for those of the recipe.
    """

    path: Path
    recipe: dict[str, Any]
    title: str
    prose: str
    clips: str = ""
    weights: str = ""

    @property
    def name(self) -> str:
        """The recipe's name, which the records of its runs have: `small`, or `small_formula` with these weights."""
        return "_".join(filter(None, [str(self.recipe["recipe"]["name"]), self.weights]))

    @property
    def source(self) -> str:
        """Its recipe in words."""
        return f"`{self.path.name}`" + (f", streams from the weights of `stmn-{self.weights}`" if self.weights else "")

    @property
    def files(self) -> list[Path]:
        """What decides its results, beside the code: its recipe, and the starting weights."""
        return [self.path, *(sorted(WEIGHTS[self.weights].glob("*.safetensors")) if self.weights else ())]

    @property
    def column(self) -> str:
        """What the table of real clips calls it."""
        return f"{self.data} from {self.weights} weights" if self.weights else self.data

    @property
    def key(self) -> str:
        """`which_moves`, or `small on weizmann`."""
        return f"{self.name} on {self.clips}" if self.clips else self.name

    @property
    def data(self) -> str:
        """The prepared set."""
        return self.clips or str(self.recipe["recipe"].get("data", ""))

    @property
    def renders(self) -> bool:
        """True if its videos are rendered, so that no folder of clips is needed."""
        return not self.clips

    @property
    def compares_methods(self) -> bool:
        """True for real clips whose sweep varies seeds and splits alone: no options, as an ablation does."""
        return not self.renders and set(self.recipe.get("sweep", {})) <= {"seed", "split", "against"}


def list_experiments(folder: Path = FOLDER, clips: Sequence[str] = CLIPS) -> list[Experiment]:
    """The experiments of a folder by file name, before them that of the recipe for one's own clips.

    A recipe is run from each kind of starting weights that it has words for: `NAME.md`, `NAME_formula.md`.

    Args:
        folder: the folder of the recipes.
        clips: the sets of real clips.
    """
    found = []
    files = sorted(folder.glob("*.toml"))
    files = [SMALL, *files] if folder == FOLDER and SMALL.exists() else files

    def words_of(path: Path, weights: str) -> Path:
        return folder / f"{'_'.join(filter(None, [path.stem, weights]))}.md"

    def list_starts(path: Path) -> list[str]:
        """The starting weights that it has words for."""
        return [weights for weights in ("", *WEIGHTS) if words_of(path, weights).exists()] or [""]

    for path, weights in [(file, weights) for file in files for weights in list_starts(file)]:
        recipe = tomllib.loads(path.read_text(encoding="utf-8"))
        words = words_of(path, weights)
        text = words.read_text(encoding="utf-8").strip() if words.exists() else ""
        title, _, prose = text.partition("\n") if text.startswith("# ") else ("", "", text)
        title = title.removeprefix("# ") or str(recipe["recipe"].get("about") or path.stem)
        rendered = any(stage.get("dataset") in RENDERED for stage in recipe.get("stage", []))
        sets = [""] if rendered else clips
        found += [
            Experiment(path, recipe, f"{title}: {name}" if name else title, prose.strip(), name, weights)
            for name in sets
        ]
    return found


class Runner:
    """Runs experiments, several at once; those on one set of videos one after the other, as they share its streams.

    Args:
        workspace: folder of the runs.
        data: folder with a folder of clips for each real data set.
        quick: one seed, two folds, a twentieth of the steps.
        jobs: experiments that run at once. With more than one, what each prints is in `workspace/logs/`.
    """

    def __init__(self, workspace: Path, data: Path, quick: bool, jobs: int) -> None:
        self.workspace, self.data, self.quick, self.jobs = workspace, data, quick, jobs
        self.end = time.time() + (QUICK_LIMIT if quick else LIMIT)
        self.failed: list[str] = []
        self._stopping = threading.Event()
        self._noting = threading.Lock()

    def run(self, experiments: Sequence[Experiment]) -> list[str]:
        """Run experiments within the time limit; the names of those that failed."""
        self.workspace.mkdir(parents=True, exist_ok=True)
        chains: dict[str, list[Experiment]] = {}
        for experiment in experiments:
            chains.setdefault(experiment.data, []).append(experiment)
        with ThreadPoolExecutor(self.jobs) as pool:
            running = [pool.submit(self._run_chain, chain) for chain in chains.values()]
            try:
                for one in running:
                    one.result()
            except KeyboardInterrupt:  # the commands were interrupted too, and end by themselves
                self._stopping.set()
                raise
        return self.failed

    def _run_chain(self, chain: Sequence[Experiment]) -> None:
        """Run the experiments on one set of videos."""
        for experiment in chain:
            if self._stopping.is_set():
                return
            if time.time() >= self.end:
                print(f"{experiment.key}: not run: the time is over; run the same command again")
                continue
            self._run_one(experiment)

    def _run_one(self, experiment: Experiment) -> None:
        """Run one experiment, and look inside its gates."""
        clips = self.data / experiment.clips
        clips = clips / "videos" if (clips / "videos").is_dir() else clips
        if not experiment.renders and not clips.is_dir():
            print(f"{experiment.key}: not run: no folder of clips {clips}; give its parent with --data")
            return
        command = [sys.executable, "-m", "stmn", "run", str(experiment.path), "--workspace", str(self.workspace)]
        command += [word for change in list_changes(experiment, self.quick) for word in ("--set", change)]
        command += [] if experiment.renders else ["--data-root", str(clips), "--data", experiment.clips]
        print(f"{experiment.key}: {' '.join(command[1:])}", flush=True)
        started = time.time()
        code = self._call(command, experiment.key)
        with self._noting:
            _note(self.workspace, experiment.key, started)
        if code == 0 and experiment.renders:
            workspace = Workspace(self.workspace)
            graph = RunGraph(workspace.runs())
            if table := find_table(graph, experiment):
                measure_gates(table, graph, workspace)
        if code is None:
            print(f"{experiment.key}: stopped: the time is over; run the same command again")
        elif code:
            print(f"{experiment.key}: failed")
            self.failed.append(experiment.key)
        else:
            print(f"{experiment.key}: done in {format_duration(time.time() - started)}", flush=True)

    def _call(self, command: list[str], name: str) -> int | None:
        """Run a command until the time is over, and then interrupt it as Ctrl-C does; its exit code, or None."""
        log: IO[bytes] | None = None
        threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, count_cores() // self.jobs))
        if self.jobs > 1:
            path = self.workspace / "logs" / f"{name}.log"
            path.parent.mkdir(exist_ok=True)
            log = path.open("ab")
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": threads})
        try:
            return process.wait(max(1.0, self.end - time.time()))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait()
            return None
        finally:
            if log is not None:
                log.close()


def count_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def list_changes(experiment: Experiment, quick: bool) -> list[str]:
    """What `stmn run --set` changes in its recipe: starting weights, and for a quick run whatever takes time.

    A quick one has the first of its seeds, two of its folds, and fewer steps, rendered videos and chunks per test.
    """
    stages, sweep = experiment.recipe["stage"], experiment.recipe.get("sweep", {})
    found = []
    if experiment.weights:
        found = [f"recipe.name={experiment.name}"]
        folder = WEIGHTS[experiment.weights]
        found += [f"{one['id']}.weights={folder / one['modality']}.safetensors" for one in stages if "modality" in one]
    if not quick:
        return found
    found += [f"sweep.seed=[{sweep['seed'][0]}]"] if "seed" in sweep else []
    found += ['sweep.split=["1", "2"]'] if sweep.get("split") == "all" else []
    for stage in stages:
        name = stage["id"]
        if "steps" in stage:
            found.append(f"{name}.steps={max(2, stage['steps'] // QUICK_STEPS)}")
        if stage["uses"] == "evaluate" and "model" in stage:
            found += [f"{name}.chunks={QUICK_CHUNKS}", f"{name}.flips=false"]
        rendered = stage.get("dataset_options", {}) if stage.get("dataset") in RENDERED else {}
        counts = ((part, rendered[part]) for part in ("train", "test") if part in rendered)
        found += [f"{name}.dataset_options.{part}={count // QUICK_VIDEOS}" for part, count in counts]
    return found


def _note(workspace: Path, name: str, started: float) -> None:
    """Note commit and machine of what was made since a time, if anything was."""
    if not any(run.done and run.record.get("finished", 0) >= started for run in Workspace(workspace).runs()):
        return
    state = read_state(workspace)
    commits = state.setdefault(name, {}).setdefault("commits", [])
    if (commit := _find_commit()) not in commits:
        commits.append(commit)
    state[name]["machine"] = _describe_machine()
    (workspace / STATE).write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")


def read_state(workspace: Path) -> dict[str, Any]:
    """What was noted of each experiment."""
    path = workspace / STATE
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def _find_commit() -> str:
    """The commit that is checked out; with a plus if files of it have changed."""

    def ask(*arguments: str) -> str:
        return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True).stdout.strip()

    commit = ask("rev-parse", "--short=10", "HEAD") or "unknown"
    return commit + (
        "+" if ask("status", "--porcelain", "--untracked-files=no", "--", "stmn", "recipes", "plugins") else ""
    )


def _describe_machine() -> str:
    """`2 cores, x86_64, Intel Xeon, Linux`."""
    cpu = Path("/proc/cpuinfo")
    models = re.findall(r"(?m)^model name\s*: (.+)$", cpu.read_text()) if cpu.exists() else []
    return ", ".join([count_of(count_cores(), "core"), platform.machine(), *models[:1], platform.system()])


def find_table(graph: RunGraph, experiment: Experiment) -> Run | None:
    """The newest finished table of an experiment."""
    for run in graph.runs:
        made = run.done and run.record.get("verb") == "table" and run.record.get("recipe") == experiment.name
        if made and experiment.data in ("", run.results["data"]):
            return run
    return None
