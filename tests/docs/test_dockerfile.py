"""The Dockerfile: its images are made by README's command, and its commands work, as far as they do without Docker."""

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
#: commands that change the machine
OF_THE_IMAGE = ("apt-get",)


def instructions(target: str) -> list[tuple[str, str]]:
    """The instructions of a target and of the stages that it is made from: (RUN, its command), ..."""
    text = re.sub(r"^#.*\n", "", (CHECKOUT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    stages: dict[str, list[tuple[str, str]]] = {}
    parents: dict[str, str] = {}
    for line in filter(None, text.splitlines()):
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            parent, _, name = rest.split()
            stages[name], parents[name] = [], parent
        else:
            stages[name].append((word, rest))
    return (instructions(parents[target]) if parents[target] in stages else []) + stages[target]


def values(line: str) -> dict[str, str]:
    """What ENV or ARG sets."""
    return {name: value.strip('"') for name, _, value in (word.partition("=") for word in line.split())}


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_images_are_made_by_the_command_of_the_readme(target):
    [install] = re.findall(r"^    (pip install (?!-e).*)$", (CHECKOUT / "README.md").read_text(), re.MULTILINE)
    given = instructions(target)
    assert ("RUN", f"STMN_BUILD_KERNELS=1 {install}") in given
    assert given[-1] == ("ENTRYPOINT", '["stmn"]')


def test_comments_name_the_targets():
    named = re.findall(r"docker build --target (\w+)", (CHECKOUT / "Dockerfile").read_text())
    assert named == ["cpu", "cuda"]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_commands_of_an_image_work(target, tmp_path):
    """In a copy of the tracked files and an environment of its own, which borrows torch and the rest from this one."""
    source, environment = tmp_path / "src", tmp_path / "environment"
    source.mkdir()
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((CHECKOUT / name).read_bytes())
    venv.create(environment, with_pip=True)
    site = next((environment / "lib").glob("python*/site-packages"))
    (site / "borrowed.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("-packages")))
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | {
        "PATH": f"{environment / 'bin'}:{os.environ['PATH']}", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0",
    }  # fmt: skip
    # its own setuptools would hide the newer one that is borrowed
    subprocess.run([environment / "bin" / "pip", "uninstall", "--yes", "--quiet", "setuptools"], check=False)
    done = []
    for word, rest in instructions(target):
        if word in ("ENV", "ARG"):
            variables |= values(rest) | ({"HOME": str(tmp_path)} if "HOME=" in rest else {})
        elif word == "RUN" and not rest.startswith(OF_THE_IMAGE):
            run = subprocess.run(["bash", "-c", rest], cwd=source, env=variables, capture_output=True, text=True)
            assert run.returncode == 0, f"{rest}: {run.stdout}{run.stderr}"
            done.append(rest)
    assert done[-1] == "stmn doctor"
    assert (environment / "bin" / "stmn").exists()
    run = subprocess.run(
        [environment / "bin" / "stmn", "--help"], cwd=tmp_path, env=variables, capture_output=True, text=True
    )
    assert "prepare" in run.stdout
