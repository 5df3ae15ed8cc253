"""`stmn nets show`: what a network consists of, before it is trained or after."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import train_tiny
from helpers.commands import call, errors_of

from stmn.nets.checkpoint import load_checkpoint

SVG = "{http://www.w3.org/2000/svg}"
RECIPE = """
[recipe]
name = "two"

[[stage]]
id = "a"
uses = "train-stream"
modality = "rgb"
arch = "resnet18"

[[stage]]
id = "m"
uses = "train-stream"
modality = "flow"
arch = "resnet34"
size = 224

[[stage]]
id = "tied"
uses = "fuse"
appearance = "a"
motion = "m"
"""


def shown(*arguments: object) -> list[str]:
    """The lines of the table, without what stands around them."""
    result = call("nets", "show", *arguments)
    assert result.exit_code == 0, result.stderr
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def recipe(folder: Path, *more: str) -> Path:
    path = folder / "two.toml"
    path.write_text(RECIPE + "\n".join(more))
    return path


@pytest.mark.parametrize("how", [["final"], ["final.toml"], ["--recipe", "final"]], ids=" ".join)
def test_the_papers_network_as_a_tree(how):
    lines = shown(*how)
    assert lines[0] == "final, fused: a chunk of 224 x 224 pixels"
    assert "motion resnet152, 20 channels 59.45 M 12.335" in lines
    assert "├─ conv4_x 36 x (1x1 3x3 1x1) 1024x14x14 40.81 M 8.054" in lines
    assert "└─ pool, fc max over T, mean 7x7, dropout 0.8 101 0.21 M <0.001" in lines
    # a gate in each stage of the appearance stream, a filter in each stage of both (Table 1)
    assert sum("unit 2 gate multiplied by motion, pre-ReLU" in line for line in lines) == 4
    assert sum("unit 2 filter over 3 chunks, residual branch" in line for line in lines) == 8


def test_network_of_a_recipe_with_other_classes_and_frames():
    lines = shown("--recipe", "final", "--network", "appearance", "--classes", "51", "--size", "256")
    assert lines[0] == "final, appearance: a chunk of 256 x 256 pixels"
    assert any(line.startswith("├─ conv5_x 3 x (1x1 3x3 1x1) 2048x8x8") for line in lines)
    assert any(line.startswith("└─ pool, fc average over T, mean 7x7 51 ") for line in lines)
    assert not any("gate" in line or "motion" in line for line in lines)


@pytest.mark.parametrize(("options", "expected", "count"), [
    (["site = 'direct'", "fusion = 'add'"], "unit 2 gate motion added, skip path too", 4),
    (["gated_units = 'every_unit'"], "gate multiplied by motion, pre-ReLU", 4),
    (["direction = 'both'", "operand = 'post_relu'"], "unit 2 gate multiplied by", 8),
    (["injector = 'last_unit'", "temporal_length = 5"], "unit 2 filter over 5 chunks, residual branch", 2),
    (["injector = 'residual_and_skip'"], "end filter over 3 chunks, skip path", 8),
    (["injector = 'skip'"], "end filter over 3 chunks, skip path", 8),
    (["injector = 'skip'"], "residual branch", 0),
    (["fusion = 'none'"], "gate", 0),
    (["fusion = 'blended_multiply'"], "unit 2 gate product with motion, blended in, pre-ReLU", 4),
    (["injector = 'residual_every_unit'", "gated_units = 'every_unit'"], "filter over 3 chunks, residual branch", 24),
    (["temporal_window = 5"], "max over 5 chunks, mean 7x7", 2),
    (["prediction = 'concatenated'"], "fused linear layer over both streams", 1),
    (["prediction = 'averaged'"], "fused mean of both streams' logits", 1),
])  # fmt: skip
def test_every_switch_is_seen(options, expected, count, tmp_path):
    assert sum(expected in line for line in shown("--recipe", recipe(tmp_path, *options))) == count


def test_model_has_its_true_number_of_parameters(scratch):
    run = train_tiny(scratch, "flow", steps=1)
    network, _ = load_checkpoint(run.output("model"))
    for place in ([run.path], [run.output("model")], [run.path.name, "--workspace", run.path.parent.parent]):
        result = call("nets", "show", *place, "--json")
        assert result.exit_code == 0, result.stderr
        shown_json = json.loads(result.stdout)
        assert sum(part["parameters"] for part in shown_json["parts"]) == sum(p.numel() for p in network.parameters())
        assert shown_json["network"] == network.config.model_dump(mode="json")


def test_picture_shows_every_gate_and_filter(tmp_path):
    target = tmp_path / "net.svg"
    shown("--recipe", "final", "--svg", target)
    root = ElementTree.parse(target).getroot()
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert "final, fused" in words and "appearance" in words and "resnet152" in words
    assert words.count("T3") == 8 + 1  # and the legend's
    assert "3 more" in words and "33 more" in words and "5 more" in words  # of conv4_x and conv3_x
    assert words.count("loss") == 2
    gates = [c for c in root.iter(f"{SVG}circle") if c.get("r") == "8" and c.get("stroke") == "#c0263a"]
    assert len(gates) == 4 + 1
    width, height = float(root.get("width")), float(root.get("height"))
    for shape in root.iter(f"{SVG}rect"):
        if shape.get("x"):
            assert 0 <= float(shape.get("x")) <= width - float(shape.get("width"))
            assert 0 <= float(shape.get("y")) <= height - float(shape.get("height"))


def test_recipe_is_known_when_seen(tmp_path):
    assert shown(recipe(tmp_path))[0] == "two, tied: a chunk of 224 x 224 pixels"
    assert shown(recipe(tmp_path), "--network", "m")[0] == "two, m: a chunk of 224 x 224 pixels"


def test_run_wins_over_a_recipe_of_its_name(scratch):
    run = train_tiny(scratch, "flow", steps=1)
    run.path.rename(run.path.with_name("final"))
    assert "resnet18" in "".join(shown("final", "-w", scratch.root))
    assert shown("--recipe", "final", "-w", scratch.root)[0].startswith("final, fused: ")


def test_what_cannot_be_shown_is_one_line(tmp_path, scratch):
    def refusal(*arguments: object, code: int = 2) -> str:
        result = call("nets", "show", *arguments)
        assert result.exit_code == code
        [line] = errors_of(result)
        return line

    assert refusal() == "name a run, a model file or a recipe"
    assert "stage 'motoin' trains no network (did you mean 'motion'?)" in refusal(
        "--recipe", "final", "--network", "motoin"
    )
    assert "no.safetensors': no such file, and no finished run" in refusal(tmp_path / "no.safetensors")
    assert "--network chooses a network of a recipe" in refusal(
        train_tiny(scratch, "flow", steps=1).path, "--network", "motion"
    )
    unequal = recipe(tmp_path)
    unequal.write_text(unequal.read_text().replace("resnet34", "resnet50"))
    assert "resnet18 and resnet50 can't be tied: their parts have [64, 128, 256, 512]" in refusal("--recipe", unequal)
