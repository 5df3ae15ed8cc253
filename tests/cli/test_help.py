"""Help: complete, quick, readable on a narrow terminal, and helpful about typing errors."""

import json
import os
import re
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
from helpers.commands import STMN, call, errors_of
from typer.testing import CliRunner

import stmn
from stmn.cli.main import COMMANDS, app
from stmn.options import MODELS, command_of, options_of

#: what takes long to import and is not needed to answer
HEAVY = ("torch", "torchvision", "timm", "av", "numpy", "sklearn", "scipy", "pydantic")

PROBE = """
import json, sys
from stmn.cli.main import app
try:
    app(sys.argv[1:], prog_name="stmn")
except SystemExit as end:
    print(json.dumps({"code": end.code, "modules": list(sys.modules)}), file=sys.stderr)
"""


#: every command that does something, as it is called
CALLED = [
    *([name] for name in COMMANDS if name not in ("data", "recipes", "scores", "nets", "plugins", "idt", "tune")),
    ["tune", "train-stream"], ["tune", "fuse"],
    *(["data", name] for name in ("info", "check", "extract", "show")),
    *(["recipes", name] for name in ("list", "show", "validate", "copy")),
    *(["scores", name] for name in ("show", "convert", "compare", "fuse")),
    ["nets", "show"], ["plugins", "list"],
    *(["idt", name] for name in ("extract", "fit", "encode", "score", "show")),
]  # fmt: skip


def helped(*arguments: str, width: int = 80) -> str:
    """The help of a command on a terminal of `width` characters."""
    result = CliRunner().invoke(app, [*arguments, "--help"], env={"COLUMNS": str(width)})
    assert result.exit_code == 0, result.stderr
    return result.stdout


