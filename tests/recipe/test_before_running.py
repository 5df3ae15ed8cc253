"""What would stop a recipe after days is said before its first stage runs."""

import pytest
from helpers.commands import call, errors_of, write_recipe
from helpers.hub import use_cache

from stmn.errors import UsageError
from stmn.recipe.load import load_recipe
from stmn.recipe.networks import check_recipe

TINY = 'uses = "train-stream"\narch = "resnet18"\nwidth = 0.125\nsize = 32\nweights = "none"\nbatch = 4\nvalidation = 0.0\nsteps = 1\nschedule = "cosine"'  # fmt: skip
PROCESSES = {"RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


@pytest.mark.parametrize("command", [["run"], ["recipes", "validate"]])
def test_missing_weights_of_all_stages_are_one_line(command, tmp_path, monkeypatch):
    use_cache(monkeypatch, tmp_path / "hub")
    monkeypatch.chdir(tmp_path)
    result = call(*command, "final")
    assert result.exit_code == 2
    [line] = errors_of(result)
    assert line.endswith(
        "final.toml: the ImageNet weights of resnet50 and resnet152 are not on this machine; download them with: "
        "stmn weights resnet50 resnet152"
    )
    assert not (tmp_path / "runs").exists()


def test_only_what_is_missing_is_named(tmp_path, monkeypatch):
    use_cache(monkeypatch, tmp_path / "hub", "resnet50")
    [line] = errors_of(call("recipes", "validate", "final"))
    assert "weights of resnet152 are not on this machine; download them with: stmn weights resnet152" in line


def test_final_starts_from_imagenet_and_ties_on_the_full_list():
    recipe = load_recipe("final")
    given = {stage.id: stage.given for stage in recipe.stages}
    assert [given[name]["weights"] for name in ("appearance", "motion")] == ["imagenet", "imagenet"]
    assert given["fused"]["validation"] == 0 and given["fused"]["schedule"] == "steps"


def test_final_has_too_few_micro_batches_for_eight_gpus(tmp_path, monkeypatch):
    use_cache(monkeypatch, tmp_path / "hub", "resnet50", "resnet152")
    recipe = load_recipe("final")
    check_recipe(recipe, processes=4)
    with pytest.raises(UsageError) as refused:
        check_recipe(recipe, processes=8)
    assert str(refused.value) == (
        f"{recipe.path}: stage 2 ('motion'): a step has 4 micro-batches (batch = 128, micro_batch = 32) for 8 "
        f"processes: set micro_batch = 16 or less, or use 4 processes"
    )
    text = recipe.path.read_text().replace("batch = 128\nlr = 1e-2", "batch = 128\nmicro_batch = 16\nlr = 1e-2")
    (tmp_path / "mine.toml").write_text(text)
    check_recipe(load_recipe(str(tmp_path / "mine.toml")), processes=8)


@pytest.mark.parametrize(("processes", "remedy"), [
    (2, "set micro_batch = 2 or less, or use one process"),
    (8, "set a larger batch, or use one process"),
])  # fmt: skip
def test_torchrun_is_refused_before_the_first_stage(processes, remedy, tmp_path, monkeypatch):
    recipe = write_recipe(
        tmp_path / "w.toml", 'name = "w"', f'id = "looks"\n{TINY}', f'id = "moves"\n{TINY}\nmodality = "flow"'
    )
    for name, value in (PROCESSES | {"WORLD_SIZE": str(processes)}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as refused:
        check_recipe(load_recipe(str(recipe)), processes=processes)
    lines = str(refused.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["stage 1 ('looks')", "stage 2 ('moves')"]
    assert all(line.endswith(f"for {processes} processes: {remedy}") for line in lines)


def test_scores_file_that_is_not_there_is_named_at_once(tmp_path, monkeypatch, scratch):
    recipe = write_recipe(
        tmp_path / "w.toml", 'name = "w"\ndata = "synthetic"', f'id = "looks"\n{TINY}',
        'id = "test"\nuses = "evaluate"\nmodel = "looks"\nchunks = 1',
        'id = "with-idt"\nuses = "fuse-idt"\nscores = "test"\nidt_scores = "idt/split1.safetensors"',
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    refused = call("run", recipe, "-w", scratch.root)
    assert refused.exit_code == 2
    assert errors_of(refused) == [
        f"{recipe}: stage 3 ('with-idt'): idt_scores = 'idt/split1.safetensors': no such file"
    ]
    assert not scratch.runs_dir.exists()
    assert call("run", recipe, "-w", scratch.root, "--until", "test").exit_code == 0, "nothing before it needs the file"
