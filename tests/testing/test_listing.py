"""`stmn plugins`: states of plugins, and what a plugin is; broken ones disturb nobody else."""

import json
import sys

import pytest
from helpers.commands import call, errors_of
from helpers.packages import on_path

from stmn import registry
from stmn.errors import PluginError

GOOD = """
def plus(backbone, length, init, *, weight: float = 1.0):
    '''Nothing, yet.

    Args:
        backbone: the ResNet.
        weight: of nothing.
    '''
"""
HALF = """
from torch import nn

class Half(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, receiving, sending):
        return (receiving + sending)[:, : receiving.shape[1] // 2]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STMN_PLUGINS_TIMEOUT", "1")
        with on_path(tmp_path_factory.mktemp("site") / "packages", patch) as packages:
            packages.install("good", GOOD, injector={"plus": "plus", "residual": "plus", "both": "plus"})
            packages.install("twin", GOOD, injector={"both": "plus"})
            packages.install("half", HALF, fusion={"half": "Half"})
            packages.install("wrong", GOOD, injector={"nothing": "nothing"})
            packages.install("torn", "import no_such_library", "2.1", flow={"torn": "torn"})
            packages.install("hanging", "import time\ntime.sleep(600)", injector={"hanging": "hang"})
            packages.install("leaving", "import os\nos._exit(3)", logger={"leaving": "leave"})
            packages.install("newer", GOOD, injector={"newer": "plus"}, api="2")
            packages.install("gone", "", dataset={"gone": "gone"})
            (packages.folder / "gone.py").unlink()
            yield packages


def listed(*flags):
    done = call("plugins", "list", "--json", *flags)
    rows = {(row["kind"], row["name"], row["package"]): row for row in json.loads(done.stdout)}
    return done.exit_code, {key: (row["state"], row["problem"]) for key, row in rows.items()}


def test_list_says_what_state_each_plugin_is_in(site):
    exit_code, states = listed()
    assert exit_code == 0
    assert {state for (_, _, package), (state, _) in states.items() if package == "stmn"} == {"ok"}
    expected = {
        ("injector", "plus", "good"): ("ok", ""),
        ("injector", "residual", "good"): ("shadowed", "stmn has this name too: write good:residual"),
        ("injector", "both", "good"): ("shadowed", "twin has this name too: write good:both"),
        ("injector", "nothing", "wrong"): (
            "broken", "injector 'nothing' of package wrong 1.0 can't be imported: AttributeError: module 'wrong' has no "
            "attribute 'nothing'; its entry point is wrong:nothing: correct that in its pyproject.toml and reinstall wrong",
        ),
        ("flow", "torn", "torn"): (
            "broken", "flow 'torn' of package torn 2.1 can't be imported: ModuleNotFoundError: No module named "
            "'no_such_library'; install the package that has the module no_such_library",
        ),
        ("injector", "hanging", "hanging"): (
            "broken", "injector 'hanging' of package hanging 1.0 can't be imported: its import has not ended after 1 "
            "s; STMN_PLUGINS_TIMEOUT=SECONDS gives it longer, pip uninstall hanging removes it",
        ),
        ("logger", "leaving", "leaving"): (
            "broken", "it ended its process with status 3; update leaving, or remove it: pip uninstall leaving",
        ),
        ("dataset", "gone", "gone"): (
            "broken", "dataset 'gone' of package gone 1.0 can't be imported: ModuleNotFoundError: No module named "
            "'gone'; its entry point is gone:gone, and there is no such module: reinstall gone",
        ),
        ("injector", "newer", "newer"): (
            "other API", "injector 'newer' of package newer 1.0 is written for API 2 of stmn.plugins, and this stmn has "
            "API 1: install a version of newer for API 1, or a version of stmn that has 2",
        ),
    }  # fmt: skip
    assert {key: states[key] for key in expected} == expected
    assert not {"good", "half", "hanging", "torn"} & set(sys.modules)  # they were tried elsewhere


def test_broken_plugins_are_named_when_they_are_used(site, tmp_path):
    for kind, name, words in (
        ("injector", "hanging", "its import has not ended after 1 s"), ("injector", "newer", "is written for API 2"),
        ("dataset", "gone", "there is no such module: reinstall gone"), ("injector", "both", "'good:both' or 'twin:both'"),
    ):  # fmt: skip
        with pytest.raises(PluginError, match=words):
            registry.load(kind, name)
    result = call("prepare", "--dataset", "synthetic", "--flow", "torn", "-w", tmp_path)
    assert result.exit_code == 1 and "install the package that has the module" in errors_of(result)[0]
    assert call("plugins", "show", "residual").exit_code == 0  # the others are as they were


@pytest.mark.slow
def test_check_fails_if_a_plugin_breaks_its_contract(site, monkeypatch):
    monkeypatch.setenv("STMN_PLUGINS", "half,good")
    monkeypatch.setenv("STMN_PLUGINS_TIMEOUT", "60")
    exit_code, states = listed("--check")
    assert exit_code == 1
    assert {state for (_, _, package), (state, _) in states.items() if package == "stmn"} == {"ok"}
    assert states["injector", "plus", "good"] == ("ok", "")
    state, problem = states["fusion", "half", "half"]
    assert state == "broken" and problem.startswith(
        "fusion Half: output (2, 4, 5, 7) for operands (2, 8, 5, 7): forward"
    )
    assert states["injector", "both", "twin"] == ("off", "")


@pytest.mark.parametrize(("limit", "usable", "message"), [
    ("off", False, "injector 'plus' of package good 1.0 is left out by STMN_PLUGINS=off"),
    ("twin", False, "injector 'plus' of package good 1.0 is left out by STMN_PLUGINS=twin"),
    ("Good, twin", True, ""),
    ("goood", False, "STMN_PLUGINS: no package 'goood' offers plugins (did you mean 'good'?)"),
])  # fmt: skip
def test_variable_limits_whose_plugins_are_used(site, monkeypatch, limit, usable, message):
    monkeypatch.setenv("STMN_PLUGINS", limit)
    monkeypatch.setenv("STMN_PLUGINS_TIMEOUT", "60")
    done = call("plugins", "show", "plus")
    assert (done.exit_code == 0) == usable
    assert usable or errors_of(done)[0].startswith(message)


def test_timeout_must_be_a_number(site, monkeypatch):
    monkeypatch.setenv("STMN_PLUGINS_TIMEOUT", "soon")
    done = call("plugins", "show", "plus")
    assert errors_of(done) == ["STMN_PLUGINS_TIMEOUT is 'soon'; it must be a number of seconds above 0"]


def test_show_explains_a_plugin_and_its_options(site, monkeypatch):
    monkeypatch.setenv("STMN_PLUGINS_TIMEOUT", "60")
    assert call("plugins", "show", "plus").stdout.splitlines() == [
        "injector plus of good 1.0, API 1",
        "  stmn fuse --injector plus --injector-options KEY=VALUE,...",
        "    weight (float, default 1.0)",
        "      of nothing.",
        "  Nothing, yet.",
    ]
    assert "stmn fuse --injector good:residual" in call("plugins", "show", "good:residual").stdout
    both = json.loads(call("plugins", "show", "none", "--json").stdout)
    assert [row["kind"] for row in both] == ["fusion", "injector"]
    unknown = call("plugins", "show", "mutliply")
    assert errors_of(unknown)[0].startswith("no plugin is called 'mutliply' (did you mean 'multiply'?)")
    assert errors_of(call("plugins", "show", "multiply", "--kind", "flow"))[0].startswith(
        "no flow is called 'multiply'"
    )
    assert errors_of(call("plugins", "show", "none", "--kind", "fussion"))[0].startswith("--kind fussion: no such kind")
