"""What a person sees on a terminal: colours that can be turned off, bars that fit the line."""

import re

import pytest
from helpers.terminal import COLOUR, on_terminal, screen_lines

from stmn.cli.display import fit_fields

TRAINING = [
    "train-stream", "--arch", "resnet18", "--width", "0.25", "--weights", "none", "--size", "32", "--batch", "8",
    "--micro-batch", "8", "--steps", "30", "--schedule", "cosine", "--validation", "0.2",
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "code"), [
    (["fuse", "--help"], 0),
    (["fues"], 2),
    (["fuse", "--site", "resdual"], 2),
    (["run", "nothing"], 2),
    (["recipes", "show", "nothing"], 2),
    (["predict", "nothing.safetensors", "nothing.mp4"], 2),
], ids=lambda value: " ".join(value) if isinstance(value, list) else str(value))  # fmt: skip
def test_no_color_is_honoured(arguments, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert COLOUR.search(on_terminal(*arguments, code=code))
    assert not COLOUR.search(on_terminal(*arguments, code=code, NO_COLOR="1"))


def test_no_color_is_honoured_by_install_completion(tmp_path):
    home = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    assert COLOUR.search(on_terminal("--install-completion", "bash", **home))
    assert not COLOUR.search(on_terminal("--install-completion", "bash", NO_COLOR="1", **home))


def test_only_the_names_in_help_stand_out():
    text = on_terminal("fuse", "--help")
    assert "\x1b[1;36m--seed\x1b[0m\x1b[33m N\x1b[0m " in text
    assert re.search(r"\x1b\[0m +random seed \x1b\[2m\[default: 0\]\x1b\[0m", text)


@pytest.mark.parametrize("columns", [60, *(pytest.param(n, marks=pytest.mark.slow) for n in (80, 100, 160))])
def test_bar_of_a_training_fits_the_line(columns, scratch):
    text = on_terminal(*TRAINING, "-w", scratch.root, columns=columns)
    bars = [line for line in screen_lines(text) if line.startswith("training ")]
    assert bars
    assert max(map(len, bars)) <= columns
    assert "\x1b[1A" not in text, "a bar takes several lines"
    last = bars[-1]
    assert "30/30" in last and "loss " in last
    if columns >= 80:
        assert "acc" in last and "val" in last
    if columns >= 160:
        assert "validation error" in last and "data wait" in last and "steps/s" in last


@pytest.mark.parametrize(("width", "text"), [
    (80, "loss 0.312  accuracy 0.923  validation error 0.31  lr 0.01  data wait 3%"),
    (60, "loss 0.312  acc 0.923  val error 0.31  lr 0.01  wait 3%"),
    (45, "loss 0.312  acc 0.923  val error 0.31"),
    (25, "loss 0.312  acc 0.923"),
    (5, ""),
])  # fmt: skip
def test_least_important_fields_give_way_first(width, text):
    fields = {"loss": 0.31234, "accuracy": 0.9234, "lr": 0.01, "data_wait": "3%", "validation_error": 0.31}
    assert fit_fields(fields, width) == text
