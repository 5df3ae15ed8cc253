"""`stmn benchmark` times a model in what can run it, side by side."""

import json

import pytest
import torch
from helpers.commands import call, errors_of
from helpers.packages import on_path

from stmn import registry


def test_benchmark_times_what_runs_and_says_why_the_rest_does_not(trained, tmp_path, monkeypatch):
    def no_compiler(*_, **__):
        raise RuntimeError("no working C++ compiler\nfound")

    monkeypatch.setattr(torch, "compile", no_compiler)
    plugins = registry.plugins
    monkeypatch.setattr(registry, "plugins", lambda kind: [p for p in plugins(kind) if p.name in ("pt2", "broken")])
    command = ("benchmark", "appearance", "-w", trained.root, "--chunks", 2, "--repeats", 2)
    with on_path(tmp_path / "site", monkeypatch) as packages:
        packages.install("parts", "1 / 0", exporter={"broken": "Exporter"})
        found = json.loads(call(*command, "--json").stdout)
    assert found["inputs"] == {"rgb": [1, 2, 3, 32, 43]} and found["accuracy_videos"] == 12
    rows = {row["name"]: row for row in found["runtimes"]}
    assert rows.pop("compiled") == {"name": "compiled", "problem": "can't run here: no working C++ compiler"}
    assert rows.pop("broken")["problem"].startswith("exporter 'broken' of package parts 1.0 can't be imported: Zero")
    assert rows.keys() == {"eager", "predict", "pt2"}
    for row in rows.values():
        assert len(row["passes_ms"]) == 2 and 0 < row["milliseconds"] <= max(row["passes_ms"]) + 0.001
        assert row["relative_difference"] < 1e-5 and row["accuracy"] == rows["eager"]["accuracy"]
    assert rows["pt2"]["bytes"] > 1e6 and rows["eager"]["bytes"] is None


@pytest.mark.slow
def test_table_has_a_row_for_each_runtime(trained):
    result = call("benchmark", "appearance", "-w", trained.root, "--chunks", 2, "--repeats", 1)
    assert result.exit_code == 0, result.stderr
    for name in ("eager", "predict", "compiled", "onnx", "onnx int8", "openvino", "pt2"):
        assert any(line.startswith(f"{name} ") for line in result.stdout.splitlines()), result.stdout


def test_benchmark_needs_a_model_file(trained, onnx_file, tmp_path):
    assert errors_of(call("benchmark", "nothing", "-w", trained.root))[0].startswith("'nothing': no such file")
    [error] = errors_of(call("benchmark", onnx_file, "-w", trained.root))
    assert str(onnx_file) in error
