"""Recipes and settings that strangers wrote: they write in the workspace alone, and cost a line at most."""

import os
from pathlib import Path

import pytest
from helpers.commands import call, errors_of, write_recipe

RENDERED = 'id = "videos"\nuses = "prepare"\ndataset = "synthetic"\ndataset_options = {train = 1, test = 1}\n'
EXPORT = 'id = "onnx"\nuses = "export"\nmodel = "model.safetensors"\n'


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "run.json").write_text("mine")
    yield
    assert {path.name for path in tmp_path.iterdir()} <= {"work", "precious", "own"}
    assert [path.read_text() for path in (tmp_path / "precious").iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("{outside}", "has a slash"),
        ("../precious", "has a slash"),
        ("sub/set", "has a slash"),
        ("..", "names no folder"),
        (".", "names no folder"),
        ("", "is empty"),
        ("a\\u0000", "has a NUL character"),
        ("a\\u001b[2J", "has control characters"),
        ("a\\u202egnp", "has control characters"),
        (" a", "begins or ends with a blank"),
        ("a\\t", "has control characters"),
        ("x" * 201, "is longer than 200 bytes"),
        ("ü" * 101, "is longer than 200 bytes"),
    ],
)
@pytest.mark.parametrize("place", ["recipe", "stage", "settings"])
def test_files_name_sets_of_the_workspace_alone(name, fault, place, tmp_path):
    name = name.format(outside=tmp_path / "precious")
    head, stage = 'name = "r"', RENDERED
    if place == "recipe":
        head += f'\ndata = "{name}"'
    elif place == "stage":
        stage += f'out = "{name}"'
    else:
        Path("stmn.toml").write_text(f'[defaults.prepare]\nout = "{name}"\n')
    result = call("run", write_recipe(Path("r.toml"), head, stage))
    assert result.exit_code == 2 and fault in errors_of(result)[0]
    assert not Path("data").exists() and len(errors_of(result)) <= 2


@pytest.mark.parametrize(
    ("stage", "key"),
    [
        (EXPORT + 'copy_to = "{outside}"', "copy_to"),
        (RENDERED + 'cluster = "tcp://stranger:8786"', "cluster"),
        ('id = "idt"\nuses = "idt-score"\ncluster = "tcp://stranger:8786"', "cluster"),
    ],
)
@pytest.mark.parametrize("place", ["recipe", "settings"])
def test_what_leads_out_is_typed(stage, key, place, tmp_path):
    """A copy goes where it says; what a scheduler of Dask sends is code."""
    stage = stage.replace("{outside}", str(tmp_path / "precious" / "run.json"))
    if place == "settings":
        lines = dict(line.split(" = ", 1) for line in stage.splitlines())
        Path("stmn.toml").write_text(f"[defaults.{lines['uses'][1:-1]}]\n{key} = {lines[key]}\n")
        result = call("doctor")
    else:
        result = call("recipes", "validate", write_recipe(Path("r.toml"), 'name = "r"', stage))
    [error] = errors_of(result)
    flag = f"--{key.replace('_', '-')}"
    assert result.exit_code == 2 and error.endswith(
        f"{key} writes outside the workspace: give {flag} on the command line"
    )


def test_rendered_videos_stay_in_the_workspace(tmp_path):
    recipe = write_recipe(Path("r.toml"), 'name = "r"', RENDERED + f'videos = "{tmp_path / "precious"}"')
    assert errors_of(call("run", recipe)) == [
        "r.toml: stage 1 ('videos'): data set 'synthetic' makes its videos in the workspace: leave out videos"
    ]


@pytest.mark.parametrize("link", ["data/toy", "data/toy/shards", "data/toy/run.lock"])
def test_links_do_not_lead_out(link, tmp_path):
    path = Path(link)
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "precious" / ("run.json" if path.suffix else ""))
    result = call("run", write_recipe(Path("r.toml"), 'name = "r"\ndata = "toy"', RENDERED))
    [error] = errors_of(result)
    assert result.exit_code == 2 and error.startswith(f"{link}: is a link that leads out of ")


