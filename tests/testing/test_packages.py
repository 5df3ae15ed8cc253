"""The packages in `plugins/` need the contract alone; each is installed, checked and trained with."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from helpers.commands import STMN
from helpers.packages import on_path

from stmn import registry
from stmn.nets.build import build_network
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.fast.folding import fold_batch_norms, freeze_convolutions

FOLDER = Path(__file__).parents[2] / "plugins"
PACKAGES = sorted(path.name for path in FOLDER.iterdir() if (path / "pyproject.toml").exists())


@pytest.mark.parametrize("package", PACKAGES)
def test_package_needs_public_names_alone(package):
    project = tomllib.loads((FOLDER / package / "pyproject.toml").read_text())["project"]
    module = package.replace("-", "_")
    groups = project["entry-points"]
    assert groups.pop("stmn.api") == {str(registry.API_VERSION): module}
    assert set(groups) < set(registry.KINDS.values())
    for path in (FOLDER / package).rglob("*.py"):
        nodes = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        names = [
            name.name if isinstance(node, ast.Import) else node.module or "" for node in nodes for name in node.names
        ]
        assert {name for name in names if name.partition(".")[0] == "stmn"} <= {
            "stmn.plugins", "stmn.errors", "stmn.testing",
        }  # fmt: skip


def test_backbone_of_units_of_its_own_is_tested_like_any(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER / "stmn-convnext"))
    with on_path(tmp_path / "site", monkeypatch) as packages:
        packages.install("nets", "from stmn_convnext import convnext_atto", backbone={"atto": "convnext_atto"})
        streams = [StreamConfig(modality=modality, arch="atto", width=0.2) for modality in ("rgb", "flow")]
        values = {"classes": ["a", "b"], "size": 32, "stack_length": 2, "streams": streams, "gate": GateConfig()}
        network = build_network(
            NetworkConfig(**values, temporal=TemporalConfig(injector="residual", pool="max"))
        ).eval()
        video = [torch.rand(2, 3, channels, 64, 64) for channels in (3, 4)]
        ready = fold_batch_norms(network)
        freeze_convolutions(ready)
        with torch.no_grad():
            for ours, theirs in zip(network(*video), ready(*video), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    for name in [name for name in sys.modules if name.startswith("stmn_convnext")]:
        sys.modules.pop(name)


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_installed_checked_and_trained_with(package, tmp_path):
    if package == "stmn-wandb":
        pytest.importorskip("wandb")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", site]
    subprocess.run([*install, FOLDER / package], check=True, capture_output=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}

    def run(*command):
        done = subprocess.run(
            [str(word) for word in command], env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", FOLDER / package / "tests")
    rows = [row for row in run(STMN, "plugins", "list").splitlines() if f" {package} " in row]
    assert rows and all(row.split()[-1] == "ok" for row in rows)
    if package == "stmn-raft":  # random weights stand for its own
        from torchvision.models.optical_flow import raft_small

        torch.save(raft_small(weights=None, progress=False).state_dict(), tmp_path / "raft_small.pth")
    assert "Accuracy on" in run(STMN, "run", FOLDER / package / "recipe.toml", "--workspace", "toy")
