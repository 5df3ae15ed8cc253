"""Helpers for tests of `stmn predict`."""

import json
from pathlib import Path

from helpers.commands import call
from stmn.workspace import Workspace


def model_of(workspace: Workspace, name: str) -> Path:
    """The model file of a run of the `trained` workspace."""
    return workspace.find_input(name, "model").path


def lines(*arguments: object) -> list[dict]:
    """The objects that `stmn predict ... --json` prints."""
    result = call("predict", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]