@pytest.mark.parametrize("places", [("/",), (".", ".."), (".", "/"), (".", "a\n"), (".", " a")])
def test_names_that_no_set_can_have_are_refused(places):
    result = call("prepare", *places, "--dataset", "synthetic", "--dataset-options", "train=0,test=1")
    [error] = errors_of(result)
    assert result.exit_code == 2 and error.endswith("choose another name: stmn prepare VIDEOS NAME")
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"a = " + b"[" * 100_000, "nested "),
        (b"a = " + b"[" * 200 + b"]" * 200, "nested "),
        (b"a." * 3000 + b"b = 1", "nested "),
        (b"a = " + b"9" * 5000, "a number has too many digits"),
        (b"a = 0x" + b"f" * 5000, "a number has too many digits"),
        (b"# \xff", "is not UTF-8 text"),
        (b"\xff\xfea", "is UTF-16 text"),
        (b"a = [1, {b = 2", "not readable as TOML"),
        (b"#" * 100_000_000, "is larger than 4 MiB"),
        (b'"' + b"k" * 1_000_000 + b'" = 1', "unknown"),
        ("folder", "is a folder, not a file"),
        ("pipe", "is a pipe, not a file"),
        ("/dev/zero", "is a device, not a file"),
        ("nowhere", "can't be read"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_no_toml_costs_more_than_a_line(content, error):
    for name, command in (("stmn.toml", ["doctor"]), ("r.toml", ["recipes", "validate", "r.toml"])):
        path = Path(name)
        if content == "folder":
            path.mkdir()
        elif content == "pipe":
            os.mkfifo(path)
        elif isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)
        result = call(*command)
        assert result.exit_code == 2 and len(result.stderr) < 5000
        assert any(error in line or "no such recipe" in line for line in errors_of(result)), name
        path.rmdir() if content == "folder" else path.unlink()


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("{bad", "is not readable as JSON"),
        ("[" * 100_000, "is not readable as JSON"),
        ('{"fuse": ' + "[" * 500 + "]" * 500 + "}", "nested "),
        ("3", "must be a table of keys and values"),
    ],
    ids=lambda value: value[:12],
)
def test_no_variable_costs_more_than_a_line(value, error, monkeypatch):
    monkeypatch.setenv("STMN_DEFAULTS", value)
    [line] = errors_of(call("doctor"))
    assert error in line


def test_recipes_have_a_thousand_stages_at_most():
    recipe = write_recipe(Path("r.toml"), 'name = "r"', *(f'id = "s{i}"\nuses = "report"' for i in range(10_000)))
    assert errors_of(call("recipes", "validate", recipe)) == [
        "r.toml: has 10,000 stages; a recipe has 1,000 at most"
    ]  # fmt: skip


def test_stages_in_a_circle_are_refused():
    stages = [f'id = "{a}"\nuses = "evaluate"\nlate_fusion = ["{b}", "{b}"]' for a, b in ("ab", "bc", "ca", "dd")]
    found = errors_of(call("recipes", "validate", write_recipe(Path("r.toml"), 'name = "r"', *stages)))
    assert [line.split("late_fusion = ")[1] for line in found if "'c'" in line or "'d'" in line]
    assert all("no earlier stage has this id" in line for line in found)


def test_files_that_a_person_named_are_overwritten_with_force_alone(own):
    written = Path("there.png")
    Path("x.mp4").touch()
    for kind in (".png", ".csv", ".mp4", ".toml"):
        written.with_suffix(kind).write_text("mine")
    for command in (
        ["nets", "show", "final", "--svg", written],
        ["predict", "fused", "x.mp4", "--timeline", "there.csv"],
        ["predict", "fused", "x.mp4", "--overlay", "there.mp4"],
        ["export", "fused", "--copy-to", written],
        ["data", "show", "train/which_moves_00000", "-o", written],
        ["compare", "a", "b", "--page", written],
        ["scores", "fuse", "a", "b", "-o", written],
        ["recipes", "copy", "final", written],
        ["idt", "show", "x.mp4", "-o", written],
    ):
        result = call(*command, *(["-w", own.root] if command[0] not in ("recipes", "idt") else []))
        [error] = errors_of(result)
        assert result.exit_code == 2 and error.startswith("there.") and "use --force to overwrite it" in error, command
    assert call("nets", "show", "final", "--svg", written, "--force").exit_code == 0
    assert "<svg" in written.read_text()


@pytest.mark.parametrize(
    ("stage", "error"),
    [
        ('uses = "evaluate"\nchunks = 1000000000', "chunks = 1000000000: must be 10000 or less"),
        ('uses = "fuse"\ntemporal_window = 1000000000', "temporal_window = 1000000000: must be 10000 or less"),
        ('uses = "train-stream"\nbatch = 9223372036854775807', "batch = 9223372036854775807: is too large"),
        ('uses = "prepare"\nworkers = 1000000', "workers = 1000000: must be 1024 or less"),
        ('uses = "prepare"\ndataset_options = {train = 9223372036854775807}', "is too large"),
        ('uses = "prepare"\nmirror_pairs = {"" = ""}', "mirror_pairs: a word is empty"),
        ('uses = "prepare"\ndataset_options = {a = nan}', "a number is NaN or infinite"),
        ('uses = "evaluate"\nchunks = 2020-01-01', "must be a whole number"),
        ('uses = "evaluate"\nmodel = {a = 1}', "must be text"),
    ],
)
def test_values_that_nothing_can_use_are_refused(stage, error):
    [line] = errors_of(call("recipes", "validate", write_recipe(Path("r.toml"), 'name = "r"', f'id = "a"\n{stage}')))
    assert error in line
