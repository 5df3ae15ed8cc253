"""Temporary files of killed processes go when their stage runs again; those of living processes stay."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import run_stage

from stmn.errors import StmnError
from stmn.runtime.files import atomic_write, remove_leftovers

#: writes two files and waits
WRITER = """
import sys, time
from pathlib import Path
from stmn.runtime.files import atomic_write
with atomic_write(Path(sys.argv[1]) / "model.onnx") as one, atomic_write(Path(sys.argv[1]) / "deep" / "a.mp4") as two:
    print("begun", flush=True)
    time.sleep(60)
"""


def writer(folder: Path) -> subprocess.Popen:
    """A process that is writing two files in a folder."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, folder], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"begun\n"
    return process


def hidden(folder: Path) -> list[Path]:
    """The hidden files of a folder and those below."""
    return sorted(path for path in folder.rglob(".*") if path.is_file())


def test_leftovers_of_a_killed_process_go_with_the_next_run(own):
    run = run_stage(own, "evaluate", model="motion")
    process = writer(run.path)
    (run.path / ".tmpa1B2c3").write_bytes(b"begun by safetensors")
    (run.path / ".kept.december.mp4").write_bytes(b"somebody's own")
    assert len(hidden(run.path)) == 4
    remove_leftovers(run.path)
    assert len(hidden(run.path)) == 3  # the process lives
    process.kill()
    process.wait()
    run.output("metrics").unlink()
    run_stage(own, "evaluate", model="motion")
    assert hidden(run.path) == [run.path / ".kept.december.mp4"]


def test_a_file_that_is_being_written_is_no_leftover(tmp_path):
    with atomic_write(tmp_path / "a.json") as temporary:
        remove_leftovers(tmp_path)
        temporary.write_text("{}")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_leftovers_of_one_name_alone_go_beside_a_copy(tmp_path):
    process = writer(tmp_path)
    process.kill()
    process.wait()
    remove_leftovers(tmp_path, "other.onnx")
    assert len(hidden(tmp_path)) == 2
    remove_leftovers(tmp_path, "model.onnx")
    assert [path.parent.name for path in hidden(tmp_path)] == ["deep"]


@pytest.mark.parametrize("name", ["a.safetensors", "a", "a.tar.gz"])
def test_error_about_the_temporary_file_names_the_real_one(name, tmp_path):
    with pytest.raises(StmnError) as caught, atomic_write(tmp_path / name) as temporary:
        raise StmnError(f"{temporary}: is too large")
    assert str(caught.value) == f"{tmp_path / name}: is too large"
