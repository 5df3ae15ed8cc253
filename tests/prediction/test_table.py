"""`stmn predict FOLDER --out TABLE`: a row per video or window, whatever becomes of each."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import STMN, call, errors_of
from helpers.films import film, moving
from helpers.predicting import lines, model_of
from PIL import Image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Videos at several levels, one of a name that is not UTF-8, two that can't be classified, and other files."""
    root = tmp_path_factory.mktemp("videos")
    film(root / "train" / "a.mp4", moving(12))
    film(root / "b.avi", moving(15))
    film(root / ".hidden" / "x.mp4", moving(5))
    film(root / "c.avi", moving(12)).rename(root / os.fsdecode(b"z\xff.avi"))
    (root / "bad.mp4").write_text("no video")
    (root / "empty.avi").touch()
    (root / "notes.txt").touch()
    for number, picture in enumerate(moving(4)):
        (root / "frames").mkdir(exist_ok=True)
        Image.fromarray(picture).save(root / "frames" / f"{number:03d}.png")
    return root


def rows_of(path: Path) -> list[dict]:
    """The rows of a table of any kind, with None where a cell is empty."""
    if path.suffix == ".parquet":
        from pyarrow.parquet import read_table

        return read_table(path).to_pylist()
    with open(path, newline="", encoding="utf-8") as file:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in file]
        numbers = ("score", "start_s", "end_s", "frames")
        return [
            {k: None if v == "" else float(v) if k.startswith(numbers) else v for k, v in row.items()}
            for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_each_video_of_a_folder_has_a_row(ending, folder, trained, tmp_path):
    out, model = tmp_path / f"out.{ending}", model_of(trained, "appearance")
    result = call("predict", model, folder, "--out", out, "--top", 2, "--json")
    assert result.exit_code == 1 and len(errors_of(result)) == 2
    assert result.stderr.splitlines()[0] == f"{folder}: 1 file left out: 1 .txt (no video)"
    assert result.stderr.splitlines()[-2:] == [
        "2 of 6 videos can't be classified; --allow-failures 2 accepts this", f"out: {out}"
    ]  # fmt: skip
    rows = {row["video"].removeprefix(f"{folder}/"): row for row in rows_of(out)}
    assert list(rows) == ["b.avi", "bad.mp4", "empty.avi", "frames", "train/a.mp4", "z\\xff.avi"]
    assert list(rows["b.avi"]) == [
        "video", "class", "score", "class_2", "score_2", "start_s", "end_s", "frames", "notes", "error"
    ]  # fmt: skip
    printed = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(printed) == 4
    for line in printed:
        row = rows[line["video"].removeprefix(f"{folder}/")]
        assert {row["class"]: row["score"], row["class_2"]: row["score_2"]} == line["scores"]
        assert row["error"] is None and row["start_s"] == 0
    assert (rows["b.avi"]["frames"], rows["b.avi"]["end_s"]) == (15, 0.6)
    assert (
        rows["bad.mp4"]["error"] == f"{folder}/bad.mp4: not a readable video: Invalid data found when processing input"
    )
    assert {value for key, value in rows["bad.mp4"].items() if key not in ("video", "error")} == {None}


def test_failures_can_be_accepted(folder, trained, tmp_path):
    command = ["predict", model_of(trained, "appearance"), folder / "bad.mp4", folder / "b.avi", "--out"]
    accepted = call(*command, tmp_path / "a.csv", "--allow-failures", 1)
    assert accepted.exit_code == 0 and "1 of 2 videos can't be classified\n" in accepted.stderr
    # a table is written even if no video can be classified: it says why
    nothing = call("predict", model_of(trained, "appearance"), folder / "bad.mp4", "--out", tmp_path / "b.csv")
    assert nothing.exit_code == 1 and [bool(row["error"]) for row in rows_of(tmp_path / "b.csv")] == [True]


def test_rows_of_windows_are_those_of_the_timeline(folder, trained, tmp_path):
    film(tmp_path / "long.mp4", moving(40))
    broken = film(tmp_path / "cut.avi", moving(100))
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size * 3 // 4])
    out, timeline = tmp_path / "out.csv", tmp_path / "timeline.csv"
    command = ["predict", model_of(trained, "fused"), broken, tmp_path / "long.mp4", "--out", out, "--window", 1]
    call(*command, "--timeline", timeline)
    first, *rows = rows_of(out)
    assert first["error"] and not first["class"]  # its windows are taken back
    windows = rows_of(timeline)
    assert len(rows) == len(windows) == 4
    for row, window in zip(rows, windows, strict=True):
        assert [row[key] for key in ("video", "start_s", "end_s", "class", "score")] == [
            window[key] for key in ("video", "start_s", "end_s", "class", "score")
        ]
        assert row["frames"] == 25
    # what is said of a damaged video is in a row of it
    call(*command, "--force", "--allow-damage", 1, "--chunks", 1)
    [note] = [row["notes"] for row in rows_of(out) if row["notes"]]
    assert note.startswith("breaks off after")


def test_names_are_no_formulas_in_csv(folder, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "=1+1.avi").write_bytes((folder / "b.avi").read_bytes())
    call("predict", model_of(trained, "appearance"), "=1+1.avi", "--out", "o.csv", "--timeline", "t.csv")
    assert {row["video"] for table in ("o.csv", "t.csv") for row in rows_of(Path(table))} == {"'=1+1.avi"}
    assert lines(model_of(trained, "appearance"), "=1+1.avi", "--out", "o.jsonl")[0]["video"] == "=1+1.avi"
    assert rows_of(Path("o.jsonl"))[0]["video"] == "=1+1.avi"


def test_existing_files_are_kept_unless_forced(folder, trained, tmp_path):
    for flag, name in (("--out", "o.csv"), ("--timeline", "t.csv"), ("--overlay", "v.mp4")):
        (tmp_path / name).write_text("mine")
        refused = call("predict", model_of(trained, "appearance"), folder / "b.avi", flag, tmp_path / name)
        assert errors_of(refused) == [f"{tmp_path / name}: already exists; use --force to overwrite it"]
        assert (tmp_path / name).read_text() == "mine"
    call("predict", model_of(trained, "appearance"), folder / "b.avi", "--out", tmp_path / "o.csv", "--force")
    assert len(rows_of(tmp_path / "o.csv")) == 1


@pytest.mark.parametrize(("flags", "words"), [
    (["--out", "o.txt"], "--out o.txt: the name must end in .csv, .jsonl or .parquet"),
    (["--out", "o.csv", "--timeline", "o.csv"], "--out and --timeline both name o.csv: name two files"),
    (["--out", "/proc/no/o.csv"], "/proc/no/o.csv: can't be written: "),
])  # fmt: skip
def test_tables_that_cannot_be_are_one_line(flags, words, folder, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = call("predict", model_of(trained, "appearance"), folder / "b.avi", *flags)
    assert refused.exit_code != 0 and not list(tmp_path.iterdir())
    [line] = errors_of(refused)
    assert line.startswith(words)


def test_parquet_says_which_extra_it_needs(folder, trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    refused = call("predict", model_of(trained, "appearance"), folder / "b.avi", "--out", tmp_path / "o.parquet")
    assert errors_of(refused) == ["Parquet needs the package 'pyarrow': pip install 'stmn[parquet]'"]
    assert not list(tmp_path.iterdir())


CRASHING = """
import os
import subprocess
import stmn.video.decode as decode
read = decode.iter_frames
def read_or_crash(source, *arguments, **options):
    if getattr(source, "name", "").endswith("crash.mp4"):
        os._exit(3)
    return read(source, *arguments, **options)
decode.iter_frames = read_or_crash
"""


@pytest.mark.parametrize("more", [pytest.param([], marks=pytest.mark.slow), ["--window", "0.5"]])
def test_a_decoder_that_crashes_costs_its_video(more, folder, trained, tmp_path):
    """Each of many videos is decoded in another process first."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(CRASHING)
    whole = folder / "train" / "a.mp4"
    (tmp_path / "videos").mkdir()
    for name in ("a.mp4", "crash.mp4", "z.mp4"):
        (tmp_path / "videos" / name).write_bytes(whole.read_bytes())
    line = ["predict", model_of(trained, "appearance"), tmp_path / "videos", "--out", tmp_path / "table.jsonl", *more]
    done = subprocess.run(
        [STMN, *map(str, line)], env=os.environ | {"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    rows = list(map(json.loads, (tmp_path / "table.jsonl").read_text().splitlines()))
    assert {Path(row["video"]).name: bool(row["error"]) for row in rows} == {
        "a.mp4": False,
        "crash.mp4": True,
        "z.mp4": False,
    }
    assert "its decoder crashed, or gave no frame for 60 s" in done.stderr
