"""A wrong bit in a file is an error that names the file, or changes nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.damage import refusals
from helpers.trainings import CPU, network, steps, videos
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from stmn.errors import Interrupted
from stmn.evaluation.scores import Scores, load_scores
from stmn.idt.codebook import DESCRIPTORS, Codebook, Mixture, load_codebook
from stmn.nets.checkpoint import load_checkpoint
from stmn.runtime.progress import Silent
from stmn.runtime.tensor_files import read_metadata, read_tensors
from stmn.training.loop import train
from stmn.training.state import STATE_FILE


def contents(values: object) -> object:
    """A value with bytes in place of tensors and arrays."""
    if isinstance(values, torch.Tensor):
        return values.dtype, tuple(values.shape), values.numpy().tobytes()
    if isinstance(values, np.ndarray):
        return values.tobytes()
    if hasattr(values, "__dataclass_fields__"):
        values = vars(values)
    return {name: contents(value) for name, value in values.items()} if isinstance(values, dict) else values


def scores_file(folder: Path) -> Path:
    """Scores of three videos."""
    path = folder / "scores.safetensors"
    Scores(["a", "b", "c"], ["p", "q"], [0, 1, 1], {"motion": torch.randn(3, 2)}, {"chunks": 25}).save(path)
    return path


def codebook_file(folder: Path) -> Path:
    """A codebook of random numbers."""
    draws = np.random.default_rng(0)
    shapes = ((8,), (8, 4), (3,), (3, 4), (3, 4))
    mixtures = {name: Mixture(*(draws.random(s, dtype=np.float32) for s in shapes)) for name in DESCRIPTORS}
    path = folder / "codebook.safetensors"
    Codebook(mixtures, {"gaussians": 3}).save(path)
    return path


READERS = {"scores": (scores_file, load_scores), "codebook": (codebook_file, load_codebook)}


@pytest.mark.parametrize(("make", "load"), READERS.values(), ids=READERS.keys())
def test_wrong_bit_in_scores_or_codebook_is_found(tmp_path, make, load):
    path = make(tmp_path)
    found = refusals(path, lambda: contents(load(path)), places=72)
    assert len(found) >= 36 and all(line.startswith(f"{path}: is damaged: ") for line in found)
    assert all(line.endswith("; use another copy, or make it again") for line in found)


def test_wrong_bit_in_a_model_is_found(trained, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(trained.find_model("motion").read_bytes())

    def read() -> object:
        net, about = load_checkpoint(path)
        return contents(net.state_dict()), about

    found = refusals(path, read)
    assert len(found) > 30 and all(line.startswith(f"{path}: is damaged: ") for line in found)


def test_wrong_bit_in_a_training_state_is_found(prepared, tmp_path):
    class Stop(Silent):
        def advance(self, count: int = 1, **fields: object) -> None:
            raise Interrupted("stopped by the test")

    clips, plan, path = videos(prepared), steps(2, checkpoint_minutes=1e-9), tmp_path / STATE_FILE
    with pytest.raises(Interrupted):
        train(network(), clips, None, plan, CPU, tmp_path, Stop())
    with pytest.raises(Interrupted):
        train(network(), clips, None, plan, CPU, tmp_path, Stop())  # saves the state of step 1
    found = refusals(path, lambda: (read_metadata(path), contents(read_tensors(path))))
    assert len(found) > 30
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(Exception, match=r"is damaged: .*; start over with --no-resume") as error:
        train(network(), clips, None, plan, CPU, tmp_path, Silent())
    assert str(error.value).startswith(f"{path}: ")


def test_file_of_an_older_version_is_read_with_a_notice(tmp_path, caplog):
    path = scores_file(tmp_path)
    whole = load_scores(path)
    assert not caplog.messages
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["stmn"])
    del about["digest"]
    save_file(load_file(path), path, metadata={"stmn": json.dumps(about), "format": "pt"})
    assert contents(load_scores(path)) == contents(whole)
    assert caplog.messages == [
        f"{path}: it has no digest, as files of older versions and of other programs: damage may go unnoticed"
    ]
