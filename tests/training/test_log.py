"""The log of a training run: metrics.jsonl, TensorBoard on request, and a notice about waiting for data."""

import json
import shlex
import sys
import time

import pytest
from conftest import train_tiny
from helpers.commands import call, errors_of
from helpers.trainings import CPU, network, steps, videos

from stmn.errors import Interrupted
from stmn.runtime.progress import Silent
from stmn.training.loggers import LoggerChoice
from stmn.training.loop import train

TRAIN = shlex.split(
    "train-stream --modality flow --arch resnet18 --width 0.125 --weights none --size 32 --batch 8 --micro-batch 8 "
    "--steps 20 --validation 0.3 --lr 0.01"
)


class Listener(Silent):
    """Keeps the notices, and the fields shown beside the progress bar."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.fields: dict[str, object] = {}

    def say(self, line: str) -> None:
        self.lines.append(line)

    def advance(self, count: int = 1, **fields: object) -> None:
        self.fields |= fields


def test_log_rows_have_all_columns(scratch):
    done = call(*TRAIN, "--workspace", scratch.root)
    assert done.exit_code == 0
    (run,) = scratch.runs()
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20]
    assert set(rows[0]) == {
        "step", "epoch", "loss", "accuracy", "rate", "gradient_norm", "videos_per_second", "data_wait",
        "validation_error",
    }  # fmt: skip
    assert rows[0]["gradient_norm"] > 0 and 0 <= rows[0]["data_wait"] < 1
    [last] = [line for line in done.stderr.splitlines() if line.startswith("training: 20/20 steps, ")]
    assert all(word in last for word in ("loss", "accuracy", "validation error", "lr 0.01", "data wait"))


@pytest.mark.parametrize(("data_seconds", "network_seconds", "lines"), [(0.0, 0.3, 0), (0.05, 0.0, 1)])
def test_long_waits_for_data_are_reported_once_with_advice(prepared, tmp_path, data_seconds, network_seconds, lines):
    clips, net, listener = videos(prepared), network(), Listener()
    fill = clips.fill_row

    def slowly(*arguments: object) -> None:
        time.sleep(data_seconds)
        fill(*arguments)

    clips.fill_row = slowly
    stem = net.get_submodule("streams.motion.backbone.conv1")
    stem.register_forward_hook(
        lambda *_: time.sleep(network_seconds)
    )  # one is slow by far, however busy the machine is
    for number in range(24):  # so that every picture is in the cache
        clips[0, number]
    train(net, clips, None, steps(8, log_every=2), CPU, tmp_path, listener)
    said = [line for line in listener.lines if "waiting for data" in line]
    assert len(said) == lines
    assert all("% of the time" in line and "--cache-mb" in line and "--short-side" in line for line in said)


def test_tensorboard_shows_each_row_once_even_after_resuming(prepared, tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    class Stop(Listener):
        def advance(self, count: int = 1, **fields: object) -> None:
            self.left = getattr(self, "left", 5) - count
            if self.left < 0:
                raise Interrupted("stopped by the test")

    plan = steps(8, log_every=2, checkpoint_minutes=1e-9, logger=LoggerChoice("tensorboard"))
    with pytest.raises(Interrupted):
        train(network(), videos(prepared), None, plan, CPU, tmp_path, Stop())
    state = train(network(), videos(prepared), None, plan, CPU, tmp_path, Silent())
    board = reading.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(board.Tags()["scalars"]) == set(state.history[0]) - {"step"}
    losses = [(event.step, event.value) for event in board.Scalars("loss")]
    assert losses == [(row["step"], pytest.approx(row["loss"])) for row in state.history]


def test_tensorboard_is_written_of_a_finished_training_too(own):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    before = train_tiny(own, "flow").record["finished"]
    run = train_tiny(own, "flow", logger="tensorboard")
    assert run.record["finished"] == before  # it was up to date
    board = reading.EventAccumulator(str(run.path / "tensorboard")).Reload()
    rows = [json.loads(line) for line in run.output("metrics").read_text().splitlines()]
    assert [(event.step, event.value) for event in board.Scalars("loss")] == [
        (row["step"], pytest.approx(row["loss"])) for row in rows
    ]


def test_missing_tensorboard_names_its_extra(scratch, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    refused = call(*TRAIN, "--logger", "tensorboard", "--workspace", scratch.root)
    assert refused.exit_code == 1
    assert errors_of(refused) == [
        "--logger tensorboard needs the package 'tensorboard': pip install 'stmn[tensorboard]'"
    ]
