"""The controls that find out what gates do: trainings in which one thing is taken away."""

import pytest
import torch
from helpers.commands import call, errors_of, over
from safetensors.torch import load_file

from stmn.nets.checkpoint import read_description
from stmn.workspace import Run, Workspace

TINY = [
    "--chunks", 2, "--batch", 8, "--micro-batch", 8, "--steps", 2, "--stride-min", 1, "--stride-max", 2, "--lr", 0.05,
    "--schedule", "cosine", "--validation", 0,
]  # fmt: skip


def fuse(workspace: Workspace, *flags: object) -> Run:
    result = call(*over(["fuse", *TINY], *flags), "-w", workspace.root)
    assert result.exit_code == 0, result.stderr
    return max(workspace.runs(), key=lambda run: run.path.stat().st_mtime_ns)


@pytest.mark.parametrize(("flags", "line"), [
    ("--fusion none --site direct", "site = direct describes gates, and fusion = none has none: leave site out"),
    ("--fusion stmn:none --direction both", "direction = both describes gates, and fusion = none has none: leave "
     "direction out"),
])  # fmt: skip
def test_what_contradicts_a_control_is_refused(trained, flags, line):
    before = set(trained.runs_dir.iterdir())
    refused = call("fuse", *TINY, *flags.split(), "-w", trained.root)
    assert refused.exit_code == 2 and errors_of(refused) == [f"fuse: {line}"]
    assert set(trained.runs_dir.iterdir()) == before


def test_untied_pair_is_trained_tested_and_shown(own, tmp_path):
    run = fuse(own, "--fusion", "none")
    assert run.name.startswith("fused-none-")
    assert read_description(run.output("model")).network.gate.fusion == "none"
    assert not [name for name in load_file(run.output("model")) if name.startswith("gates.")]
    assert call("evaluate", run.path, "--chunks", 2, "-w", own.root).exit_code == 0
    shown = call("nets", "show", run.path, "--svg", tmp_path / "untied.svg")
    assert shown.exit_code == 0 and "gate" not in shown.stdout + (tmp_path / "untied.svg").read_text()
    video = next((own.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))
    overlay = tmp_path / "overlay.mp4"
    seen = call("predict", run.output("model"), video, "--overlay", overlay)
    assert seen.exit_code == 0 and overlay.exists(), seen.stderr


def test_blended_gates_learn_at_the_rate_of_new_layers(own):
    """How far a scale has moved after one step is its gradient times the rate."""
    moved = {}
    for rate in (1, 5):
        run = fuse(own, "--fusion", "blended_multiply", "--steps", 1, "--lr-new", rate)
        weights = load_file(run.output("model"))
        moved[rate] = weights["gates.appearance_conv3_unit2.scale"]
        assert call("evaluate", run.path, "--chunks", 2, "-w", own.root).exit_code == 0
    assert moved[1].abs().max() > 0
    assert torch.allclose(moved[5], 5 * moved[1], rtol=1e-4)
