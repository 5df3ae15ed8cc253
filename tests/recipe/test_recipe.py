"""Recipes: found by name, checked as a whole, shown, copied."""

import json
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from helpers.commands import call, errors_of, write_recipe
from helpers.hub import use_cache

import stmn
from stmn.errors import UsageError
from stmn.recipe.load import list_recipes, load_recipe

RECIPES = Path(stmn.__file__).parents[1] / "recipes"
FUSED = 'id = "fused"\nuses = "fuse"\nappearance = "rgb"\nmotion = "flow"'
FULL_LIST = 'validation = 0\nschedule = "steps"'
STREAM = 'id = "{0}"\nuses = "train-stream"\nmodality = "{0}"'


def test_every_recipe_file_is_listed():
    files = {path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.toml")}
    assert {"demo", "final"} <= files
    assert set(list_recipes()) == files
    rows = call("recipes", "list").stdout.splitlines()
    assert [row.split()[0] for row in rows] == sorted(files, key=lambda name: ("/" in name, name))
    assert all(len(row.split()) > 3 for row in rows), "each says what it is about"


@pytest.mark.parametrize("name", [path.stem for path in sorted(RECIPES.glob("*.toml"))])
def test_every_recipe_file_is_valid(name, tmp_path, monkeypatch):
    use_cache(monkeypatch, tmp_path, "resnet50", "resnet152")
    result = call("recipes", "validate", RECIPES / f"{name}.toml")
    assert result.exit_code == 0, result.stderr
    assert load_recipe(name).name == name


@pytest.mark.parametrize("name", ["final", "final.toml", "recipes/final.toml"])
def test_a_recipe_is_found_by_name_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("recipes", "show", name).stdout == (RECIPES / "final.toml").read_text()


def test_a_file_wins_over_a_recipe_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path / "final.toml", 'name = "mine"', STREAM.format("rgb"))
    assert load_recipe("final.toml").name == "mine"
    assert load_recipe("final").name == "final"


def test_an_unknown_recipe_names_the_near_one():
    result = call("run", "finale")
    assert result.exit_code == 2
    assert errors_of(result) == [f"finale: no such recipe (did you mean 'final'?); known: {', '.join(list_recipes())}"]


def test_all_mistakes_are_listed_and_nothing_runs(tmp_path):
    recipe = write_recipe(
        tmp_path / "wrong.toml", 'name = "wrong"',
        'id = "videos"\nuses = "prepare"\ndataset = "synthetic"\ndataset_options = { train = 4, test = 4 }',
        STREAM.format("rgb") + "\nstesp = 3",
        STREAM.format("flow"),
        'id = "fused"\nuses = "fuse"\nappearance = "rgb"\nmotion = "flwo"\nfusion = "multply"',
    )  # fmt: skip
    mistakes = [
        f"{recipe}: stage 2 ('rgb'): unknown option 'stesp' (did you mean 'steps'?)",
        f"{recipe}: stage 4 ('fused'): motion = 'flwo': no earlier stage has this id (did you mean 'flow'?)",
        f"{recipe}: stage 4 ('fused'): fusion: unknown fusion 'multply' (did you mean 'multiply'?); "
        f"known: {', '.join(sorted(known.name for known in entry_points(group='stmn.fusions')))}",
    ]
    for command in (["recipes", "validate", recipe], ["run", recipe, "-w", tmp_path / "work"]):
        result = call(*command)
        assert result.exit_code == 2
        assert errors_of(result) == mistakes
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "work").exists()