def words_of(text: str) -> str:
    """Help as one line, without the borders of its panels."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", text).split())


def probe(*arguments: str) -> tuple[str, dict]:
    """What a command prints, and its exit code and imported modules, listed by itself at its end."""
    command = [sys.executable, "-c", PROBE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "200"})
    return done.stdout, json.loads(done.stderr)


def test_help_lists_all_commands_and_imports_nothing_heavy():
    text, about = probe("--help")
    assert about["code"] == 0
    for name, info in COMMANDS.items():
        panel = text[text.index(f"╭─ {info.panel} ─") :]
        rows = panel[: panel.index("╰")].splitlines()
        assert any(row.strip("│ ").split() == [name, *info.help.split()] for row in rows), name
    assert not set(HEAVY) & set(about["modules"])
    assert not [m for m in about["modules"] if m.startswith("stmn.") and not m.startswith("stmn.cli")]


def test_commands_stand_in_five_panels():
    titles = re.findall("╭─ (.*?) ─", helped())
    assert titles == ["Data", "Train", "Test", "Ship", "Look", "Options"]


@pytest.mark.parametrize("arguments", [("fuse", "--help"), ("recipes", "list"), ("plugins", "list"), ("--version",)])
def test_quick_answers_import_no_torch(arguments):
    text, about = probe(*arguments)
    assert about["code"] == 0
    assert text
    assert not {"torch", "timm", "av", "sklearn"} & set(about["modules"])


@pytest.mark.parametrize("verb", MODELS)
def test_stage_help_shows_each_option_and_its_default(verb):
    words = words_of(helped(*command_of(verb).split()))
    for name, option in options_of(verb).described().items():
        label = name.upper() if option.argument else option.flag
        assert label in words, name
        text = words[words.index(f"{label} ") if option.shape != "switch" else words.index(label) :]
        before, bracket, after = " ".join(option.help.split()).partition(" [default:")
        assert before in text, name
        assert bracket + after in text, name
        if option.choices:
            assert f"[{', '.join(option.choices)}]" in text, name
        if isinstance(option.default, bool):
            assert f"[default: {'yes' if option.default else 'no'}]" in text, name
        elif isinstance(option.default, float):
            assert f"[default: {option.default:g}]" in text, name
        elif isinstance(option.default, str | int):
            assert f"[default: {option.default}]" in text, name


@pytest.mark.parametrize("verb", MODELS)
def test_stage_options_stand_in_their_panels(verb):
    text = helped(*command_of(verb).split())
    for option in options_of(verb).described().values():
        if not option.argument:
            panel = text[text.index(f"╭─ {option.panel} ─") :]
            assert option.flag in panel[: panel.index("╰")], option.name
    titles = re.findall("╭─ (.*?) ─", text)
    order = ["Arguments", "Data", "Network", "Features", "Optimisation", "Testing", "Run", "Common options"]
    assert titles == [title for title in order if title in titles]


def test_fuse_help_in_the_papers_defaults():
    words = words_of(helped("fuse", width=200))
    for flag, default in {
        "--fusion": "multiply", "--site": "residual", "--direction": "motion_to_appearance", "--injector": "residual",
        "--temporal-init": "centre", "--temporal-pool": "max", "--chunks": "5", "--stride-min": "5",
        "--stride-max": "35", "--lr": "0.001", "--momentum": "0.9", "--weight-decay": "0.0005",
    }.items():  # fmt: skip
        option = words[words.index(f" {flag} ") :]
        assert re.search(r"\[default: (.*?)\]", option)[1] == default, flag


@pytest.mark.parametrize("command", CALLED, ids=" ".join)
@pytest.mark.parametrize("width", [80, 100])
def test_help_is_readable(command, width):
    lines = helped(*command, width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert not [line for line in lines if line != line.rstrip()]
    rows = [re.fullmatch(r"│ (\S.*?|)(?:  +(\S.*?))? +│", line) for line in lines if line.startswith("│")]
    [column] = {row.start(2) for row in rows if row[2]}  # all texts begin at one column
    assert column <= 30, "texts are squeezed"
    for row, below in pairwise(rows):
        assert row[2] or below[2], "a flag without a text"
        assert row[2] or len(row[1]) > column - 4, "a text stands below a flag although it fits beside"


@pytest.mark.parametrize(
    "command", [[], ["data"], ["recipes"], ["scores"], ["nets"], ["plugins"], ["tune"], *CALLED], ids=" ".join
)
def test_short_help_flag_works_everywhere(command):
    result = CliRunner().invoke(app, [*command, "-h"], env={"COLUMNS": "80"})
    assert (result.exit_code, result.stdout) == (0, helped(*command))


@pytest.mark.parametrize("command", CALLED, ids=" ".join)
def test_examples_stand_one_per_line(command):
    text = helped(*command)
    examples = text[text.index("\nExamples\n") :].splitlines()[2:]
    assert examples
    for example in examples:
        assert f"stmn {' '.join(command)}" in example
        assert example.startswith("  ")


@pytest.mark.parametrize("command", CALLED, ids=" ".join)
def test_every_command_can_show_tracebacks(command):
    assert "--debug" in helped(*command)


def test_list_of_commands_says_what_their_own_help_says():
    for name, info in COMMANDS.items():
        own = words_of(helped(name, width=200)).split("[OPTIONS]", 1)[1]
        assert info.help.rstrip(".") in own, name


def test_unknown_command_names_the_near_one():
    done = subprocess.run([STMN, "evaluat"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: no such command 'evaluat' (did you mean 'evaluate'?)\n"


@pytest.mark.parametrize(("arguments", "message"), [
    (["fuse", "--fusoin", "add"], "no such option: --fusoin (did you mean '--fusion'?)"),
    (
        ["train-stream", "--modality", "rbg"],
        "invalid value for '--modality': 'rbg' is not one of 'rgb', 'flow' (did you mean 'rgb'?)",
    ),
    (["data", "inof"], "no such command 'inof' (did you mean 'info'?)"),
    (["--verison"], "no such option: --verison (did you mean '--version'?)"),
    (["predict"], "missing argument 'MODEL' (see stmn predict --help)"),
])  # fmt: skip
def test_mistake_in_the_command_line_is_one_line(arguments, message):
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert errors_of(result) == [message]
    assert len(result.stderr.splitlines()) == 1


def test_wrong_number_is_one_line():
    result = call("fuse", "--chunks", "many")
    assert result.exit_code == 2
    [line] = errors_of(result)
    assert "'--chunks'" in line


def test_version_is_the_packages():
    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["version"]
    assert call("--version").stdout == f"stmn {declared}\n"
    assert stmn.__version__ == declared


@pytest.mark.parametrize("command", ["recipes show final", "plugins list"])
def test_reader_that_goes_away_is_no_error(command):
    done = subprocess.run(f"{STMN} {command} | true", shell=True, capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize(("old", "new"), [("--frames", "--chunks"), ("--seen", "--allow-seen")])
def test_renamed_flags_name_the_new_ones(old, new):
    result = call("evaluate", old, "5")
    assert result.exit_code == 2
    [line] = errors_of(result)
    assert f"{old} is called {new} now" in line
