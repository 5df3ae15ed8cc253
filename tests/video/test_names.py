"""Names of video files."""

import subprocess
import sys

import pytest

from stmn.video.names import without_suffix


@pytest.mark.parametrize(("name", "short"), [
    ("a.mp4", "a"), ("b/a.AVI", "b/a"), ("a.2", "a.2"), ("a.tar.webm", "a.tar"), (".mp4", ".mp4"),
])  # fmt: skip
def test_only_the_suffix_of_a_video_is_cut(name, short):
    assert without_suffix(name) == short


def test_listing_and_recording_videos_loads_no_decoder():
    """The main process of `stmn prepare` starts sooner without it."""
    code = (
        "import sys, stmn.datasets.folder, stmn.store.prepare.sources, stmn.store.prepare.video\n"
        "sys.exit(', '.join({'torch', 'av'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