def test_all_mistakes_of_one_stage_are_listed(tmp_path):
    recipe = write_recipe(
        tmp_path / "wrong.toml", 'name = "wrong"', STREAM.format("rgb"), STREAM.format("flow"),
        'id = "fused"\nuses = "fuse"\nappearance = "rbg"\nmotion = "flow"\nfusion = "addd"\nlr = "much"\n'
        'site = "skip"\nstride = 4\nchunks = 0',
    )  # fmt: skip
    found = errors_of(call("recipes", "validate", recipe))
    where = f"{recipe}: stage 3 ('fused'): "
    assert all(line.startswith(where) for line in found)
    assert sorted(line.removeprefix(where).split()[0] for line in found) == [
        "appearance", "chunks", "fusion:", "lr", "site", "unknown",
    ]  # fmt: skip
    text = "\n".join(found)
    assert "(did you mean 'rgb'?)" in text
    assert "(did you mean 'add'?)" in text
    assert "'residual' or 'direct'" in text
    assert "unknown option 'stride' (did you mean 'stride_m" in text


@pytest.mark.parametrize(("stage", "mistake"), [
    ('id = "a"\nuses = "train-steam"', "uses = 'train-steam': no such stage (did you mean 'train-stream'?)"),
    ('uses = "report"', "stage 2: has no id"),
    ('id = "rgb"\nuses = "report"', "stage 2 ('rgb'): another stage has this id already"),
    ('id = "a"\nuses = ["report"]', "uses = ['report']: no such stage"),
    ('id = 5\nuses = "report"', "stage 2: its id is not text"),
    ('id = "a"\nuses = "train-stream"\narch = "resnt50"', "arch"),
])  # fmt: skip
def test_mistakes_of_a_stage(stage, mistake, tmp_path):
    recipe = write_recipe(tmp_path / "wrong.toml", 'name = "wrong"', STREAM.format("rgb"), stage)
    with pytest.raises(UsageError) as caught:
        load_recipe(str(recipe))
    assert mistake in str(caught.value)


@pytest.mark.parametrize(("text", "mistake"), [
    ("[recipe\n", "not readable as TOML"),
    ("", "[recipe] has no name"),
    ('[recipe]\nname = "a"\n', "no [[stage]] tables"),
    ('stage = [1, 2]\n[recipe]\nname = "a"\n', "stage 1: is not a table"),
    ('[recipe]\nname = "a"\nsed = 3\n', "unknown key 'sed' (did you mean 'seed'?)"),
    ('[recipe]\nname = "a"\n[[stages]]\nid = "r"\n', "unknown table 'stages' (did you mean 'stage'?)"),
])  # fmt: skip
def test_mistakes_of_the_file(text, mistake, tmp_path):
    (tmp_path / "wrong.toml").write_text(text)
    result = call("recipes", "validate", tmp_path / "wrong.toml")
    assert result.exit_code == 2
    assert any(mistake in line for line in errors_of(result)), result.stderr


def test_a_stage_reads_from_earlier_ones_only(tmp_path):
    evaluate = 'id = "test"\nuses = "evaluate"\nmodel = "rgb"'
    load_recipe(str(write_recipe(tmp_path / "right.toml", 'name = "a"', STREAM.format("rgb"), evaluate)))
    later = write_recipe(tmp_path / "wrong.toml", 'name = "a"', evaluate, STREAM.format("rgb"))
    with pytest.raises(UsageError, match=r"stage 1 \('test'\): model = 'rgb': no earlier stage has this id"):
        load_recipe(str(later))


