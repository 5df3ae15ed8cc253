"""Where attacks happen: a workspace that a small chain made, files outside it that must not change, and attempts.

An attempt is one command of `stmn` in a process forked from this one, so that nothing is imported again. It leads a
session of its own, which is killed when the time is over, and may hold only so much memory.
"""

import contextlib
import hashlib
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import av
import numpy as np
from numpy.typing import NDArray

Result = TypeVar("Result")
#: data that an attempt may hold beyond what this process holds, in bytes
MEMORY = 3 << 30
#: seconds after which an attempt hangs
PATIENCE = 120.0
#: where kernels that are compiled already are
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
#: what a class of the small set does: pixels per frame, to the right and down
MOTIONS = {"down": (0, 2), "left": (-2, 0), "right": (2, 0)}
NETWORK = (
    'uses = "train-stream"\narch = "resnet18"\nwidth = 0.125\nsize = 32\nweights = "none"\nbatch = 4\n'
    'schedule = "cosine"\nvalidation = 0.0\nsteps = 12\ncheckpoint_minutes = 0.0001'
)
#: eleven stages, of every kind
CHAIN = f"""
[recipe]
name = "chain"
data = "films"
seed = 3
[[stage]]
id = "videos"
uses = "prepare"
videos = "videos"
short_side = 64
[[stage]]
id = "appearance"
{NETWORK}
modality = "rgb"
[[stage]]
id = "motion"
{NETWORK}
modality = "flow"
[[stage]]
id = "fused"
uses = "fuse"
appearance = "appearance"
motion = "motion"
chunks = 2
batch = 4
steps = 12
validation = 0.0
checkpoint_minutes = 0.0001
[[stage]]
id = "test-motion"
uses = "evaluate"
model = "motion"
[[stage]]
id = "test-fused"
uses = "evaluate"
model = "fused"
[[stage]]
id = "test-late"
uses = "evaluate"
late_fusion = ["appearance", "motion"]
[[stage]]
id = "tracks"
uses = "idt-score"
gaussians = 2
[[stage]]
id = "with-tracks"
uses = "fuse-idt"
scores = "test-fused"
idt_scores = "tracks"
[[stage]]
id = "onnx"
uses = "export"
model = "motion"
format = "onnx"
[[stage]]
id = "page"
uses = "report"
evaluations = ["test-motion", "test-fused", "test-late", "with-tracks"]
"""


@dataclass(frozen=True)
class Answer:
    """What an attempt gave.

    Attributes:
        code: exit code; negative for a signal.
        out: its standard output.
        err: its standard error.
        seconds: how long it took.
        hung: True if it was stopped because its time was over.
        outside: files outside the workspace that it changed, made or removed.
    """

    code: int
    out: str
    err: str
    seconds: float
    hung: bool = False
    outside: tuple[str, ...] = ()


