"""Two trained streams become one network (section 4.1), which starts with their weights; misfits are refused."""

import json
import shutil

import pytest
import torch
from conftest import run_stage, train_tiny
from safetensors.torch import load_file, save_file

from stmn.errors import CheckpointError, DataError
from stmn.nets.checkpoint import load_checkpoint, read_description
from stmn.runtime.tensor_files import KEY, read_metadata
from stmn.workspace import Run, Workspace

#: one step so small that no weight moves
STILL = {"steps": 1, "lr": 1e-30, "weight_decay": 0.0, "batch": 8, "micro_batch": 8, "validation": 0.0, "chunks": 2}


def fused(workspace: Workspace, **options: object) -> Run:
    return run_stage(workspace, "fuse", **(STILL | {"stride_min": 1, "stride_max": 2} | options))


def test_fused_network_starts_with_the_weights_of_its_streams(own):
    run = fused(own)
    weights = load_file(run.output("model"))
    for name in ("appearance", "motion"):
        stream = load_file(own.find_input(name, "model").path)
        learned = {key: value for key, value in stream.items() if "running" not in key and "batches" not in key}
        assert len(learned) > 40
        assert all(torch.allclose(weights[key], value, rtol=0, atol=1e-20) for key, value in learned.items())
    new = {key for key in weights if "temporal" in key}
    assert {key.split(".temporal")[0].split("backbone.")[1] for key in new} == {f"layer{n}.1" for n in (1, 2, 3, 4)}


def test_fused_network_records_its_gates_and_keeps_dropout(own):
    config = read_description(
        fused(own, fusion="add", injector="last_unit", temporal_pool="average").output("model")
    ).network
    assert (config.gate.fusion, config.temporal.injector, config.temporal.pool) == ("add", "last_unit", "average")
    assert [stream.dropout for stream in config.streams] == [0.0, 0.8]
    assert read_description(fused(own, dropout=0.5).output("model")).network.streams[1].dropout == 0.5


def test_streams_are_the_newest_or_those_named(own):
    newer = train_tiny(own, "flow", steps=1, seed=5)
    older = next(r for r in own.runs() if r.name.startswith("motion") and r.path != newer.path)
    for options, expected in (({}, newer), ({"motion": older.name}, older)):
        weights = load_file(fused(own, **options).output("model"))
        stream = load_file(expected.output("model"))
        assert torch.equal(
            weights["streams.motion.backbone.conv1.weight"], stream["streams.motion.backbone.conv1.weight"]
        )


def test_missing_stream_names_the_command_that_makes_it(scratch):
    with pytest.raises(
        DataError, match="no appearance stream was trained on synthetic, split 1; make it with: stmn train-stream --mod"
    ):
        fused(scratch)


def test_streams_that_do_not_fit_are_refused(own):
    motion, appearance = (own.find_input(name, "model") for name in ("motion", "appearance"))
    with pytest.raises(DataError, match=f"{motion.name}: is not a model of one appearance stream"):
        fused(own, appearance=motion.name, motion=motion.name)
    with pytest.raises(DataError, match="is not a model of one motion stream"):
        fused(own, appearance=appearance.name, motion="fused")
    train_tiny(own, "flow", size=40, steps=1)
    with pytest.raises(DataError, match="the streams don't fit: size is 32 for appearance and 40 for motion"):
        fused(own)


def test_stream_that_lacks_a_tensor_is_refused(own, tmp_path):
    path = shutil.copy(own.find_input("motion", "model").path, tmp_path / "lacking.safetensors")
    tensors = {name: value.clone() for name, value in load_file(path).items()}
    del tensors["streams.motion.backbone.layer3.0.conv1.weight"]
    save_file(tensors, path, metadata={KEY: json.dumps(read_metadata(path))})
    with pytest.raises(CheckpointError, match="weights don't fit the network"):
        fused(own, motion=str(path))


def test_fused_model_loads_without_its_streams(own, tmp_path):
    path = shutil.copy(fused(own).output("model"), tmp_path / "alone.safetensors")
    shutil.rmtree(own.root)
    network, description = load_checkpoint(path)
    assert network.names == ["appearance", "motion"]
    assert len(description.trained_on.videos) == 24
