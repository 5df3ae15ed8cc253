"""`stmn prepare` again, after videos were replaced, repaired, deleted or added."""

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
    """Prepare the set `mine`; returns what was printed."""
    result = call("prepare", videos, "mine", *FAST, "-w", work, *arguments)
    assert result.exit_code == code, result.stderr
    return result.stderr


def video(work: Path, video_id: str) -> StoredVideo:
    with Store(work / "data" / "mine") as store:
        return store.videos[video_id]


def pictures(work: Path) -> int:
    """How many pictures are stored, of all videos."""
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


def test_replaced_video_that_is_broken_loses_its_old_pictures(tmp_path):
    path = film(tmp_path / "v" / "wave" / "a.avi", moving(13, 32, 32))
    prepare(tmp_path / "v", tmp_path)
    path.write_text("text")
    prepare(tmp_path / "v", tmp_path, code=1)
    assert "not a readable video" in video(tmp_path, "wave/a.avi").reason
    assert pictures(tmp_path) == 0


def test_touched_file_is_the_same_video(tmp_path):
    """A data set that was copied or downloaded again is not prepared again."""
    path = film(tmp_path / "v" / "wave" / "a.avi", moving(13, 32, 32))
    prepare(tmp_path / "v", tmp_path)
    for moment in (10**9, 2 * 10**9):
        os.utime(path, ns=(moment, moment))
        assert "preparing it again" not in prepare(tmp_path / "v", tmp_path)
    # this was recorded: the bytes are not read again while size and time stay the same
    size = path.stat().st_size
    path.write_bytes(bytes(size))
    os.utime(path, ns=(2 * 10**9, 2 * 10**9))
    assert "preparing it again" not in prepare(tmp_path / "v", tmp_path)


def test_prepared_video_stays_when_its_file_is_deleted(tmp_path):
    path = film(tmp_path / "a.avi", moving(13, 32, 32))
    (tmp_path / "list.csv").write_text("path,class,split\na.avi,wave,train\n")
    prepare(tmp_path / "list.csv", tmp_path)
    path.unlink()
    prepare(tmp_path / "list.csv", tmp_path)
    assert video(tmp_path, "a.avi").frames == 13


def test_skipped_video_is_tried_again_once_its_file_changes(tmp_path):
    for name in ("repaired", "bad"):
        (tmp_path / f"{name}.avi").write_text("text")
    (tmp_path / "list.csv").write_text("path,class\nrepaired.avi,wave\nbad.avi,wave\nlate.avi,wave\n")
    said = prepare(tmp_path / "list.csv", tmp_path, code=1)
    assert said.count("skipped 'bad.avi': ") == 1
    assert "--retry-skipped tries them again)" in said
    for name in ("repaired", "late"):
        film(tmp_path / f"{name}.avi", moving(13, 32, 32))
    said = prepare(tmp_path / "list.csv", tmp_path, "--allow-failures", "1")
    assert "skipped 'bad.avi'" not in said, "it is what it was, and is not tried"
    assert {video(tmp_path, f"{name}.avi").status for name in ("repaired", "late")} == {"ok"}
    assert video(tmp_path, "bad.avi").status == "skipped"
    said = prepare(tmp_path / "list.csv", tmp_path, "--allow-failures", "1", "--retry-skipped")
    assert said.count("skipped 'bad.avi': ") == 1
    assert pictures(tmp_path) == 2 * 25


#: a data set whose videos are on a server that is sometimes down
SERVER = """
from stmn.datasets.folder import Folder

class Server(Folder):
    def fetch(self, video):
        if (self.root / "down").exists():
            raise LookupError("the server does not answer")
        return super().fetch(video)
"""


def test_video_skipped_for_a_reason_outside_its_file(tmp_path, monkeypatch):
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
def test_set_prepared_before_times_were_recorded(changed, tmp_path):
    """Then the bytes decide."""
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


def test_video_too_short_for_a_stack_is_kept_with_a_note(tmp_path):
    """Ten flow fields need eleven frames."""
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


# a set that changes


def test_renamed_class_keeps_its_pictures(tmp_path):
    for name in ("a", "b"):
        film(tmp_path / "v" / "wvae" / f"{name}.avi", moving(13, 32, 32, seed=ord(name)))
    film(tmp_path / "v" / "clap" / "c.avi", moving(13, 32, 32, seed=3))
    prepare(tmp_path / "v", tmp_path)
    before = pictures(tmp_path)
    (tmp_path / "v" / "wvae").rename(tmp_path / "v" / "wave")
    said = prepare(tmp_path / "v", tmp_path)
    assert "2 videos have other names than before, the first: 'wave/a.avi', which was 'wvae/a.avi'" in said
    assert "any more" not in said
    with Store(tmp_path / "data" / "mine") as store:
        assert {v.id: v.class_name for v in store.videos.values()} == {
            "wave/a.avi": "wave", "wave/b.avi": "wave", "clap/c.avi": "clap",
        }  # fmt: skip
        assert store.header.classes == ["clap", "wave"]
    assert pictures(tmp_path) == before
    assert call("data", "check", "-w", tmp_path).exit_code == 0
    assert "other names" not in prepare(tmp_path / "v", tmp_path)


def test_deleted_video_is_set_apart_until_it_is_dropped(tmp_path):
    """A disk may be missing for a day: what was prepared comes back with its video."""
    for name in ("a", "b", "c"):
        film(tmp_path / "v" / "wave" / f"{name}.avi", moving(13, 32, 32, seed=ord(name)))
    prepare(tmp_path / "v", tmp_path)
    folder, size = tmp_path / "data" / "mine", 0
    (tmp_path / "v" / "wave" / "b.avi").rename(tmp_path / "away.avi")
    said = prepare(tmp_path / "v", tmp_path)
    assert (
        "1 prepared video is not in the data set any more, the first: 'wave/b.avi'; set apart, and deleted with --drop-gone"
    ) in said
    assert "header's list" not in call("data", "check", "-w", tmp_path).stdout
    assert "2 ok, 0 skipped; 1 set apart" in call("data", "info", "-w", tmp_path).stdout
    with Store(folder) as store:
        apart = store.fingerprint
        assert sorted(store.videos) == ["wave/a.avi", "wave/c.avi"]

    (tmp_path / "away.avi").rename(tmp_path / "v" / "wave" / "b.avi")
    said = prepare(tmp_path / "v", tmp_path)
    assert "videos: 3/3 videos, 0.0/s" in said  # nothing was decoded
    (tmp_path / "v" / "wave" / "b.avi").unlink()
    size = sum(path.stat().st_size for path in (folder / "shards").iterdir())
    assert "'wave/b.avi'; dropped" in prepare(tmp_path / "v", tmp_path, "--drop-gone")
    assert sum(path.stat().st_size for path in (folder / "shards").iterdir()) < 0.8 * size
    assert pictures(tmp_path) == 2 * 25
    with Store(folder) as store:
        assert (store.fingerprint, store.header.gone) == (apart, [])


def test_moved_workspace_and_videos_are_the_same(tmp_path):
    """On another disk or machine: ids are relative, and the bytes of a video say that it is the same."""
    film(tmp_path / "here" / "v" / "wave" / "a.avi", moving(13, 32, 32))
    prepare(tmp_path / "here" / "v", tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    os.utime(tmp_path / "there" / "v" / "wave" / "a.avi", ns=(10**9, 10**9))
    before = video(tmp_path / "there", "wave/a.avi")
    assert "again" not in prepare(tmp_path / "there" / "v", tmp_path / "there")
    assert video(tmp_path / "there", "wave/a.avi") == before
