"""`stmn doctor`: versions, what computes what, every extra with what it gives and how to get it, folders."""

import json
import platform
import tomllib
from pathlib import Path

import pytest
from helpers.commands import call

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def test_extras_say_what_they_give_and_how_to_get_them(monkeypatch):
    from stmn.cli import doctor

    lacking = {"onnx", "matplotlib"}
    there = doctor._package_version
    monkeypatch.setattr(doctor, "_package_version", lambda name: "missing" if name in lacking else there(name))
    extras = json.loads(call("doctor", "--json").stdout)["extras"]
    known = set(PROJECT["optional-dependencies"]) - {"all", "dev"}
    assert {"export", "openvino", "report", "hub"} <= set(extras) <= known
    assert set(doctor._GIVES) >= known, "every extra says what it gives"
    assert extras["report"]["missing"] == ["matplotlib"] and not extras["report"]["installed"]
    assert "onnx" in extras["openvino"]["missing"], "an extra may have another one"
    text = call("doctor").stdout
    assert "lacks matplotlib: pip install 'stmn[report]'" in text


def test_kernels_and_flow(monkeypatch, tmp_path):
    found = json.loads(call("doctor", "--json").stdout)
    assert set(found["kernels"]) == {"tvl1", "farneback", "cut", "winograd", "histograms", "camera", "steps"}
    assert found["flow"].startswith("tvl1 by ") and " on the CPU (" in found["flow"]
    assert str(Path.cwd()) in found["folders"]["workspace"]
    monkeypatch.setenv("HF_HOME", "/models")
    assert json.loads(call("doctor", "--json").stdout)["folders"]["hub"] == f"{Path('/models/hub')}, not there yet"
    monkeypatch.setenv("CC", str(tmp_path / "none"))
    without = json.loads(call("doctor", "--json").stdout)["kernels"]
    assert without["cut"] in (
        "in the package",
        "unavailable: cutting pictures takes 20 times as long without its C kernel",
    )


@pytest.mark.cuda
def test_gpu_computes_flow_for_many_videos():
    flow = json.loads(call("doctor", "--json").stdout)["flow"]
    assert flow.startswith("tvl1 by Triton's kernels on cuda:0 (")
    assert flow.endswith("; on the CPU for fewer than 20 videos")


def test_system_that_has_never_been_run_on_is_named(monkeypatch):
    assert json.loads(call("doctor", "--json").stdout)["system"].startswith(platform.system())
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert (
        "system:          Darwin arm64: stmn should run on it, but has not been run on it yet" in call("doctor").stdout
    )


@pytest.mark.parametrize(("has", "says"), [
    ({"avx2": True, "avx512_bf16": True}, "; it has bfloat16: --precision bfloat16 trains faster"), ({"avx2": True}, ""),
])  # fmt: skip
def test_cpu_with_bfloat16_is_pointed_out(monkeypatch, has, says):
    import torch

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    device = json.loads(call("doctor", "--json").stdout)["device"]
    assert device.startswith("cpu: ") and device.endswith(says or ("core", "cores")[not device.startswith("cpu: 1 ")])
