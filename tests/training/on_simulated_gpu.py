"""Every stage's tensors are on the device that it computes on, and its numbers are those of the CPU.

The device is a simulated GPU (`helpers.simulated_gpu`), so this runs where there is none. torch counts devices at the first
backward pass of a process, so `test_simulated_gpu.py` runs this file in one of its own.
"""

import json
import os
import shlex
import shutil
from collections import Counter
from contextlib import nullcontext

import pytest
import torch
from helpers.commands import call, over
from helpers.simulated_gpu import OnGpu, gpu, on_gpu
from helpers.streams import streams
from safetensors.torch import load_file

import stmn
from stmn.evaluation.scores import load_scores
from stmn.flow.batches import BatchMaker
from stmn.flow.owner import Request
from stmn.flow.tvl1 import tvl1
from stmn.runtime.device import Device, choose_device
from stmn.workspace import Workspace

TRAIN = (
    "--batch 8 --micro-batch 8 --bn-group 4 --steps 2 --lr 0.01 --schedule cosine --validation 0.3 --seed 2 "
    "--class-weights --keep best --clip 5 --label-smoothing 0.1 --force"
)
TRAININGS = {
    "train-stream": f"train-stream --modality flow --arch resnet18 --width 0.25 --weights none --size 32 --dropout 0.5 {TRAIN}",
    "fuse": f"fuse --fusion blended_multiply --chunks 2 --stride-min 1 --stride-max 2 --ema 0.9 --loss-weights 1,0.5 {TRAIN.replace('0.3', '0')}".replace("--keep best", ""),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    """The GPU is there before the first backward pass."""
    gpu()


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Workspace:
    """A copy of the trained workspace that these tests write in."""
    folder = tmp_path_factory.mktemp("gpu") / "work"
    shutil.copytree(os.environ["TRAINED_WORKSPACE"], folder)
    return Workspace(folder)


def on_both(
    monkeypatch: pytest.MonkeyPatch, command: str, space: Workspace, look, with_streams: bool = False, **how: object
) -> list:
    """What `look` finds after a command on the CPU, and after the same on the GPU."""
    found = []
    for there in (False, True):
        words = [*shlex.split(command), "-w", space.root]
        if there:
            with on_gpu(monkeypatch, **how), streams(monkeypatch) if with_streams else nullcontext():
                done = call(*words)
        else:
            done = call(*words)
        assert done.exit_code == 0, done.stderr
        found.append(look(done))
    return found


def test_simulated_gpu_is_as_strict_as_a_real_one(monkeypatch):
    with on_gpu(monkeypatch):
        there, here = torch.ones(3, device=gpu()), torch.ones(3)
        assert isinstance(there, OnGpu) and there.device.type == "gpu"
        assert (there * 2 + torch.tensor(1.0)).sum().item() == 9 and (there.cpu() == here).all()
        for wrong in (lambda: there + here, lambda: torch.cat([here, there]), lambda: there @ here):
            with pytest.raises(RuntimeError, match="expected all tensors to be on the same device"):
                wrong()
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()


@pytest.mark.parametrize("stage", ["train-stream", pytest.param("fuse", marks=pytest.mark.slow)])
def test_training(space, monkeypatch, stage):
    def look(_):
        run = space.newest("model")
        row = json.loads((run.path / "metrics.jsonl").read_text().splitlines()[-1])
        return row, load_file(run.path / "model.safetensors")

    (row, weights), (row_there, weights_there) = on_both(monkeypatch, TRAININGS[stage], space, look, cuts_pictures=True)
    assert row_there["loss"] == pytest.approx(row["loss"], rel=1e-3)
    assert row_there["gradient_norm"] == pytest.approx(row["gradient_norm"], rel=0.02)
    for name, value in weights.items():
        scale = float(value.abs().max()) if value.is_floating_point() else 0.0
        torch.testing.assert_close(weights_there[name], value, rtol=0, atol=1e-4 + 0.02 * scale)


def test_evaluate(space, monkeypatch):
    def look(_):
        return load_scores(space.newest("scores").output("scores")).mean()

    here, there = on_both(monkeypatch, "evaluate fused-multiply --force", space, look)
    torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_predict_features_and_export(space, monkeypatch, tmp_path):
    """Predicting computes flow on the GPU too; an export is made and checked on the host."""
    video = next((space.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))
    model = space.find_input("fused-multiply", "model").path
    here = {s.class_name: s.score for s in stmn.load(model, device="cpu").predict(video)}
    with on_gpu(monkeypatch):
        there = {s.class_name: s.score for s in stmn.load(model).predict(video)}
    assert there == pytest.approx(here, abs=0.02)  # flow is another solver's
    features = on_both(
        monkeypatch, f"features fused-multiply {video} --force --out {tmp_path / 'f.safetensors'}", space,
        lambda _: load_file(tmp_path / "f.safetensors"),
    )  # fmt: skip
    assert features[0].keys() == features[1].keys()
    exported = on_both(
        monkeypatch, "export appearance --format safetensors --force", space, lambda done: done.exit_code
    )
    assert exported == [0, 0]


@pytest.mark.slow
def test_look_inside(space, monkeypatch):
    command = "nets inside fused-multiply --videos 4 --json"
    here, there = on_both(monkeypatch, command, space, lambda done: json.loads(done.stdout))
    assert here["gradients"] and numbers_of(there) == pytest.approx(numbers_of(here), rel=1e-3, abs=1e-5)


def numbers_of(value: object) -> list[float]:
    """All numbers in JSON, in their order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in numbers_of(item)]
    return [value] if isinstance(value, int | float) else []


def waits_of(monkeypatch: pytest.MonkeyPatch, space: Workspace, *words: object) -> Counter[str]:
    """Where a command would make the host wait for a real GPU, and how often."""
    waits: list[str] = []
    with on_gpu(monkeypatch, waits, cuts_pictures=True), streams(monkeypatch):
        done = call(*words, "-w", space.root)
        assert done.exit_code == 0, done.stderr
    return Counter(waits)


@pytest.mark.slow
@pytest.mark.parametrize("stage", TRAININGS)
def test_step_of_training_waits_for_nothing_but_the_row_of_the_step_before(space, monkeypatch, stage):
    few, many = (
        waits_of(monkeypatch, space, *over(shlex.split(TRAININGS[stage]), "--steps", steps)) for steps in (3, 6)
    )
    assert few, "weights and the rows of the log are read"
    assert {place.split(":")[0] for place in many - few} == {"runtime/host_copy.py"}, many - few


# copies that are done as late as they may be, streams that have to wait for each other ------------------------------------


def test_training_uses_no_copy_before_it_is_done(space, monkeypatch):
    """Batches come on a stream of their own, rows of the log leave while the next step is computed."""

    def look(_):
        run = space.newest("model")
        return [json.loads(row)["loss"] for row in (run.path / "metrics.jsonl").read_text().splitlines()]

    command = TRAININGS["fuse"].replace("--steps 2", "--steps 6")
    here, there = on_both(monkeypatch, command, space, look, with_streams=True, cuts_pictures=True)
    assert there == pytest.approx(here, rel=5e-3)


def test_evaluate_uses_no_copy_before_it_is_done(space, monkeypatch):
    def look(_):
        return load_scores(space.newest("scores").output("scores")).mean()

    here, there = on_both(
        monkeypatch, "evaluate fused-multiply --force", space, look, with_streams=True, cuts_pictures=True
    )
    torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-3)


def test_flow_of_batches_in_flight_is_that_of_the_cpu(monkeypatch):
    """Two batches are under way at a time, as in `prepare`."""

    def make_requests(seed: int) -> list[Request]:
        draw = torch.Generator().manual_seed(seed)
        frames = [torch.randint(0, 256, (pairs + 1, 24, 24, 3), generator=draw, dtype=torch.uint8) for pairs in (2, 3)]
        return [Request(None, 0, chain, torch.zeros(len(chain) - 1, 2, 24, 24, dtype=torch.uint8)) for chain in frames]

    def compute(device: Device) -> list[torch.Tensor]:
        maker, found, in_flight = BatchMaker(tvl1, 20.0, "subtract", device), [], None
        for seed in range(3):
            launched = maker.launch(make_requests(seed))
            found += maker.finish(in_flight) if in_flight else []
            in_flight = launched
        found += maker.finish(in_flight)
        assert {reason for _, reason in found} == {""}
        return [request.levels for request, _ in found]

    here = compute(choose_device("cpu"))
    with on_gpu(monkeypatch), streams(monkeypatch):
        there = compute(Device(gpu()))
    for one, other in zip(there, here, strict=True):
        assert (one.int() - other.int()).abs().max() <= 1, "the CPU's is another solver"


@pytest.mark.parametrize("command", [
    TRAININGS["fuse"],
    pytest.param("evaluate fused-multiply --force", marks=pytest.mark.slow),
    pytest.param("predict fused-multiply {video}", marks=pytest.mark.slow),
])  # fmt: skip
def test_tensor_that_is_left_on_the_host_is_found(space, monkeypatch, command):
    video = next((space.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))
    monkeypatch.setattr(Device, "move", lambda self, tensor: tensor)
    with on_gpu(monkeypatch), pytest.raises(AssertionError, match="expected all tensors to be on the same device"):
        call(*shlex.split(command.format(video=video)), "-w", space.root)
