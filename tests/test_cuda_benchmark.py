"""The benchmark of a GPU: what is kept of it if it is killed, or if something fails, and that its numbers are true.

Machines are modelled here, so that the speed that has to be found is known. Its parts run in `test_benchmarks`.
"""

import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.cuda import __main__ as main
from stmn.errors import StmnError
from stmn.evaluation.protocol import Protocol
from stmn.evaluation.video_input import VideoInput
from stmn.runtime.device import Device, choose_device
from stmn.store.format.read import Store

CHECKOUT = Path(__file__).parents[1]
CPU, GPU = choose_device("cpu"), Device(torch.device("cuda"), torch.bfloat16, cuts_pictures=True)


@pytest.fixture
def evaluate() -> Any:
    pytest.importorskip("cv2")
    from benchmarks.cuda import evaluate

    return evaluate


@pytest.fixture
def loader() -> Any:
    pytest.importorskip("cv2")
    from benchmarks.cuda import loader

    return loader


@pytest.fixture
def training() -> Any:
    pytest.importorskip("cv2")
    from benchmarks.cuda import training

    return training


# The file


def measure_parts(monkeypatch: pytest.MonkeyPatch, path: Path, **parts: Callable[[], Any]) -> Any:
    """Run the benchmark with parts that do what is given; what is in its file, whether it ends well or not."""
    made = {
        f"benchmarks.cuda.{name}": SimpleNamespace(measure=lambda *_, part=part: part()) for name, part in parts.items()
    }
    monkeypatch.setattr(main.importlib, "import_module", made.__getitem__)
    monkeypatch.setattr(main, "measure_gpu", lambda *_: {"bfloat16_tflops": 400.0})
    with suppress(KeyboardInterrupt):
        main.measure(Namespace(json=path, part=list(parts), device="cpu", quick=True))
    return json.loads(path.read_text())


def kill() -> Any:
    raise KeyboardInterrupt


def fail() -> Any:
    raise RuntimeError("GET was unable to find an engine to execute this computation")


def test_run_that_is_killed_has_the_parts_before(monkeypatch, tmp_path):
    found = measure_parts(monkeypatch, tmp_path / "cuda.json", flow=lambda: {"rows": 1}, training=kill)
    assert found["flow"] == {"rows": 1} and found["gpu"]["bfloat16_tflops"] == 400.0
    assert "training" not in found


def test_part_that_fails_says_why_and_the_others_go_on(monkeypatch, tmp_path):
    found = measure_parts(monkeypatch, tmp_path / "cuda.json", flow=fail, training=lambda: {"rows": 2})
    assert found["flow"] == {"error": "RuntimeError: GET was unable to find an engine to execute this computation"}
    assert found["training"] == {"rows": 2}


def test_parts_can_be_measured_one_by_one(monkeypatch, tmp_path):
    path = tmp_path / "cuda.json"
    measure_parts(monkeypatch, path, flow=fail, loader=lambda: {"rows": 1})
    found = measure_parts(monkeypatch, path, flow=lambda: {"rows": 3})
    assert (found["flow"], found["loader"]) == ({"rows": 3}, {"rows": 1})


@pytest.mark.parametrize("change", [{"torch": "1.0"}, {"quick": False}, {"gpu": {"device": "cuda"}}])
def test_parts_of_another_machine_or_size_are_not_kept(monkeypatch, tmp_path, change):
    path = tmp_path / "cuda.json"
    found = measure_parts(monkeypatch, path, loader=lambda: {"rows": 1})
    path.write_text(json.dumps(found | change))
    assert "loader" not in measure_parts(monkeypatch, path, flow=lambda: {"rows": 3})


def test_part_needs_only_its_own_packages(tmp_path):
    """Flow runs without OpenCV and timm, which other parts need."""
    script = (
        "import runpy, sys; sys.modules |= dict.fromkeys(['cv2', 'timm']); "
        "runpy.run_module('benchmarks.cuda', run_name='__main__', alter_sys=True)"
    )
    words = ["--json", tmp_path / "cuda.json", "--device", "cpu", "--quick", "--part", "flow"]
    done = subprocess.run([sys.executable, "-c", script, *words], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "cuda.json").read_text())["flow"]["torch"]["measured"] > 0


