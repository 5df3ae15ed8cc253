"""Completion in a shell: of commands, flags and choices, without importing what a command runs with."""

import os
import subprocess

import pytest
from helpers.commands import STMN


def ask(line: str, shell: str = "bash", **environment: str) -> subprocess.CompletedProcess[str]:
    """Call `stmn` as a shell does after a line."""
    request = {
        "_STMN_COMPLETE": f"complete_{shell}", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1),
        "_TYPER_COMPLETE_ARGS": line,
    }  # fmt: skip
    return subprocess.run([STMN], capture_output=True, text=True, check=True, env=os.environ | request | environment)


def complete(line: str, shell: str = "bash") -> list[str]:
    """What a shell offers after a line."""
    done = ask(line, shell)
    assert done.stderr == ""
    return done.stdout.splitlines()


def imported_by(line: str) -> set[str]:
    """The modules and packages that Python imports to complete a line."""
    profile = ask(line, PYTHONPROFILEIMPORTTIME="1").stderr
    return {row.rsplit("|", 1)[1].strip() for row in profile.splitlines() if row.startswith("import time:")}


@pytest.mark.parametrize(("line", "offered"), [
    ("stmn fu", ["fuse", "fuse-idt"]),
    ("stmn fuse --si", ["--site"]),
    ("stmn fuse --site ", ["residual", "direct"]),
    ("stmn data sh", ["show"]),
    ("stmn data extract --as t", ["tsn"]),
    ("stmn recipes ", ["list", "show", "validate", "copy"]),
    ("stmn --sh", ["--show-completion"]),
])  # fmt: skip
def test_commands_flags_and_choices_are_completed(line, offered):
    assert complete(line) == offered


def test_zsh_gets_a_line_of_help_for_each_flag():
    lines = complete("stmn evaluate --", "zsh")
    allowed = '"--allow-seen":"also test on videos that the model was trained on"'
    assert any(allowed in line for line in lines)
    assert all(line.count('"') % 2 == 0 for line in lines), "no help is broken into lines"


def test_bash_completes_once_installed(tmp_path):
    environment = os.environ | {"HOME": str(tmp_path), "PATH": f"{STMN.parent}:{os.environ['PATH']}"}

    def bash(script: str) -> str:
        done = subprocess.run(["bash", "-c", f"{script}; true"], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "bash completion installed" in bash("stmn --install-completion")
    press_tab = "COMP_WORDS=(stmn fuse --sit); COMP_CWORD=2; _stmn_completion stmn; echo ${COMPREPLY[*]}"
    assert bash(f"source {tmp_path}/.bash_completions/stmn.sh; {press_tab}") == "--site\n"
    assert "_stmn_completion" in bash("stmn --show-completion")


def test_completion_imports_nothing_heavy():
    imported = imported_by("stmn fuse --temp")
    assert "typer" in imported
    assert not imported & {"torch", "torchvision", "timm", "av", "numpy", "sklearn", "scipy"}
