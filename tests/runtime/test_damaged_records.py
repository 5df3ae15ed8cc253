"""Damaged records of runs and of prepared sets: named once and left out; what doesn't need them works."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import run_stage
from helpers.commands import call, errors_of
from helpers.damage import flip_bits, refusals

from stmn.errors import DataError, UsageError
from stmn.recipe.load import load_recipe
from stmn.settings import load_settings
from stmn.store.format.read import Store
from stmn.workspace import load_run, read_run


def deep(levels: int) -> str:
    """A table of so many tables within each other."""
    return '{"a": ' * levels + "1" + "}" * levels


#: what a record may be instead -> what is said of it
WRONG = {
    "bytes that are no text": (lambda text: text.encode() + b"\xff", "is not UTF-8 text"),
    "no JSON": (lambda text: text[: len(text) // 2], "not JSON in line"),
    "nothing": (lambda _: "", "not JSON in line 1"),
    "a list": (lambda _: "[]", "not a table"),
    "tables in tables": (lambda _: deep(60), "nested more than 50 deep"),
    "tables in tables without end": (lambda _: deep(100_000), "nested more than 50 deep"),
    "5,000 digits": (lambda _: '{"finished": ' + "9" * 5000 + "}", "a number has too many digits"),
    "1,000 digits": (lambda _: '{"finished": ' + "9" * 1000 + "}", "a number has too many digits"),
    "no number": (lambda _: '{"finished": NaN}', "a number is NaN or infinite"),
    "a number without end": (lambda _: '{"finished": 1e999}', "a number is NaN or infinite"),
    "half of a character": (lambda _: '{"verb": "\\ud800"}', "half of a character"),
    "text for a time": (lambda _: '{"finished": "yesterday"}', "finished must be a number"),
    "text for a table": (lambda _: '{"results": "good"}', "results must be a table"),
    "a file elsewhere": (lambda _: '{"outputs": {"model": "../../m.safetensors"}}', "names a file outside the folder"),
    "another option": (lambda text: text.replace('"modality": "flow"', '"modality": "flox"'), "not what was written"),
}


def write(path: Path, content: str | bytes) -> None:
    """Write text or bytes."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize(("change", "words"), WRONG.values(), ids=WRONG.keys())
def test_damaged_record_is_named_once_and_left_out(own, change, words):
    record = own.find_input("motion", "model").path.with_name("run.json")
    write(record, change(record.read_text()))
    shown = call("nets", "show", "appearance", "-w", own.root)
    assert shown.exit_code == 0
    [line] = shown.stderr.splitlines()
    assert line.startswith(f"{record}: is damaged: ") and words in line
    assert line.endswith("; the run is left out: repeat its command, or delete the folder")
    refused = call("nets", "show", "motion", "-w", own.root)
    assert refused.exit_code == 2 and len(errors_of(refused)) == 1


def test_wrong_bit_in_a_record_is_found(own):
    path = own.find_input("motion", "model").path.parent
    found = refusals(path / "run.json", lambda: load_run(path).record, places=120)
    assert len(found) > 50 and all(line.startswith(f"{path / 'run.json'}: is damaged: ") for line in found)


def test_wrong_bit_in_the_header_of_a_set_is_found(scratch):
    folder = scratch.data_dir("synthetic")

    def read() -> str:
        with Store(folder) as store:
            return store.fingerprint

    found = refusals(folder / "dataset.json", read, places=120)
    remedy = "delete that file and prepare again with the same options: pictures stay"
    assert len(found) > 50 and all(line.startswith(f"{folder / 'dataset.json'}: ") for line in found)
    assert all(line.endswith(remedy) or "but this program reads 2; prepare it again" in line for line in found)


def test_record_of_an_older_version_has_no_digest(own):
    path = own.find_input("motion", "model").path.parent
    record = json.loads((path / "run.json").read_text())
    del record["digest"], record["digests"]
    (path / "run.json").write_text(json.dumps(record))
    assert read_run(path).makes("model")
    assert own.find_input("motion", "model").name == path.name


def test_damaged_record_of_a_set_is_refused_and_made_again(scratch):
    record = scratch.data_dir("synthetic") / "run.json"
    record.write_text("{")
    with pytest.raises(DataError, match=r"run\.json: is damaged: .*; repeat the stmn prepare command"):
        scratch.find_data("synthetic")
    size = {"train": 24, "test": 12}
    run_stage(scratch, "prepare", dataset="synthetic", dataset_options=size, short_side=40, bound=5.0)
    assert scratch.find_data("synthetic") == record.parent


def damaged(path: Path) -> None:
    """Leave one wrong bit in the middle of a file."""
    places = flip_bits(path, 4)
    next(places), next(places)


@pytest.mark.parametrize(("output", "change", "words"), [
    ("scores", damaged, "scores.safetensors has changed since it was written"),
    ("metrics", damaged, "metrics.json has changed since it was written"),
    ("metrics", Path.unlink, "metrics.json is missing"),
])  # fmt: skip
def test_stage_with_changed_output_runs_again(own, output, change, words):
    run = run_stage(own, "evaluate", model="motion")
    whole = run.output(output).read_bytes()
    assert "up to date" in call("evaluate", "motion", "-w", own.root).stderr
    change(run.output(output))
    again = call("evaluate", "motion", "-w", own.root)
    assert again.exit_code == 0
    assert f"evaluate: {run.path}: {words}; making it again" in again.stderr.splitlines()
    assert run.output(output).read_bytes() == whole


def test_output_of_another_run_in_its_place_is_refused(own):
    one, other = (own.find_input(name, "model").path for name in ("motion", "appearance"))
    shutil.copy(other, one)
    refused = call("evaluate", "motion", "-w", own.root)
    assert errors_of(refused) == [f"{one}: is not what its stage wrote (digest); run that stage again (train-stream)"]


def test_report_leaves_out_damaged_numbers(own):
    [metrics] = own.find_input("test", "scores").path.parent.glob("metrics.json")
    log = own.find_input("motion", "model").path.with_name("metrics.jsonl")
    for path in (metrics, log):
        damaged(path)
    made = call("report", "-w", own.root)
    assert made.exit_code == 0
    said = [line for line in made.stderr.splitlines() if "is not what its stage wrote (digest)" in line]
    assert sorted(line.partition(": ")[0] for line in said) == sorted(map(str, (metrics, log)))


WRONG_TOML = {"tables in tables": "a = " + "[" * 5000, "5,000 digits": "a = " + "9" * 5000, "bytes": b"a = '\xff'"}


@pytest.mark.parametrize("content", WRONG_TOML.values(), ids=WRONG_TOML.keys())
def test_damaged_toml_is_refused_in_one_line(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    for name, read in (("r.toml", lambda: load_recipe("r.toml")), ("stmn.toml", load_settings)):
        write(Path(name), content)
        with pytest.raises(UsageError, match=name) as error:
            read()
        assert "\n" not in str(error.value)