@pytest.mark.parametrize(("stages", "mistake"), [
    ([STREAM.format("rgb") + "\nstride_min = 8\nstride_max = 3"],
     "stage 1 ('rgb'): stride_min = 8 is above stride_max = 3: set both"),
    ([STREAM.format("rgb") + '\nweights = "here/not.pth"'],
     "stage 1 ('rgb'): here/not.pth: no such weights file"),
    (['id = "v"\nuses = "prepare"\ndataset = "synthetic"\nflow_options = { lamda = 1 }'],
     "stage 1 ('v'): flow 'tvl1' has no option 'lamda' (did you mean 'lambda'?)"),
    ([STREAM.format("rgb"), 'id = "t"\nuses = "evaluate"\nmodel = "rgb"', 'id = "e"\nuses = "export"\nmodel = "t"'],
     "stage 3 ('e'): model = 't': an evaluate stage makes no model"),
    ([STREAM.format("rgb"), 'id = "t"\nuses = "evaluate"\nmodel = "rgb"\nframes = 5\nseen = true'],
     "stage 2 ('t'): option 'frames' is called 'chunks' now"),
    ([STREAM.format("rgb") + "\nsize = 64", STREAM.format("flow"), FUSED],
     "the streams don't fit: size is 64 for appearance and 224 for motion"),
    ([STREAM.format("rgb") + '\narch = "resnet18"', STREAM.format("flow"), FUSED],
     "resnet18 and resnet50 can't be tied"),
])  # fmt: skip
def test_validate_and_run_refuse_the_same(stages, mistake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = write_recipe(tmp_path / "wrong.toml", 'name = "wrong"', *stages)
    for command in (["recipes", "validate", recipe], ["run", recipe, "-w", tmp_path / "work"]):
        result = call(*command)
        assert result.exit_code == 2
        assert errors_of(result)[0].startswith(f"{recipe}: ") and mistake in errors_of(result)[0]
    assert not (tmp_path / "work").exists()


def test_model_file_fits_a_stream_that_is_not_trained_yet(trained, tmp_path):
    model = trained.find_input("appearance", "model").path
    motion = STREAM.format("flow") + '\narch = "resnet18"\nwidth = 0.25\nsize = 32'
    fuse = f'id = "fused"\nuses = "fuse"\nappearance = "{model}"\nmotion = "flow"'
    result = call("recipes", "validate", write_recipe(tmp_path / "half.toml", 'name = "half"', motion, fuse))
    assert result.exit_code == 0, result.stderr


def test_a_stage_may_read_a_file_instead(tmp_path):
    stage = 'id = "test"\nuses = "evaluate"\nmodel = "models/best.safetensors"'
    load_recipe(str(write_recipe(tmp_path / "file.toml", 'name = "a"', stage)))


def resolved(recipe: Path) -> dict[str, dict[str, tuple[str, str]]]:
    """What `recipes show --resolved` prints: stage -> option -> (value, where it comes from)."""
    stages: dict[str, dict[str, tuple[str, str]]] = {}
    for line in call("recipes", "show", recipe, "--resolved").stdout.splitlines():
        if line.startswith("["):
            stages[line[1 : line.index("]")]] = current = {}
        else:
            key, _, rest = line.strip().partition(" = ")
            value, _, source = rest.rpartition("  ")
            current[key] = (value, source.strip("()"))
    return stages


def test_seed_data_and_split_of_a_recipe_hold_for_all_stages(tmp_path):
    recipe = write_recipe(
        tmp_path / "shared.toml", 'name = "shared"\nseed = 7\ndata = "clips"\nsplit = "2"',
        'id = "videos"\nuses = "prepare"\ndataset = "synthetic"',
        STREAM.format("rgb"),
        STREAM.format("flow") + "\nseed = 8",
        'id = "onnx"\nuses = "export"\nmodel = "rgb"',
    )  # fmt: skip
    stages = resolved(recipe)
    assert stages["rgb"]["seed"] == ("7", "recipe")
    assert stages["flow"]["seed"] == ("8", "stage")
    assert stages["flow"]["split"] == ("'2'", "recipe")
    assert stages["flow"]["modality"] == ("'flow'", "stage")
    assert stages["flow"]["momentum"] == ("0.9", "default")
    assert stages["videos"]["out"] == ("'clips'", "recipe")  # what prepare makes is what the others read
    assert "seed" not in stages["onnx"]


def test_show_resolved_shows_every_option(tmp_path):
    stages = resolved(RECIPES / "final.toml")
    recipe = load_recipe("final")
    assert list(stages) == [stage.id for stage in recipe.stages]
    for stage in recipe.stages:
        assert list(stages[stage.id]) == list(stage.options.model_fields)


def test_copy_gives_a_recipe_to_edit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("recipes", "copy", "demo").stdout.strip() == "demo.toml"
    assert Path("demo.toml").read_bytes() == (RECIPES / "demo.toml").read_bytes()
    again = call("recipes", "copy", "demo")
    assert again.exit_code == 2
    assert errors_of(again) == ["demo.toml: already exists; use --force to overwrite it"]
    Path("demo.toml").write_text("edited")
    assert call("recipes", "copy", "demo", "--force").exit_code == 0
    assert Path("demo.toml").read_bytes() == (RECIPES / "demo.toml").read_bytes()
    assert call("recipes", "copy", "final", "mine.toml").exit_code == 0
    assert load_recipe("mine.toml").name == "final"


def test_settings_are_below_recipes_and_flags(tmp_path, monkeypatch, scratch):
    """`stmn.toml` gives defaults; a recipe's key wins over them, a flag over both; a typing error in it is reported."""
    monkeypatch.chdir(tmp_path)
    recipe = write_recipe(tmp_path / "toy.toml", 'name = "toy"', STREAM.format("rgb") + "\nsteps = 1\nbatch = 8")
    settings = f'workspace = "{scratch.root}"\n[defaults.train-stream]\narch = "resnet18"\nwidth = 0.125\nsize = 32\n'
    settings += 'steps = 9\nbatch = 2\nmicro_batch = 2\nschedule = "cosine"\nvalidation = 0.0\nweights = "none"\n'
    Path("stmn.toml").write_text(settings)
    result = call("train-stream", "--recipe", recipe, "--batch", "4", "--json")
    assert result.exit_code == 0, result.stderr
    options = json.loads(result.stdout)["options"]
    assert (options["arch"], options["steps"], options["batch"]) == ("resnet18", 1, 4)
    assert next((scratch.root / "runs").iterdir()).name.startswith("appearance-resnet18-")

    Path("stmn.toml").write_text("[defaults.train-stream]\nmicrobatch = 4\n")
    result = call("train-stream", "-w", scratch.root)
    assert result.exit_code == 2
    assert errors_of(result) == ["[defaults.train-stream]: unknown option 'microbatch' (did you mean 'micro_batch'?)"]
    Path("stmn.toml").write_text("[defaults\n")
    assert call("train-stream", "-w", scratch.root).exit_code == 2


@pytest.mark.parametrize(("stream", "fused", "fits"), [
    ("", "", True),
    ("validation = 0.2", "validation = 0.1", True),  # a larger share holds out what a smaller one does
    ("seed = 5", "", True),
    (FULL_LIST, "validation = 0", True),
    ("", "validation = 0", True),
    (FULL_LIST, "", False),
    ("validation = 0.05", "", False),
    ("validation_seed = 1", "", False),
])  # fmt: skip
def test_validation_on_what_a_stream_learns_from_is_refused_before_anything_runs(stream, fused, fits, tmp_path):
    recipe = write_recipe(
        tmp_path / "mine.toml", 'name = "mine"', STREAM.format("rgb"), f"{STREAM.format('flow')}\n{stream}",
        f"{FUSED}\n{fused}",
    )  # fmt: skip
    result = call("recipes", "validate", recipe)
    if fits:
        assert result.exit_code == 0, result.stderr
    else:
        [line] = errors_of(result)
        assert line.startswith(f"{recipe}: stage 'fused' would validate on videos that 'flow' learns from, which has ")
        assert line.endswith("give both the same, or set validation = 0 here")


def test_validation_on_what_the_starting_weights_learn_from_is_refused_too(tmp_path):
    later = 'id = "later"\nuses = "train-stream"\nweights = "rgb"\nvalidation = 0.2'
    recipe = write_recipe(tmp_path / "mine.toml", 'name = "mine"', STREAM.format("rgb"), later)
    [line] = errors_of(call("recipes", "validate", recipe))
    assert line.startswith(f"{recipe}: stage 'later' would validate on videos that 'rgb' learns from")
