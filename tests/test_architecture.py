"""The house keeps its order: imports point down, only the command line knows terminals, files are short."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "stmn").rglob("*.py"))


def lint_imports(folder: Path) -> subprocess.CompletedProcess:
    """Check the contracts of `pyproject.toml` on the `stmn` in a folder."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


def test_imports_point_one_way():
    pytest.importorskip("importlinter")
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(("module", "line", "broken"), [
    ("nets/units.py", "from stmn.stages import fuse", "stmn.nets is not allowed to import stmn.stages"),
    ("store/reader.py", "from stmn.nets import network", "stmn.store is not allowed to import stmn.nets"),
    ("training/loop.py", "from stmn.evaluation import metrics", "stmn.training is not allowed"),
    ("errors.py", "from stmn import registry", "stmn.errors is not allowed to import stmn.registry"),
    ("evaluation/metrics.py", "import rich", "stmn is not allowed to import rich"),
    ("registry/__init__.py", "import stmn", "stmn.registry is not allowed to import stmn.workspace"),
    ("newroom.py", "", "stmn.newroom"),
])  # fmt: skip
def test_import_that_points_up_is_found(module, line, broken, tmp_path):
    pytest.importorskip("importlinter")
    shutil.copytree(ROOT / "stmn", tmp_path / "stmn", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with open(tmp_path / "stmn" / module, "a") as file:
        file.write(f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode != 0
    assert broken in " ".join((done.stdout + done.stderr).split())


def test_few_rooms_know_each_other():
    """What a room imports is what its reader has to know; runtime and errors serve everyone."""
    grimp = pytest.importorskip("grimp")
    graph = grimp.build_graph("stmn")
    rooms = sorted(graph.find_children("stmn"))
    arrows = [
        (one, other)
        for one in rooms
        for other in rooms
        if one != other and graph.direct_import_exists(importer=one, imported=other, as_packages=True)
    ]
    assert len(rooms) > 20
    assert len(arrows) <= 128, "\n".join(f"{one} -> {other}" for one, other in arrows)


def test_every_file_fits_in_one_reading():
    long = {str(path): count for path in SOURCES if (count := len(path.read_text().splitlines())) > 500}
    assert long == {}


def test_stages_and_registry_are_imported_without_torch():
    code = (
        "import sys\nimport stmn, stmn.registry, stmn.nets.config, stmn.recipe.networks, stmn.recipe.chain\n"
        "[stmn.stages.find_stage(verb) for verb in stmn.stages.STAGES]\n"
        "sys.exit(', '.join({'torch', 'timm', 'av', 'sklearn', 'typer', 'rich'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), f"imported: {done.stderr}"


def test_ordinary_tests_see_no_gpu():
    """Results of the default suite don't depend on whether the machine has one; `make test-cuda` is for that."""
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    code = "import torch, sys; sys.exit(torch.cuda.device_count())"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
