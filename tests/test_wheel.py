"""What `pip install` installs: the wheel, in a fresh environment, used outside the checkout."""

import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from helpers.commands import write_recipe

from stmn.runtime.kernel_files import list_levels

CHECKOUT = Path(__file__).parents[1]

SATISFIED = """
import json, stmn
from importlib.metadata import distribution, entry_points
from packaging.requirements import Requirement
from importlib.metadata import version
own = distribution("stmn")
core = [Requirement(line) for line in own.requires if "extra ==" not in line]
print(json.dumps({
    "file": stmn.__file__,
    "unmet": [str(r) for r in core if version(r.name) not in r.specifier],
    "core": [r.name for r in core],
    "where": str(own.locate_file("")),
    "fusions": sorted(e.name for e in entry_points(group="stmn.fusions") if e.dist.name == "stmn"),
}))
"""

#: what says why there is no kernel
KERNELS = [
    ("stmn.flow.kernels", "kernel_problem"), ("stmn.flow.polynomial", "kernel_problem"),
    ("stmn.sampling.resample", "kernel_problem"), ("stmn.nets.fast.winograd", "problem"),
    ("stmn.idt.trajectories._camera_c", "problem"), ("stmn.idt.trajectories._histograms_c", "problem"),
    ("stmn.idt.trajectories._steps_c", "problem"),
]  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(CHECKOUT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return next(out.glob("stmn-*.whl"))


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment with the wheel in it. It borrows torch and the rest from the running one.

    Downloading them again would take minutes and gigabytes. That all of them are declared is asserted below.
    """
    folder = tmp_path_factory.mktemp("fresh") / "environment with a blank"
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    subprocess.run(
        [programs / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "borrowed.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("-packages")))
    return programs


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program outside the checkout, without this process's Python variables."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, cwd=cwd, env=environment, timeout=300
    )


def test_wheel_contains_the_files_that_are_not_python(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    recipes = {f"stmn/{path.relative_to(CHECKOUT).as_posix()}" for path in (CHECKOUT / "recipes").rglob("*.toml")}
    kernel = {
        path.relative_to(CHECKOUT).as_posix()
        for path in CHECKOUT.glob("stmn/**/kernel/*")
        if path.suffix in (".c", ".h", ".toml")
    }
    assert recipes and kernel
    assert "stmn/py.typed" in names
    assert "stmn/cli/plugin_templates/fusion.py.template" in names
    assert names >= recipes | kernel | {f"stmn/report/templates/{page}.html.jinja" for page in ("report", "compare")}
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "plugins/"))]


def test_wheel_is_what_runs_and_declares_its_imports(fresh, tmp_path):
    answer = run(fresh / "python", "-c", SATISFIED, cwd=tmp_path)
    found = json.loads(answer.stdout)
    assert Path(found["file"]).is_relative_to(fresh.parent)
    assert Path(found["where"]).is_relative_to(fresh.parent)
    assert found["unmet"] == []
    assert found["fusions"] == ["add", "blended_multiply", "multiply", "none"]
    imported = {
        "torch", "torchvision", "timm", "av", "typer", "rich", "pydantic", "pydantic-settings", "safetensors", "numpy",
        "scipy", "scikit-learn", "pillow", "simplejpeg",
    }  # fmt: skip
    assert imported <= set(found["core"])


def test_help_and_recipes_work_from_the_wheel(fresh, tmp_path):
    assert "train-stream" in run(fresh / "stmn", "--help", cwd=tmp_path).stdout
    rows = run(fresh / "stmn", "recipes", "list", cwd=tmp_path).stdout.splitlines()
    names = [row.split()[0] for row in rows]
    folder = CHECKOUT / "recipes"
    assert sorted(names) == sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.toml"))
    shown = run(fresh / "stmn", "recipes", "show", "recipes/final.toml", cwd=tmp_path).stdout
    assert shown == (CHECKOUT / "recipes/final.toml").read_text()
    table = run(fresh / "stmn", "recipes", "show", "tables/table2_ucf101", cwd=tmp_path).stdout
    assert table == (CHECKOUT / "recipes/tables/table2_ucf101.toml").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not list_levels(), reason="no wheel brings kernels for this CPU")
def test_wheel_with_kernels_needs_no_compiler(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(CHECKOUT)]
    environment = os.environ | {"STMN_BUILD_KERNELS": "1"}
    subprocess.run(command, check=True, capture_output=True, timeout=300, env=environment)
    [wheel] = tmp_path.glob("stmn-*.whl")
    assert re.fullmatch(
        r"stmn-[\d.]+-py3-none-(linux|macosx|win).*\.whl", wheel.name
    )  # for every Python, on one platform
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = {"PYTHONPATH": str(tmp_path / "site"), "CC": "no-such-compiler", "XDG_CACHE_HOME": str(tmp_path)}
    code = "; ".join(f"from {module} import {name}; print({name}())" for module, name in KERNELS)
    asked = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=os.environ | environment
    )
    assert asked.stdout.split() == ["None"] * len(KERNELS), asked.stderr  # there is no problem


@pytest.mark.slow
def test_toy_recipe_runs_from_the_wheel(fresh, tmp_path):
    tiny = 'uses = "train-stream"\narch = "resnet18"\nwidth = 0.125\nsize = 32\nweights = "none"\nbatch = 4\nsteps = 2\nschedule = "cosine"\nvalidation = 0.0\n'
    recipe = write_recipe(
        tmp_path / "toy.toml", 'name = "toy"\ndata = "toy"',
        'id = "videos"\nuses = "prepare"\ndataset = "synthetic"\ndataset_options = { train = 8, test = 4 }\nshort_side = 36\nbound = 5.0',
        f'id = "appearance"\n{tiny}modality = "rgb"',
        f'id = "motion"\n{tiny}modality = "flow"',
        'id = "fused"\nuses = "fuse"\nappearance = "appearance"\nmotion = "motion"\nbatch = 4\nsteps = 2\nchunks = 2\nvalidation = 0.0',
        'id = "test"\nuses = "evaluate"\nmodel = "fused"',
    )  # fmt: skip
    answer = run(fresh / "stmn", "run", recipe, "-w", tmp_path / "work space", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "Accuracy on 4 test videos" in answer.stdout
    model = next((tmp_path / "work space" / "runs").glob("fused-multiply-*/model.safetensors"))
    video = next((tmp_path / "work space" / "data" / "toy" / "videos" / "test").glob("*.mp4"))
    code = "import stmn, sys; print(stmn.load(sys.argv[1]).predict(sys.argv[2])[0])"
    predicted = run(fresh / "python", "-c", code, model, video, cwd=tmp_path)
    assert predicted.stdout.startswith("ClassScore(class_name='"), predicted.stderr
