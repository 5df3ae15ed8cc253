"""`stmn prepare` again, after something has happened to the videos: replaced, mended, gone, appeared."""

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from helpers.commands import call
from helpers.films import film, moving
from helpers.packages import on_path

from stmn.store.format.read import Store, StoredVideo

FAST = ["--short-side", "32", "--workers", "1", "--flow", "farneback"]


def prepare(videos: Path, work: Path, *arguments: object, code: int = 0) -> str:
    """Prepare the set `mine`; gives what was said."""
    result = call("prepare", videos, "mine", *FAST, "-w", work, *arguments)
    assert result.exit_code == code, result.stderr
    return result.stderr


def video(work: Path, video_id: str) -> StoredVideo:
    with Store(work / "data" / "mine") as store:
        return store.videos[video_id]


def pictures(work: Path) -> int:
    """How many pictures are stored, of whatever video."""
    return sum(
        sqlite3.connect(path).execute("SELECT count(*) FROM pictures").fetchone()[0]
        for path in (work / "data" / "mine" / "shards").iterdir()
    )


def test_a_replaced_video_is_prepared_again(tmp_path):
    path = film(tmp_path / "v" / "wave" / "a.avi", moving(13, 32, 32))
    film(tmp_path / "v" / "wave" / "b.avi", moving(13, 32, 32))
    prepare(tmp_path / "v", tmp_path)
    before = video(tmp_path, "wave/b.avi")
    film(path, moving(15, 32, 32, seed=1))
    said = prepare(tmp_path / "v", tmp_path)
    assert "'wave/a.avi' has changed since it was prepared; preparing it again" in said
    assert "b.avi" not in said
    assert video(tmp_path, "wave/a.avi").frames == 15
    assert video(tmp_path, "wave/b.avi") == before
    assert pictures(tmp_path) == 15 + 14 + 13 + 12
    assert "again" not in prepare(tmp_path / "v", tmp_path)


def test_a_replaced_video_that_is_none_any_more_does_not_keep_its_old_pictures(tmp_path):
    path = film(tmp_path / "v" / "wave" / "a.avi", moving(13, 32, 32))
    prepare(tmp_path / "v", tmp_path)
    path.write_text("text")
    prepare(tmp_path / "v", tmp_path, code=1)
    assert "not a readable video" in video(tmp_path, "wave/a.avi").reason
    assert pictures(tmp_path) == 0


def test_the_same_bytes_with_another_time_are_the_same_video(tmp_path):
    """A data set that was copied, or fetched anew, is not prepared anew."""
    path = film(tmp_path / "v" / "wave" / "a.avi", moving(13, 32, 32))
    prepare(tmp_path / "v", tmp_path)
    for moment in (10**9, 2 * 10**9):
        os.utime(path, ns=(moment, moment))
        assert "preparing it again" not in prepare(tmp_path / "v", tmp_path)
    # that was remembered: the bytes are not looked at as long as size and time are these
    size = path.stat().st_size
    path.write_bytes(bytes(size))
    os.utime(path, ns=(2 * 10**9, 2 * 10**9))
    assert "preparing it again" not in prepare(tmp_path / "v", tmp_path)


def test_what_was_prepared_stays_when_its_video_is_gone(tmp_path):
    path = film(tmp_path / "a.avi", moving(13, 32, 32))
    (tmp_path / "list.csv").write_text("path,class,split\na.avi,wave,train\n")
    prepare(tmp_path / "list.csv", tmp_path)
    path.unlink()
    prepare(tmp_path / "list.csv", tmp_path)
    assert video(tmp_path, "a.avi").frames == 13


def test_a_skipped_video_is_tried_again_when_it_has_changed_or_appeared(tmp_path):
    for name in ("mended", "bad"):
        (tmp_path / f"{name}.avi").write_text("text")
    (tmp_path / "list.csv").write_text("path,class\nmended.avi,wave\nbad.avi,wave\nlate.avi,wave\n")
    said = prepare(tmp_path / "list.csv", tmp_path, code=1)
    assert said.count("skipped 'bad.avi': ") == 1
    assert "--retry-skipped tries them again)" in said
    for name in ("mended", "late"):
        film(tmp_path / f"{name}.avi", moving(13, 32, 32))
    said = prepare(tmp_path / "list.csv", tmp_path, "--allow-failures", "1")
    assert "skipped 'bad.avi'" not in said, "it is what it was, and is not tried"
    assert {video(tmp_path, f"{name}.avi").status for name in ("mended", "late")} == {"ok"}
    assert video(tmp_path, "bad.avi").status == "skipped"
    said = prepare(tmp_path / "list.csv", tmp_path, "--allow-failures", "1", "--retry-skipped")
    assert said.count("skipped 'bad.avi': ") == 1
    assert pictures(tmp_path) == 2 * 25


#: a data set whose videos lie on a server that is sometimes down
SERVER = """
from stmn.datasets.folder import Folder

class Server(Folder):
    def fetch(self, video):
        if (self.root / "down").exists():
            raise LookupError("the server does not answer")
        return super().fetch(video)
"""


def test_skipped_for_a_reason_that_no_file_shows(tmp_path, monkeypatch):
    with on_path(tmp_path / "site", monkeypatch) as packages:
        packages.install("server", SERVER, dataset={"server": "Server"})
        film(tmp_path / "v" / "wave" / "a.avi", moving(13, 32, 32))
        (tmp_path / "v" / "down").touch()
        prepare(tmp_path / "v", tmp_path, "--dataset", "server", code=1)
        (tmp_path / "v" / "down").unlink()
        prepare(tmp_path / "v", tmp_path, "--dataset", "server", code=1)
        assert "the server does not answer" in video(tmp_path, "wave/a.avi").reason
        prepare(tmp_path / "v", tmp_path, "--dataset", "server", "--retry-skipped")
        assert video(tmp_path, "wave/a.avi").frames == 13


@pytest.mark.parametrize("changed", [False, True])
def test_a_set_that_was_made_before_times_were_kept(changed, tmp_path):
    """The bytes decide then."""
    path = film(tmp_path / "v" / "wave" / "a.avi", moving(13, 32, 32))
    prepare(tmp_path / "v", tmp_path)
    for shard in (tmp_path / "data" / "mine" / "shards").iterdir():
        with sqlite3.connect(shard) as connection:
            connection.execute("DROP TABLE sources")
    if changed:
        film(path, moving(15, 32, 32))
    assert ("preparing it again" in prepare(tmp_path / "v", tmp_path)) == changed
    assert video(tmp_path, "wave/a.avi").frames == (15 if changed else 13)
    os.utime(path, ns=(10**9, 10**9))
    assert "preparing it again" not in prepare(tmp_path / "v", tmp_path)


def test_a_video_too_short_for_a_stack_is_kept_and_said(tmp_path):
    """Ten flow fields take eleven frames."""
    for name, frames in (("short", 10), ("enough", 11)):
        film(tmp_path / "v" / "wave" / f"{name}.avi", moving(frames, 32, 32))
    line = (
        "1 of 2 videos are too short for a whole stack of 10 flow fields, the first: 'wave/short.avi' (10 frames); "
        "they are kept, their first and last field repeated"
    )
    assert line in prepare(tmp_path / "v", tmp_path)
    assert line in prepare(tmp_path / "v", tmp_path), "also where it is prepared already"
    assert video(tmp_path, "wave/short.avi").status == "ok"
    shutil.rmtree(tmp_path / "v")
    film(tmp_path / "v" / "wave" / "enough.avi", moving(11, 32, 32))
    assert "too short" not in prepare(tmp_path / "v", tmp_path)
