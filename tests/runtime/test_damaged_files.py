"""A wrong bit in a file is an error that names the file, or changes nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_stage
from helpers.damage import refusals
from helpers.shards import change_shard
from helpers.trainings import CPU, network, steps, videos
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from stmn.datasets.base import VideoEntry
from stmn.errors import DataError, Interrupted
from stmn.evaluation.scores import Scores, load_scores
from stmn.idt.codebook import DESCRIPTORS, WIDTH, Codebook, Mixture, load_codebook
from stmn.idt.shards import Facts, ShardReader, write_numbers
from stmn.nets.checkpoint import load_checkpoint
from stmn.runtime.progress import Silent
from stmn.runtime.tensor_files import read_metadata, read_tensors
from stmn.store.format.read import Store
from stmn.store.format.shard import FLOW, RGB, picture_key, shard_path
from stmn.store.format.write import ShardWriter
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


def test_wrong_bit_in_a_shard_of_a_set_is_found(scratch):
    folder = scratch.data_dir("synthetic")
    [path, *_] = sorted((folder / "shards").glob("*.sqlite"))

    def read() -> object:
        with Store(folder) as store:
            shown = {
                (video_id, kind): b"".join(store.jpegs(video_id, kind, range(video.frames - kind)))
                for video_id, video in store.videos.items()
                for kind in (RGB, FLOW)
            }
            return store.fingerprint, shown, store.notes()

    found = refusals(path, read, places=80)
    assert len(found) > 30 and not [line for line in found if not line.startswith(f"{path}: ")]
    assert all(line.endswith("delete that file and run the command that wrote it again") for line in found)


def test_wrong_bit_in_a_shard_of_tracks_is_found(tmp_path):
    draws = np.random.default_rng(0)
    path = shard_path(tmp_path, 0)
    with ShardWriter(path) as shard:
        for name in "abc":
            with shard.add_video(VideoEntry(name, Path(name), "wave", name)) as writer:
                write_numbers(writer, draws.random((20, WIDTH)), Facts(30, 20))

    def read() -> object:
        with ShardReader(tmp_path) as reader:
            return {name: (reader.facts(name), reader.rows(name).tobytes()) for name in "abc"}, dict(reader.reasons)

    found = refusals(path, read, places=80)
    assert len(found) > 30 and all(line.startswith(f"{path}: is damaged: ") for line in found)


def test_set_of_an_older_version_is_checked_video_by_video(scratch):
    folder = scratch.data_dir("synthetic")
    with Store(folder) as store:
        before, video = store.fingerprint, next(iter(store.videos.values()))
        shard, first = store.shards[video.shard], picture_key(video.number, RGB, 0)
        whole = store.jpegs(video.id, RGB, [3])
    change_shard(shard, "ALTER TABLE pictures DROP COLUMN crc")
    with Store(folder) as store:
        assert store.fingerprint == before and store.jpegs(video.id, RGB, [3]) == whole
    copied = "(SELECT jpeg FROM pictures WHERE key = ?)"
    change_shard(shard, f"UPDATE pictures SET jpeg = {copied} WHERE key = ?", first, first + 1)
    with (
        Store(folder) as store,
        pytest.raises(DataError, match=r"its pictures are not what prepare wrote \(checksum\)"),
    ):
        store.jpegs(video.id, RGB, [3])


def test_shard_that_is_gone_is_missed(scratch):
    folder = scratch.data_dir("synthetic")
    [path, *_] = sorted((folder / "shards").glob("*.sqlite"))
    path.unlink()
    with pytest.raises(DataError, match="shards has changed since it was written; repeat the stmn prepare command"):
        scratch.find_data("synthetic")
    size = {"train": 24, "test": 12}
    run_stage(scratch, "prepare", dataset="synthetic", dataset_options=size, short_side=40, bound=5.0)
    with Store(scratch.find_data("synthetic")) as store:
        assert len(store.part("1", "train")) == 24 and len(store.part("1", "test")) == 12
