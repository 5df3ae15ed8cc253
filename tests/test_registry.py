"""Plugins: built-in ones, other packages', and those that are broken, clash or shadow a built-in."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import TINY_TRAINING
from helpers.commands import STMN, call, errors_of, write_recipe
from helpers.packages import on_path

from stmn import registry
from stmn.errors import PluginError

DECLARED = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["entry-points"]

#: a fusion that another package could have
FUSION = """
from torch import nn

class {name}(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, receiving, sending):
        return receiving + {weight} * sending
"""


@pytest.fixture
def packages(tmp_path, monkeypatch):
    with on_path(tmp_path / "site", monkeypatch) as found:
        yield found


def recipe_with(path: Path, fusion: str) -> Path:
    streams = [f'id = "{m}"\nuses = "train-stream"\nmodality = "{m}"' for m in ("rgb", "flow")]
    fuse = f'id = "fused"\nuses = "fuse"\nappearance = "rgb"\nmotion = "flow"\nfusion = "{fusion}"'
    return write_recipe(path, 'name = "toy"', *streams, fuse)


@pytest.mark.parametrize("kind", [kind for kind, group in registry.KINDS.items() if group in DECLARED])
def test_built_ins_are_registered_like_any_plugin(kind):
    declared = DECLARED[registry.KINDS[kind]]
    assert set(declared) <= set(registry.names(kind))
    for name in declared:
        plugin = registry.find(kind, name)
        assert plugin.identity == {"kind": kind, "name": name, "package": "stmn", "version": "0.1.0"}
        assert callable(plugin.load())
        assert registry.find(kind, f"stmn:{name}") == plugin


@pytest.mark.parametrize(("kind", "typed", "meant"), [
    ("fusion", "mutliply", "multiply"), ("injector", "residuals", "residual"), ("flow", "tv-l1", "tvl1"),
    ("dataset", "ucf", "ucf101"), ("exporter", "onx", "onnx"),
])  # fmt: skip
def test_unknown_name_lists_the_nearest_and_all_known(kind, typed, meant):
    with pytest.raises(PluginError) as caught:
        registry.load(kind, typed)
    assert str(caught.value).startswith(f"unknown {kind} '{typed}' (did you mean '{meant}'?); known: ")
    assert all(name in str(caught.value) for name in registry.names(kind))


def test_third_party_plugin_is_used_by_its_name(packages, trained, tmp_path):
    packages.install("blends", FUSION.format(name="Blend", weight=0.5), fusion={"blend": "Blend"})
    assert "blend" in registry.names("fusion")
    assert call("recipes", "validate", recipe_with(tmp_path / "toy.toml", "blend")).exit_code == 0

    work = shutil.copytree(trained.root, tmp_path / "work")
    tiny = [f"--{key.replace('_', '-')}={value}" for key, value in (TINY_TRAINING | {"steps": 1, "chunks": 1}).items()]
    result = call("fuse", "--fusion", "blend", "--injector", "none", "-w", work, "--json", *tiny)
    assert result.exit_code == 0, result.stderr
    [identity] = [known for known in json.loads(result.stdout)["plugins"] if known["name"] == "blend"]
    assert len(identity.pop("source")) == 16  # a hash of its code
    assert identity == {"kind": "fusion", "name": "blend", "package": "blends", "version": "1.0"}


def test_broken_plugin_breaks_only_what_names_it(packages, tmp_path):
    packages.install("torn", "raise ImportError('libtorn.so.3 is missing')", "2.1", fusion={"torn": "Torn"})

    # in a process of its own, as for a user
    environment = os.environ | {"PYTHONPATH": str(packages.folder)}
    for command in (["--help"], ["fuse", "--help"], ["recipes", "validate", "demo"]):
        done = subprocess.run([STMN, *command], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""

    # it can be named, but using it is an error that says whose it is and why
    with pytest.raises(PluginError, match=r"'torn' of package torn 2\.1 can't be imported: ImportError: libtorn"):
        registry.load("fusion", "torn")


def test_run_with_a_broken_plugin_ends_in_one_line(packages, scratch, tmp_path):
    packages.install("torn", "raise ImportError('libtorn.so.3 is missing')", "2.1", flow={"torn": "torn"})
    (tmp_path / "videos" / "class").mkdir(parents=True)
    (tmp_path / "videos" / "class" / "a.avi").write_bytes(b"")
    result = call("prepare", tmp_path / "videos", "mine", "--flow", "torn", "-w", tmp_path / "work")
    assert result.exit_code == 1
    assert errors_of(result) == [
        "flow 'torn' of package torn 2.1 can't be imported: ImportError: libtorn.so.3 is missing; update torn or its "
        "dependencies, or remove it: pip uninstall torn"
    ]
    assert "Traceback" not in result.stderr


def test_package_prefix_picks_one_of_two_plugins(packages, tmp_path):
    packages.install("alpha", FUSION.format(name="Blend", weight=0.1), fusion={"blend": "Blend"})
    packages.install("beta", FUSION.format(name="Blend", weight=0.9), fusion={"blend": "Blend"})
    with pytest.raises(PluginError) as caught:
        registry.load("fusion", "blend")
    assert str(caught.value) == ("fusion 'blend' is offered by several packages: write 'alpha:blend' or 'beta:blend'")
    assert registry.load("fusion", "alpha:blend").__module__ == "alpha"
    assert registry.load("fusion", "beta:blend").__module__ == "beta"
    assert registry.names("fusion").count("blend") == 1

    assert call("recipes", "validate", recipe_with(tmp_path / "clear.toml", "beta:blend")).exit_code == 0
    result = call("recipes", "validate", recipe_with(tmp_path / "unclear.toml", "blend"))
    assert result.exit_code == 2
    assert len(errors_of(result)) == 1
    assert "write 'alpha:blend' or 'beta:blend'" in errors_of(result)[0]


def test_unknown_package_is_an_error(packages):
    with pytest.raises(PluginError, match="unknown fusion 'gamma:multiply'"):
        registry.find("fusion", "gamma:multiply")


def test_built_in_cannot_be_shadowed(packages):
    packages.install("mallory", FUSION.format(name="Multiply", weight=0), fusion={"multiply": "Multiply"})
    assert registry.load("fusion", "multiply").__module__ == "stmn.nets.fusions"
    assert registry.find("fusion", "multiply").package == "stmn"
    assert "mallory" not in sys.modules
    # but it can be asked for
    assert registry.load("fusion", "mallory:multiply").__module__ == "mallory"
