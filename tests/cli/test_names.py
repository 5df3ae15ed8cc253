"""Names are data: nothing in them acts on a terminal, ends a line, is read as markup, or runs in a spreadsheet."""

import csv
import json

import pytest
import torch
from helpers.commands import call, write_recipe

from stmn.evaluation.scores import Scores
from stmn.runtime.csv_cells import plain_cell, safe_cell
from stmn.runtime.names import portable, printable
from stmn.store.inspect.extract import file_name

#: what strangers call things
HOSTILE = [
    "\x1b]0;title\x07", "\x1b[2J", "\x9b2J", "a\nerror: b", "a\rb", "\u202egnp.exe", "\u2066x", "a\u2028b", "[/oops]",
    "[bold]x[/bold]", ":boom:", "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "$\\frac$", "<script>", "a" * 300, "{0}", "%s",
]  # fmt: skip
#: what may stand nowhere in what is printed
ACTING = {chr(i) for i in (*range(32), *range(127, 160), 0x202E, 0x2066, 0x2028)} - {"\n"}


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """Two scores files whose classes, videos and streams are called like that."""
    folder = tmp_path_factory.mktemp("scores")
    count = len(HOSTILE)
    labels = [i % count for i in range(2 * count)]
    ids = [f"{name}/{i}" for i in range(2) for name in HOSTILE]
    for number, name in enumerate(("one", "two")):
        logits = torch.randn(2 * count, count, generator=torch.Generator().manual_seed(number))
        protocol = {"words": HOSTILE[1] + HOSTILE[8]}
        Scores(ids, HOSTILE, labels, {"appearance": logits}, protocol, list(ids)).save(folder / f"{name}.safetensors")
    return folder


def check_letters(text: str) -> None:
    assert not ACTING & set(text), [c for c in text if c in ACTING]
    assert "Traceback" not in text and "MarkupError" not in text


@pytest.mark.parametrize(
    "command",
    [
        ["scores", "show", "one", "--videos", 50],
        ["scores", "compare", "one", "two", "--videos"],
        ["compare", "one", "two", "--page", "page.html", "--force"],
        ["scores", "fuse", "one", "two", "-o", "both", "--force"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_hostile_names_are_printed_as_letters(scores, command):
    files = {"one", "two", "both", "page.html"}
    paths = [scores / (a if a == "page.html" else f"{a}.safetensors") if a in files else a for a in command]
    result = call(*paths)
    assert result.exit_code == 0, result.stderr
    check_letters(result.stdout + result.stderr)
    if command[:2] == ["scores", "show"]:
        assert r"\x1b[2J" in result.stdout and "[/oops]" in result.stdout
        assert ":boom:" in result.stdout and "[bold]x[/bold]" in result.stdout
    if command[1] in ("show", "compare") and command[0] == "scores":
        told = call(*paths, "--json").stdout
        assert json.loads(told) and not ACTING & set(told)


def test_tables_hold_no_formulas_and_are_read_back(scores, tmp_path):
    table = tmp_path / "scores.csv"
    assert call("scores", "convert", scores / "one.safetensors", table).exit_code == 0
    with open(table, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    for cell in [*header, *(cell for row in rows for cell in row[:4])]:
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert [plain_cell(row[2]) for row in rows[: len(HOSTILE)]] == HOSTILE
    assert all(float(cell) for row in rows for cell in row[4:]), "numbers stay numbers"
    assert all(plain_cell(safe_cell(name)) == name for name in [*HOSTILE, "'=1", "''=1", "'a"])


@pytest.mark.parametrize("name", HOSTILE[:12])
def test_hostile_arguments_are_printed_as_letters(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quoted = json.dumps(name)
    recipe = write_recipe(
        tmp_path / "r.toml", f"name = {quoted}", f"id = {quoted}\nuses = 'evaluate'\nmodel = {quoted}"
    )
    for command in (
        ["recipes", "validate", recipe],
        ["run", recipe, "--dry-run"],
        ["recipes", "show", name],
        ["nets", "show", name],
        ["data", "info", name],
        ["evaluate", name],
        ["train-stream", "--arch", name],
        ["prepare", name, "--dataset", name],
        ["predict", name, name],
        ["scores", "show", name],
        ["idt", "show", name],
        [name],
        ["run", recipe, "--until", name],
    ):
        result = call(*command)
        assert result.exit_code in ((0, 1, 2) if "/" in name else (1, 2)), command
        check_letters(result.stdout)
        check_letters(result.stderr)
        assert all(line.startswith(("error: ", "[1/1] ")) for line in result.stderr.splitlines()), command


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("con", "_con"), ("NUL.txt", "_NUL.txt"), ("com1", "_com1"), ("console", "console"), ("a.", "a"), ("a ", "a"),
        ('a:b*c?"<>|', "a_b_c_____"), ("..", "_"), (".hidden", "_.hidden"), ("a/b\\c", "a_b_c"), ("\x1b[2J", "_[2J"),
        ("", "_"), ("ünï", "ünï"),
    ],
)  # fmt: skip
def test_names_of_files_are_allowed_everywhere(name, made):
    assert portable(name) == made


def test_long_names_of_files_are_short_and_differ():
    made = [file_name("ü" * 300 + end) for end in ("a.mp4", "b.mp4")]
    assert made[0] != made[1] and all(len(name.encode()) <= 200 and name.startswith("üü") for name in made)


def test_letters_of_all_scripts_are_kept():
    for text in ("走る", "العربية", "हिन्दी", "می‌خواهم", "👩‍👩‍👧", "e\u0301", "a\u3000b"):
        assert printable(text) == text