# Training


def test_case_of_training_that_fails_says_why_and_the_others_go_on(training, monkeypatch):
    train = training.train

    def train_one_stream(network: Any, *given: Any) -> Any:
        return train(network, *given) if len(network.names) == 1 else fail()

    monkeypatch.setattr(training, "train", train_one_stream)
    found = training.measure(CPU, quick=True)
    assert found["appearance"]["measured"] > 0
    assert "unable to find an engine" in found["pair"]["error"]


def test_quick_look_at_a_gpu_compiles(training):
    def compiled(device: Device, quick: bool) -> list[str]:
        return [case.compiled for case in training.choose_cases(device, quick).values() if case.compiled]

    assert compiled(GPU, quick=False) == ["default", "reduce-overhead"]
    assert compiled(GPU, quick=True) == ["reduce-overhead"]
    assert compiled(CPU, quick=True) == []


# Prepare


def model_prepare(monkeypatch: pytest.MonkeyPatch, cores: int, a_frame: float, flow_speed: float) -> dict[str, Any]:
    """What the part says of a machine, and as `written` how many videos were encoded.

    Args:
        a_frame: seconds of a core for a frame.
        flow_speed: frames per second of the GPU.
    """
    from benchmarks.cuda import prepare

    def prepare_seconds(videos: Path, *_: object) -> float:
        count = len(list(videos.rglob("*.mp4")))
        rounds = -(-count // cores)  # a core works on one video at a time, and hands over chains of 17 frames
        return 6.0 + max(rounds * 300 * a_frame, 17 * a_frame + count * 300 / flow_speed)

    def write(path: Path, frames: Iterator[Any]) -> None:
        written.append(path)
        path.touch()

    written: list[Path] = []
    monkeypatch.setattr(prepare, "count_cores", lambda: cores)
    monkeypatch.setattr(prepare, "prepare_seconds", prepare_seconds)
    monkeypatch.setattr(prepare, "worker_seconds", lambda *_: a_frame)
    monkeypatch.setattr(prepare, "seconds_of", lambda *_: 128 / flow_speed)
    monkeypatch.setattr(prepare, "write_video", write)
    monkeypatch.setattr(prepare, "moving_frames", lambda count, *_: torch.zeros(count, 2, 2))
    return prepare.measure(CPU, quick=False) | {"written": len(written)}


@pytest.mark.parametrize("cores", [1, 6, 16, 192])
def test_prepare_has_the_true_speed_where_cores_are_the_limit(monkeypatch, cores):
    row = model_prepare(monkeypatch, cores, a_frame=2.4e-3, flow_speed=1e6)
    assert row["measured"] == pytest.approx(cores / 2.4e-3, rel=1e-3)
    assert row["share"] == 1.0 and row["limit_is"] == f"decoding and encoding on {cores} cores"


@pytest.mark.parametrize("cores", [16, 192])
def test_prepare_has_the_true_speed_where_the_gpu_is_the_limit(monkeypatch, cores):
    row = model_prepare(monkeypatch, cores, a_frame=2.4e-3, flow_speed=900.0)
    assert row["measured"] == pytest.approx(900.0, rel=1e-3)
    assert row["share"] == 1.0 and row["limit_is"] == "flow on cpu"


def test_prepare_needs_one_video(monkeypatch):
    """All others are links to it, and on a large machine there are no more than two for each core."""
    row = model_prepare(monkeypatch, 192, a_frame=2.4e-3, flow_speed=5000.0)
    assert row["written"] == 1 and row["videos"] == [192, 384]


# Loader and evaluate


def test_loader_has_the_true_speed(loader, monkeypatch):
    """Five batches are worked at. Each takes a second of the machine, so the last ones, half done, take less."""
    clock = 0.0

    def load_batches(samples: object, order: Sequence[object], *_: object, **__: object) -> Iterator[object]:
        nonlocal clock
        count = len(list(order))
        for number in range(count):
            clock += 1.0 if number + 5 < count else 0.5
            yield {}

    monkeypatch.setattr(loader, "load_batches", load_batches)
    monkeypatch.setattr(loader.time, "perf_counter", lambda: clock)
    assert loader.measure_once(range(24), 60, CPU) == loader.VIDEOS * loader.CHUNKS


def test_reading_keeps_all_threads_busy_and_pins_pictures(evaluate, monkeypatch):
    pinned: list[VideoInput] = []
    monkeypatch.setattr(Device, "overlaps_copies", True)
    monkeypatch.setattr(VideoInput, "pinned", lambda given: pinned.append(given) or given)
    four, how = choose_device("cpu", threads=4), Protocol(chunks=3, short_side=64, crop=56)
    with Store(evaluate.rendered_set(quick=True)) as store:
        assert evaluate.reading_speed(store, store.part("1", "train")[:2], how, four, (0, 1)) > 0
    assert len(pinned) == 4 * evaluate.READS >= 32


# Runtimes


class Session:
    """A session of an ONNX Runtime that only notes what it was given."""

    def __init__(self, path: str, options: object, providers: list[tuple[str, dict[str, str]]]) -> None:
        self.providers = providers


def pretend_runtime(monkeypatch: pytest.MonkeyPatch, *providers: str) -> None:
    made = SimpleNamespace(
        SessionOptions=SimpleNamespace, InferenceSession=Session, get_available_providers=lambda: list(providers)
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", made)


def test_float32_of_onnx_runtime_is_float32(training, monkeypatch, tmp_path):
    """The default of its CUDA provider is TF32; TensorRT always uses it."""
    from benchmarks.cuda import runtimes

    pretend_runtime(monkeypatch)
    second = Device(torch.device("cuda:1"))
    assert runtimes.open_session(tmp_path, runtimes.CUDA, second).providers == [
        (runtimes.CUDA, {"device_id": "1", "use_tf32": "0"})
    ]
    assert runtimes.open_session(tmp_path, runtimes.TENSORRT, second).providers == [
        (runtimes.TENSORRT, {"device_id": "1"}),
        (runtimes.CUDA, {"device_id": "1", "use_tf32": "1"}),
    ]
    assert runtimes.open_session(tmp_path, runtimes.CPU, CPU).providers == [(runtimes.CPU, {})]


def test_runtime_without_a_provider_leaves_pytorchs_row_and_exports_nothing(training, monkeypatch):
    from benchmarks.cuda import runtimes

    pretend_runtime(monkeypatch, "AzureExecutionProvider")
    monkeypatch.setattr(runtimes.OnnxExporter, "write", lambda *_: pytest.fail("nothing would run the file"))
    found = runtimes.measure(CPU, quick=True)
    assert found["pytorch"]["videos_a_second"] > 0
    assert found[runtimes.CPU] == {"absent": "this onnxruntime has AzureExecutionProvider"}
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "onnxruntime" in runtimes.measure(CPU, quick=True)[runtimes.CPU]["absent"]


def test_provider_that_fails_leaves_the_other_rows(training, monkeypatch):
    from benchmarks.cuda import runtimes

    pretend_runtime(monkeypatch, runtimes.CPU)
    monkeypatch.setattr(runtimes, "open_session", lambda *_: fail())
    monkeypatch.setattr(runtimes.OnnxExporter, "write", lambda *_: None)
    found = runtimes.measure(CPU, quick=True)
    assert found["pytorch"]["precision"] == "float32" and "unable to find an engine" in found[runtimes.CPU]["error"]


def test_export_that_fails_leaves_pytorchs_row(training, monkeypatch):
    from benchmarks.cuda import runtimes

    def refuse(*_: object) -> None:
        raise StmnError("export: no")

    pretend_runtime(monkeypatch, runtimes.CPU)
    monkeypatch.setattr(runtimes.OnnxExporter, "write", refuse)
    found = runtimes.measure(CPU, quick=True)
    assert found["pytorch"]["videos_a_second"] > 0 and found["export"] == {"error": "StmnError: export: no"}
