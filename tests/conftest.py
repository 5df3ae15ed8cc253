"""What tests share: a prepared synthetic set and models trained for a few steps, made once for all worker processes."""

import gc
import os
import shutil
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `stmn` does; before torch is imported
# On networks this small a second thread costs more than it gives, here and in every process that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from filelock import FileLock

from stmn.options import options_of
from stmn.options.base import build_options
from stmn.recipe.execute import execute
from stmn.recipe.plan import plan_stage
from stmn.runtime.progress import Silent
from stmn.workspace import Run, Workspace

CHECKOUT = Path(__file__).parents[1]

TINY_TRAINING = {
    "batch": 8, "micro_batch": 8, "steps": 3, "lr": 0.05, "schedule": "cosine", "validation": 0.0, "seed": 1,
}  # fmt: skip


def run_stage(workspace: Workspace, verb: str, **options: object) -> Run:
    """Run a stage as the command line would."""
    chosen = build_options(options_of(verb), options, verb)
    return execute(plan_stage(verb, chosen, workspace), workspace, Silent())


def train_tiny(workspace: Workspace, modality: str, **options: object) -> Run:
    """A quarter-width ResNet-18, trained for a few steps on 32-pixel crops."""
    values = TINY_TRAINING | {"modality": modality, "arch": "resnet18", "width": 0.25, "weights": "none", "size": 32}
    return run_stage(workspace, "train-stream", **(values | options))


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` with what `make` puts there. The first of the test processes makes it, the others wait."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # the folder of all workers
    folder, complete = base / name, base / f"{name}.complete"
    with FileLock(base / f"{name}.lock"):
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            complete.touch()
    return folder


def pytest_collection_finish() -> None:
    """Spare Python's garbage collector what stays: it would look at all tests again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)  # after the fixtures of the file are gone
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """The same after each file, for what its tests have imported and kept."""
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs from all tests but those marked `cuda`, and from every process that they start."""
    chosen = config.option.markexpr
    if "cuda" not in chosen or "not cuda" in chosen:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before anything asks CUDA, which looks only once


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that needs more GPUs than there are."""
    mark = item.get_closest_marker("cuda")
    if mark is None:
        return
    import torch

    needed, found = mark.kwargs.get("gpus", 1), torch.cuda.device_count()
    if found < needed:
        pytest.skip(f"needs {needed} CUDA device{'s' * (needed > 1)}, and this run sees {found or 'none'}")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a prepared synthetic set (24 train, 12 test videos); tests only read it."""

    def make(folder: Path) -> None:
        size = {"train": 24, "test": 12}
        run_stage(Workspace(folder), "prepare", dataset="synthetic", dataset_options=size, short_side=40, bound=5.0)

    return Workspace(made_once(tmp_path_factory, "prepared", make))


@pytest.fixture(scope="session")
def trained(prepared: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with both streams and the fused network trained for a few steps, and all tested; only read."""

    def make(folder: Path) -> None:
        workspace = Workspace(folder)
        shutil.copytree(prepared.root / "data", workspace.root / "data")
        train_tiny(workspace, "rgb")
        train_tiny(workspace, "flow")
        run_stage(workspace, "fuse", chunks=2, stride_min=1, stride_max=2, **TINY_TRAINING)
        for name in ("appearance", "motion", "fused"):
            run_stage(workspace, "evaluate", model=name)

    return Workspace(made_once(tmp_path_factory, "trained", make))


@pytest.fixture(scope="session")
def shipped(trained: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The trained workspace with exports: the fused network to ONNX, the appearance stream to all else; only read."""

    def make(folder: Path) -> None:
        shutil.copytree(trained.root, folder, dirs_exist_ok=True)
        run_stage(Workspace(folder), "export", model="fused", licence="CC BY 4.0")
        for name in ("pt2", "openvino", "safetensors"):
            run_stage(Workspace(folder), "export", model="appearance", format=name)

    return Workspace(made_once(tmp_path_factory, "shipped", make))


@pytest.fixture(scope="session")
def exported(shipped: Workspace) -> dict[str, Path]:
    """The exported files of `shipped` by format."""
    runs = [run for run in shipped.runs() if run.record["verb"] == "export"]
    return {run.record["options"].get("format", "onnx"): run.output("export") for run in runs}


@pytest.fixture(scope="session")
def onnx_file(exported: dict[str, Path]) -> Path:
    """The ONNX file of `shipped`."""
    return exported["onnx"]


@pytest.fixture
def scratch(prepared: Workspace, tmp_path: Path) -> Workspace:
    """A workspace of the test's own with the prepared set in it."""
    shutil.copytree(prepared.root / "data", tmp_path / "work" / "data")
    return Workspace(tmp_path / "work")


@pytest.fixture
def own(trained: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the trained workspace, to write in."""
    shutil.copytree(trained.root, tmp_path / "own")
    return Workspace(tmp_path / "own")


@pytest.fixture(scope="session")
def paper_pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of a set as large as UCF101, which take seconds to draw.

    `report`: of appearance, motion, late fusion and a gated network; `compare`: of the latter two.
    """
    from helpers.commands import call
    from helpers.paper_sized import drawn_scores, paper_sized

    def make(root: Path) -> None:
        workspace, scores = paper_sized(root / "work"), drawn_scores(root / "scores")
        files = ",".join(map(str, scores.values()))
        made = call("report", "-w", workspace.root, "--data", "big", "--evaluations", files, "--samples", 5)
        assert made.exit_code == 0, made.stderr
        page = root / "compare.html"
        compared = call("compare", scores["late"], scores["fused"], "-w", workspace.root, "--page", page)
        assert compared.exit_code == 0, compared.stderr

    root = made_once(tmp_path_factory, "pages", make)
    [report] = root.glob("work/runs/report-*/report.html")
    return {"report": report, "compare": root / "compare.html"}


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real clips, splits and flow ground truth: `$STMN_SHARED_DATA`, or `shared/data` beside the checkout."""
    folder = Path(os.environ.get("STMN_SHARED_DATA") or CHECKOUT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real clips: {folder} does not exist; set STMN_SHARED_DATA to their folder")
    return folder
