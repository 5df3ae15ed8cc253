"""Exporters of other packages: their options, their files, and what is said of broken ones."""

import json
import resource
import shutil
import subprocess

import pytest
from helpers.commands import STMN, call, errors_of, write_recipe
from helpers.packages import on_path
from helpers.predicting import lines, model_of

FILES = """
import torch
from stmn.plugins import Exporter

class Pickled:
    '''Writes the network as a pickle.

    Args:
        scale: the logits are multiplied by it.
        note: words to keep in the file.
    '''
    suffix = ".pickled"

    def __init__(self, *, scale: float = 1.0, note: str = ""):
        if scale <= 0:
            raise ValueError(f"scale = {scale}: must be above 0")
        self.scale, self.note = scale, note

    def write(self, network, description, example, path):
        torch.save({"network": network, "description": description, "note": self.note}, path)

    def runner(self, path):
        network = torch.load(path, weights_only=False)["network"].eval()
        return lambda given: [self.scale * logits for logits in network(*given)]

    def read(self, path):
        return torch.load(path, weights_only=False)["description"]

class Bare(Exporter):
    suffix = ".bare"

class Raising(Pickled):
    companions = (".extra",)

    def write(self, network, description, example, path):
        path.with_suffix(".extra").write_text("written")
        raise KeyError("conv1")

class Full(Pickled):
    def write(self, network, description, example, path):
        raise OSError(28, "No space left on device", str(path))

class Empty(Pickled):
    def write(self, network, description, example, path):
        pass
"""
KINDS = {"pickled": "Pickled", "bare": "Bare", "raising": "Raising", "full": "Full", "empty": "Empty"}


@pytest.fixture
def files(tmp_path, monkeypatch):
    with on_path(tmp_path / "site", monkeypatch) as packages:
        packages.install("files", FILES, exporter=KINDS)
        yield packages


def export(workspace, *more):
    return call("export", "appearance", "-w", workspace.root, "--json", *more)


def record_of(done):
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_options_of_an_exporter_are_in_its_run(files, own):
    shown = call("plugins", "show", "pickled").stdout
    assert "stmn export --format pickled --format-options KEY=VALUE,..." in shown
    assert "scale (float, default 1.0)\n      the logits are multiplied by it." in shown
    plain, noted = (
        record_of(export(own, "--format", "pickled", *more)) for more in ([], ["--format-options", "note=of May"])
    )
    assert plain["options"]["format_options"] == {} and noted["options"]["format_options"] == {"note": "of May"}
    assert plain["fingerprint"] != noted["fingerprint"]
    again = record_of(export(own, "--format", "pickled", "--format-options", "note=of May"))
    assert again["finished"] == noted["finished"]  # up to date
    [file] = own.root.glob(f"runs/*{noted['fingerprint'][:8]}/model.pickled")
    assert b"of May" in file.read_bytes()


def test_recipes_are_checked_for_options_of_exporters(files, trained, tmp_path):
    model = model_of(trained, "appearance")
    for options, exit_code in (("{ scale = 2 }", 0), ("{ scale = 'two' }", 2), ("{ scle = 2 }", 2)):
        stage = f'id = "x"\nuses = "export"\nmodel = "{model}"\nformat = "pickled"\nformat_options = {options}'
        recipe = write_recipe(tmp_path / "r.toml", 'name = "r"', stage)
        assert call("recipes", "validate", recipe).exit_code == exit_code


