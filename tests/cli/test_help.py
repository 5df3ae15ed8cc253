"""`stmn --help` and its kin: complete, quick, and helpful about typing errors."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from helpers.commands import STMN, call

import stmn
from stmn.cli.main import COMMANDS
from stmn.options import MODELS, options_of

#: what takes long to import and is not needed to answer
HEAVY = ("torch", "torchvision", "timm", "av", "numpy", "sklearn", "scipy", "pydantic")

PROBE = """
import json, resource, sys
from stmn.cli.main import app
try:
    app(sys.argv[1:], prog_name="stmn")
except SystemExit as end:
    used = resource.getrusage(resource.RUSAGE_SELF)
    answer = {"code": end.code, "cpu": used.ru_utime + used.ru_stime, "modules": list(sys.modules)}
    print(json.dumps(answer), file=sys.stderr)
"""


def probe(*arguments: str) -> tuple[str, dict]:
    """What a command prints, and its exit code, CPU seconds and imported modules, measured by itself at its end."""
    command = [sys.executable, "-c", PROBE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "200"})
    return done.stdout, json.loads(done.stderr)


def test_help_lists_all_commands_without_importing_anything_heavy():
    text, about = probe("--help")
    assert about["code"] == 0
    for name, (_, line) in COMMANDS.items():
        assert any(row.strip("│ ").split() == [name, *line.split()] for row in text.splitlines()), name
    assert not set(HEAVY) & set(about["modules"])
    assert not [m for m in about["modules"] if m.startswith("stmn.") and not m.startswith("stmn.cli")]


def test_help_takes_less_than_half_a_second_of_cpu_time():
    # the best of three: the first may compile, and a busy machine makes everything slower
    assert min(probe("--help")[1]["cpu"] for _ in range(3)) < 0.5


@pytest.mark.parametrize("arguments", [("fuse", "--help"), ("recipes", "list"), ("plugins", "list"), ("--version",)])
def test_quick_answers_import_no_torch(arguments):
    text, about = probe(*arguments)
    assert about["code"] == 0
    assert text
    assert not {"torch", "timm", "av", "sklearn"} & set(about["modules"])


@pytest.mark.parametrize("verb", MODELS)
def test_a_verbs_help_shows_each_option_with_its_type_and_default(verb):
    result = call(verb, "--help")
    assert result.exit_code == 0
    words = " ".join(result.stdout.replace("│", " ").split())
    for name, option in options_of(verb).described().items():
        assert (name.upper() if option.argument else option.flag) in words, name
        assert " ".join(option.help.split())[:30] in words, name
        if isinstance(option.default, bool):
            assert f"[default: ({'yes' if option.default else 'no'})]" in words, name
        elif isinstance(option.default, str | int | float):
            assert f"[default: ({option.default})]" in words, name
    assert f"stmn {verb}" in words[words.index("Examples:") :]


def test_fuse_help_in_the_papers_defaults():
    words = " ".join(call("fuse", "--help").stdout.replace("│", " ").split())
    for flag, default in {
        "--fusion": "multiply", "--site": "residual", "--direction": "motion_to_appearance", "--injector": "residual",
        "--temporal-init": "centre", "--temporal-pool": "max", "--chunks": "5", "--stride-min": "5",
        "--stride-max": "35", "--lr": "0.001", "--momentum": "0.9", "--weight-decay": "0.0005",
    }.items():  # fmt: skip
        option = words[words.index(f" {flag} ") :]
        assert option[: option.index("]")].endswith(f"[default: ({default})"), flag


def test_choices_are_spelt_out():
    words = " ".join(call("train-stream", "--help").stdout.split())
    assert "<rgb|flow>" in words
    assert "<plateau|steps|cosine>" in words


def test_an_unknown_command_names_the_near_one():
    done = subprocess.run([STMN, "fues"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "No such command 'fues'. Did you mean 'fuse'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_flag_names_the_near_one():
    result = call("fuse", "--fusoin", "add")
    assert result.exit_code == 2
    assert "--fusoin" in result.stderr
    assert "--fusion" in result.stderr


def test_a_wrong_value_names_the_choices():
    result = call("train-stream", "--modality", "rbg")
    assert result.exit_code == 2
    assert "'rgb', 'flow'" in result.stderr


def test_the_version_is_the_packages():
    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["version"]
    assert call("--version").stdout == f"stmn {declared}\n"
    assert stmn.__version__ == declared


@pytest.mark.parametrize("command", ["recipes show final", "plugins list"])
def test_a_reader_that_goes_away_is_no_error(command):
    done = subprocess.run(f"{STMN} {command} | true", shell=True, capture_output=True, text=True)
    assert done.stderr == ""
