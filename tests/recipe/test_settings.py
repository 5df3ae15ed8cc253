"""`stmn.toml` and STMN_* variables: what does not exist is a mistake, in whatever encoding a person saved it."""

import codecs
import json
from pathlib import Path

import pytest
from helpers.commands import call, errors_of, write_recipe

from stmn.settings import load_settings


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("content", "errors"),
    [
        ('devise = "cuda"', ["stmn.toml: unknown key 'devise' (did you mean 'device'?)"]),
        ("[default.fuse]\nlr = 1", ["stmn.toml: unknown key 'default' (did you mean 'defaults'?)"]),
        ("workspace = 3", ["stmn.toml or STMN_*: workspace: must be a path"]),
        (
            "[defaults.train_streem]\nlr = 1",
            [
                "[defaults.train-streem]: no such stage (did you mean 'train-stream'?); known: prepare, train-stream, "
                "fuse, evaluate, calibrate, idt-extract, idt-fit, idt-encode, idt-score, fuse-idt, table, export, report"
            ],
        ),
        (
            "[defaults.fuse]\nmicrobatch = 4\nlr = -1\n[defaults.prepare]\nworker = 2",
            [
                "[defaults.fuse]: lr = -1: must be above 0",
                "[defaults.fuse]: unknown option 'microbatch' (did you mean 'micro_batch'?)",
                "[defaults.prepare]: unknown option 'worker' (did you mean 'workers'?)",
            ],
        ),
        (
            'devise = "cuda"\n[defaults.fuse]\nmicrobatch = 4',
            [
                "stmn.toml: unknown key 'devise' (did you mean 'device'?)",
                "[defaults.fuse]: unknown option 'microbatch' (did you mean 'micro_batch'?)",
            ],
        ),
        ("defaults = 3", ["stmn.toml or STMN_*: defaults: must be a table of keys and values"]),
    ],
)
def test_every_mistake_in_the_file_is_named(content, errors):
    """Whichever command runs: this one trains nothing."""
    Path("stmn.toml").write_text(content)
    result = call("export")
    assert result.exit_code == 2
    assert sorted(errors_of(result) or result.stderr.splitlines()) == sorted(errors)


@pytest.mark.parametrize("command", ["export", "doctor", "plugins list", "recipes list", "data info"])
def test_unknown_variable_is_named(command, monkeypatch):
    monkeypatch.setenv("STMN_DEVISE", "cuda")
    result = call(*command.split())
    assert result.exit_code == 2
    assert errors_of(result) == ["environment variable STMN_DEVISE: unknown (did you mean 'STMN_DEVICE'?)"]


def test_variables_set_defaults_of_stages(monkeypatch):
    monkeypatch.setenv("STMN_WORKSPACE", "elsewhere")
    monkeypatch.setenv("STMN_DEFAULTS__TRAIN_STREAM__MICRO_BATCH", "8")
    monkeypatch.setenv("STMN_FLOW_KERNEL", "torch")
    settings = load_settings()
    assert settings.workspace == Path("elsewhere")
    assert settings.defaults == {"train-stream": {"micro_batch": "8"}}
    monkeypatch.setenv("STMN_DEFAULTS__TRAIN_STREAM__MICRO_BATCH", "many")
    assert errors_of(call("export")) == ["[defaults.train-stream]: micro_batch = 'many': must be a whole number"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_byte_order_mark_is_no_part_of_the_text(encoding):
    Path("stmn.toml").write_text("device = 'cpu'  # auf dem Schoß", encoding=encoding)
    assert load_settings().device == "cpu"
    Path("toy.toml").write_text(
        "[recipe]\nname = 'toy'\n[[stage]]\nid = 'a'\nuses = 'train-stream'\nsteps = 1", encoding
    )
    assert call("recipes", "validate", "toy.toml").exit_code == 0


def test_other_encodings_are_one_line():
    Path("stmn.toml").write_text("device = 'cpu'", encoding="utf-16")
    assert errors_of(call("export")) == ["stmn.toml: is UTF-16 text; save it as UTF-8"]
    Path("stmn.toml").write_bytes(b"# ein\n# Sch\xf6nes")
    assert errors_of(call("export")) == ["stmn.toml, line 2: is not UTF-8 text; save it as UTF-8"]
    Path("stmn.toml").unlink()
    Path("stmn.toml").mkdir()
    assert errors_of(call("export")) == ["stmn.toml: can't be read: is a folder, not a file"]
    Path("stmn.toml").rmdir()
    recipe = write_recipe(Path("toy.toml"), 'name = "toy"', 'id = "a"\nuses = "train-stream"')
    recipe.write_text(recipe.read_text(), encoding="utf-16")
    assert errors_of(call("recipes", "validate", "toy.toml")) == ["toy.toml: is UTF-16 text; save it as UTF-8"]


def test_lists_of_a_split_may_have_a_byte_order_mark(tmp_path):
    from stmn.datasets.hmdb51 import read_splits as read_hmdb51
    from stmn.datasets.ucf101 import read_splits as read_ucf101

    lists = tmp_path / "lists"
    lists.mkdir()
    for name in ("trainlist01.txt", "testlist01.txt", "wave_test_split1.txt"):
        (lists / name).write_bytes(codecs.BOM_UTF8 + (b"a.avi 1\n" if "split" in name else b"wave/a.avi 1\n"))
    assert read_ucf101(lists)["1"]["train"] == ["wave/a.avi"]
    assert read_hmdb51(lists)["1"]["train"] == ["wave/a.avi"]


def test_settings_are_recorded_as_what_they_are(monkeypatch):
    monkeypatch.setenv("STMN_DEFAULTS__PREPARE__SHORT_SIDE", "40")
    monkeypatch.setenv("STMN_DEFAULTS__PREPARE__BOUND", "5")
    result = call("prepare", "--dataset", "synthetic", "--dataset-options", "train=4,test=4", "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout.splitlines()[-1])
    assert (record["options"]["short_side"], record["options"]["bound"]) == (40, 5.0)
