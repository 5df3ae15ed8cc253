"""The docs say what is true: commands parse, links lead somewhere, pictures are current, and the README is short."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from helpers.commands import call
from helpers.pages import CHECKOUT, PAGES, README, commands, name, split_command

from stmn.cli.main import app


def mentions(text: str) -> Iterator[list[str]]:
    """The commands in code spans of the prose: they may lack values and arguments."""
    for span in re.findall(r"`([^`]+)`", re.sub(r"^( {4}.*|```)$", "", text, flags=re.MULTILINE)):
        if found := split_command(" ".join(span.split())):
            yield found


def resolve(arguments: list[str]) -> tuple[object, str, list[str]]:
    """The command that is meant, its name, and the rest. Raises what the command line would print."""
    command, called, rest = typer.main.get_command(app), "stmn", arguments
    while hasattr(command, "resolve_command") and rest and not rest[0].startswith("-"):
        context = command.make_context(called, list(rest))
        called, command, rest = command.resolve_command(context, rest)
    return command, called, rest


def parse(arguments: list[str]) -> None:
    """Parse a command without running it. Raises what the command line would print."""
    command, called, rest = resolve(arguments)
    if rest[-1:] not in (["--help"], ["--version"]):
        command.make_context(called, rest)


def check_mention(arguments: list[str]) -> None:
    """Check that a command and its flags exist."""
    command, called, rest = resolve(arguments)
    known = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    for word in rest:
        if word.startswith("--"):
            assert word.split("=")[0] in known | {"--help"}, f"{called} has no flag {word}"


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)}


def links(page: Path) -> Iterator[tuple[str, str]]:
    """(relative path, anchor) of every link that stays in the repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield path, anchor


def test_readme_is_short():
    assert len(README.read_text().splitlines()) < 130


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_parse(page):
    text = page.read_text()
    for check, found in ((parse, commands(text)), (check_mention, mentions(text))):
        for arguments in found:
            try:
                check(arguments)
            except Exception as error:
                raise AssertionError(f"{name(page)}: stmn {' '.join(arguments)}: {error}") from error


def test_commands_are_found():
    text = (
        "    stmn fuse --fusion add   # comment\n    torchrun --nproc-per-node 2 -m stmn run demo\n\n"
        "    cat a.avi | stmn predict fused - --window 2\n\nSay `stmn weights ARCH`, or `stmn\nCOMMAND --help`.\n"
    )
    found = [" ".join(arguments) for arguments in commands(text)]
    assert found == ["fuse --fusion add", "run demo", "predict fused - --window 2"]
    assert [" ".join(arguments) for arguments in mentions(text)] == ["weights ARCH", "--help"]


@pytest.mark.parametrize(
    "wrong", ["fuse --fusoin add", "evaluate --frames 25", "fues", "train-stream --modality rbg", "run"]
)
def test_wrong_commands_are_found(wrong):
    with pytest.raises(Exception, match=r"(?i)no such|invalid|missing|is not one of|is called --chunks now"):
        parse(wrong.split())


def test_wrong_mentions_are_found():
    with pytest.raises(AssertionError, match="evaluate has no flag --seen"):
        check_mention(["evaluate", "--seen"])


@pytest.mark.parametrize("page", [*PAGES, CHECKOUT / "CHANGELOG.md"], ids=name)
def test_links_lead_somewhere(page):
    for path, anchor in links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name(page)}: {path}"
        assert not anchor or anchor in anchors(target), f"{name(page)}: {path}#{anchor}"


def test_index_reaches_every_page():
    found, new = set(), {CHECKOUT / "docs/README.md"}
    while new:
        found |= new
        targets = {(page.parent / path).resolve() for page in new for path, _ in links(page) if path.endswith(".md")}
        new = {page for page in targets if page.is_relative_to(CHECKOUT / "docs")} - found
    assert found == set(CHECKOUT.glob("docs/**/*.md"))


def test_decisions_are_all_listed():
    folder = CHECKOUT / "docs/decisions"
    assert {path for path, _ in links(folder / "README.md")} == {page.name for page in folder.glob("*.md")} - {
        "README.md"
    }


def test_picture_of_final_network_is_current(tmp_path):
    assert call("nets", "show", "final", "--svg", tmp_path / "final.svg").exit_code == 0
    assert (tmp_path / "final.svg").read_text() == (CHECKOUT / "docs/final.svg").read_text()
