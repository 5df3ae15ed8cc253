"""`stmn plugins new`: a package that is installed, checked and trained with as it is."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module

import pytest
from helpers.commands import STMN, call, errors_of
from helpers.packages import on_path

from stmn import registry
from stmn.testing import CHECKS


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow if k == "exporter" else ()) for k in registry.KINDS]
)
def test_new_package_keeps_its_contract(kind, tmp_path, monkeypatch):
    made = call("plugins", "new", "my-part", "--kind", kind, "--to", tmp_path)
    folder = tmp_path / "my-part"
    assert made.exit_code == 0 and made.stdout.splitlines() == [
        f"made {folder}; next:",
        f"  pip install -e {folder}",
        f"  python -m pytest {folder / 'tests'}",
        f"  stmn run {folder / 'recipe.toml'} --workspace toy",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my-part"]
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    [(name, where)] = project["entry-points"].pop(registry.KINDS[kind]).items()
    module, _, target = where.partition(":")
    assert (name, module, project["entry-points"]) == ("my_part", "my_part", {"stmn.api": {"1": "my_part"}})
    with on_path(tmp_path / "site", monkeypatch) as packages:
        packages.install("my_part", (folder / "my_part" / "__init__.py").read_text(), **{kind: {"my_part": target}})
        for data in folder.glob("my_part/*.safetensors"):
            shutil.copy(data, packages.folder)
        CHECKS[kind](getattr(import_module("my_part"), target))
        checked = call("recipes", "validate", folder / "recipe.toml")
        assert checked.exit_code == 0, checked.stderr
        used = re.search(r'= "my_part"', (folder / "recipe.toml").read_text())
        assert used and "my_part" in call("plugins", "show", "my_part").stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", registry.KINDS)
def test_recipe_of_a_new_package_runs(kind, tmp_path):
    """As a person does it: make it, install it into a folder of its own, test it, train with it."""
    package = f"my-{kind}"
    subprocess.run([STMN, "plugins", "new", package, "--kind", kind, "--to", tmp_path], check=True, capture_output=True)
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", site]
    subprocess.run([*install, tmp_path / package], check=True, capture_output=True)
    environment = os.environ | {"PYTHONPATH": str(site)}
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path / package / "tests"]
    assert subprocess.run(tests, env=environment, cwd=tmp_path, capture_output=True).returncode == 0
    command = [STMN, "run", tmp_path / package / "recipe.toml", "--workspace", tmp_path / "toy"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [model] = (tmp_path / "toy" / "runs").glob("fused-*/model.safetensors")
    assert model.stat().st_size > 0


@pytest.mark.parametrize(("arguments", "message"), [
    ("My_Gate --kind fusion", "My_Gate: can't be the name of a package; use lower-case letters"),
    ("../gate --kind fusion", "../gate: can't be the name of a package"),
    ("class --kind fusion", "class: can't be the name of a package"),
    ("multiply --kind fusion", "multiply: there is a fusion 'multiply' of stmn already; choose another name"),
    ("torch --kind fusion", "torch: there is a module 'torch' of another package or of Python's already"),
    ("my-gate --kind fussion", "--kind fussion: no such kind (did you mean 'fusion'?); backbone, fusion"),
    ("there --kind fusion", "there: exists already; choose another name, or --to another folder"),
    ("my-gate --kind fusion --to /proc", "/proc: can't be written: No such file or directory; choose another folder"),
    ("my-gate --kind fusion --to nowhere", "nowhere: no such folder; make it, or choose another one with --to"),
])  # fmt: skip
def test_nothing_is_made_under_an_unfit_name(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    refused = call("plugins", "new", *arguments.split())
    assert refused.exit_code == 2 and errors_of(refused)[0].startswith(message)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