@dataclass
class Arena:
    """A folder with `work/` (the workspace), `videos/`, `chain.toml`, and `outside/`, which no attempt may change."""

    root: Path

    @property
    def work(self) -> Path:
        """The workspace."""
        return self.root / "work"

    @property
    def outside(self) -> Path:
        """Files of somebody else; also the home folder of attempts."""
        return self.root / "outside"

    @property
    def chain(self) -> Path:
        """The recipe."""
        return self.root / "recipe" / "chain.toml"

    def copy(self, root: Path) -> "Arena":
        """The same arena in another place, in place of what is there."""
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.root, root, symlinks=True)
        return Arena(root)

    def attempt(self, *arguments: object, patience: float = PATIENCE) -> Answer:
        """Run `stmn` with these arguments, in the arena's folder, and see what comes of it."""
        before = digest_files(self.outside)
        started = time.monotonic()
        child = self.start(*arguments)
        hung = False
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() - started > patience:
                hung = True
                end_session(child)
                ended = os.waitpid(child, 0)
                break
            time.sleep(0.005)
        end_session(child)
        seconds = time.monotonic() - started
        after = digest_files(self.outside)
        changed = tuple(sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)))
        out, err = ((self.root / name).read_text(errors="surrogateescape") for name in (f"{child}.out", f"{child}.err"))
        for name in (f"{child}.out", f"{child}.err"):
            (self.root / name).unlink()
        return Answer(os.waitstatus_to_exitcode(ended[1]), out, err, seconds, hung, changed)

    def start(self, *arguments: object) -> int:
        """Fork a process that runs `stmn`, with its output in `PID.out` and `PID.err`; return its process id."""
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for number, name in ((1, f"{os.getpid()}.out"), (2, f"{os.getpid()}.err")):
                os.dup2(os.open(self.root / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.chdir(self.root)
            os.environ |= {"HOME": str(self.outside), "XDG_CACHE_HOME": str(CACHE), "COLUMNS": "300"}
            held = int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]) * 1024
            resource.setrlimit(resource.RLIMIT_DATA, (held + MEMORY, held + MEMORY))
            sys.argv = ["stmn", *map(str, arguments)]
            sys.modules["__main__"] = ModuleType("__main__")  # else workers would import the benchmark
            code = run_here()
        except BaseException:  # as the interpreter does
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def run_here() -> int:
    """Run `stmn` in this process with `sys.argv`; return its exit code."""
    from stmn.cli.main import main

    try:
        main()
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
            return 1
        return leaving.code or 0
    return 0


def end_session(leader: int) -> None:
    """Kill what is left of a session: the command, its workers, and their server."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def import_all() -> None:
    """Import what commands need, so that attempts start at once."""
    import pkgutil
    from importlib import import_module

    import stmn

    for module in pkgutil.walk_packages(stmn.__path__, "stmn."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    for name in ("cv2", "onnx", "onnxruntime", "sklearn.svm", "sklearn.mixture", "sklearn.decomposition", "plotly"):
        with contextlib.suppress(ImportError):
            import_module(name)


def make_arena(root: Path) -> Arena:
    """Render the videos, run the chain, and lay out what is outside.

    Raises:
        RuntimeError: the chain failed.
    """
    arena = Arena(root)
    for folder in (arena.outside, arena.chain.parent, arena.work):
        folder.mkdir(parents=True)
    for name, content in (("run.json", "{}"), ("secret.txt", "a secret"), ("model.safetensors", "mine")):
        (arena.outside / name).write_text(content)
    arena.chain.write_text(CHAIN)
    for label, motion in MOTIONS.items():
        for number in range(5):
            part = "test" if number > 2 else "train"
            write_film(root / "videos" / part / label / f"{number}.mp4", motion, 10 * number + len(label))
    answer = arena.attempt("run", arena.chain, "-w", arena.work, patience=600)
    if answer.code:
        raise RuntimeError(f"the chain failed: {answer.err}")
    return arena


def write_film(path: Path, motion: tuple[int, int], seed: int, frames: int = 22) -> None:
    """A square with a texture that moves before one that stands still, 64 x 64 pixels, MPEG-4 part 2."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for picture in draw_scene(motion, seed, frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def draw_scene(motion: tuple[int, int], seed: int, frames: int) -> list[NDArray[np.uint8]]:
    """The pictures of a film."""
    draws = np.random.default_rng(seed)
    behind = np.kron(draws.integers(60, 200, (16, 16, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    square = np.kron(draws.integers(0, 256, (6, 6, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    pictures = []
    for t in range(frames):
        left, top = (20 + np.array(motion) * (t - frames // 2) * 16 // frames).tolist()
        picture = behind.copy()
        picture[top : top + 24, left : left + 24] = square
        pictures.append(picture)
    return pictures


def digest_files(folder: Path) -> dict[str, str]:
    """What every file in a folder holds, by its path in the folder; a link counts as its target's name."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def in_processes(work: Callable[[Any], Result], tasks: Sequence[Any], workers: int) -> list[Result]:
    """What `work` gives for each task, in order, by forked processes."""
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        return list(pool.map(work, tasks))