@pytest.mark.parametrize(("flags", "message"), [
    ("--format pickled --format-options scale=two", "exporter 'pickled': scale = 'two': must be a number"),
    ("--format pickled --format-options scale=true", "exporter 'pickled': scale = True: must be a number"),
    ("--format pickled --format-options scale=0", "exporter 'pickled': scale = 0.0: must be above 0"),
    ("--format pickled --format-options scle=2",
     "exporter 'pickled' has no option 'scle' (did you mean 'scale'?); it has: scale, note"),
    ("--format bare --format-options scale=2", "exporter 'bare' has no option 'scale'; it has none"),
    ("--format onnx --format-options opset=20", "exporter 'onnx' has no option 'opset'; it has none"),
    ("--format pickled --half", "exporter 'pickled' can't write float16, only float32"),
])  # fmt: skip
def test_wrong_options_are_found_before_anything_is_written(files, own, flags, message):
    refused = export(own, *flags.split())
    assert refused.exit_code == 2 and errors_of(refused) == [message]
    assert not list(own.root.glob("runs/export-*"))


@pytest.mark.parametrize(("flags", "message"), [
    ("--format pickled --format-options scale=1.001",
     "export: parity check failed: outputs differ by 1.0e-03 of the largest, and 1e-04 is allowed; no file was written"),
    ("--format raising", "exporter 'raising' of package files 1.0 failed: KeyError: 'conv1'; stmn plugins list --check"),
    ("--format empty", "exporter 'empty' of package files 1.0 failed: EOFError: Ran out of input; stmn plugins list"),
    ("--format full", "model.pickled: can't be written: No space left on device"),
])  # fmt: skip
def test_exporter_that_fails_leaves_no_file(files, own, tmp_path, flags, message):
    failed = export(own, *flags.split(), "--copy-to", tmp_path / "copy.pickled")
    [error] = errors_of(failed)
    assert failed.exit_code == 1 and message in error
    [folder] = own.root.glob("runs/export-*")
    assert [file.name for file in folder.iterdir()] == ["run.json"] and not (tmp_path / "copy.pickled").exists()


def test_file_that_finds_no_room_is_called_by_its_own_name(own):
    """Not by the temporary one under which it is written."""

    def allow_small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    command = [STMN, "export", "appearance", "--format", "safetensors", "-w", own.root]
    failed = subprocess.run(command, capture_output=True, text=True, preexec_fn=allow_small_files)
    [folder] = own.root.glob("runs/export-*")
    assert failed.returncode == 1
    assert f"error: {folder / 'model.safetensors'}: can't be written: " in failed.stderr
    assert "File too large" in failed.stderr and ".part" not in failed.stderr
    assert [file.name for file in folder.iterdir()] == ["run.json"]


def test_exporters_of_one_name_are_told_apart_and_read(files, own, tmp_path):
    files.install("more_files", FILES, exporter={"pickled": "Pickled"})
    [error] = errors_of(export(own, "--format", "pickled"))
    assert error == "exporter 'pickled' is offered by several packages: write 'files:pickled' or 'more_files:pickled'"
    assert call("plugins", "show", "more_files:pickled").stdout.splitlines()[1] == (
        "  stmn export --format more_files:pickled --format-options KEY=VALUE,..."
    )
    assert export(own, "--format", "More-Files:pickled", "--copy-to", tmp_path / "á model.pickled").exit_code == 0
    video = min((own.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))
    theirs, ours = (
        lines(model, video, "--chunks", 2) for model in (tmp_path / "á model.pickled", model_of(own, "appearance"))
    )
    assert theirs[0]["scores"] == pytest.approx(ours[0]["scores"], abs=1e-4)


def test_broken_exporter_disturbs_no_file_of_another(files, own, tmp_path):
    files.install("broken", f"open({str(tmp_path / 'imported')!r}, 'w'); 1 / 0", exporter={"aaa": "Exporter"})
    video = min((own.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))
    shutil.copy(model_of(own, "appearance"), tmp_path / "model.safetensors")
    assert lines(tmp_path / "model.safetensors", video, "--chunks", 2)
    (tmp_path / "model.onnx").write_bytes(b"no model")
    [error] = errors_of(call("predict", tmp_path / "model.onnx", video))
    assert error.startswith(f"{tmp_path / 'model.onnx'}: is damaged") and not (tmp_path / "imported").exists()
