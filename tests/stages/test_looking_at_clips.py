"""What `stmn train` and `stmn init` find in a folder or a list of clips before anything is prepared."""

import sys

import pytest
from helpers.films import film, moving

from stmn.errors import MissingExtra, UsageError
from stmn.options.fitting import FittingOptions
from stmn.options.prepare import PrepareOptions
from stmn.recipe.fitting import fit_recipe
from stmn.runtime.progress import Silent
from stmn.stages.clips import look_at_clips, measure_motion


@pytest.fixture
def films(tmp_path):
    """Two long films."""
    for name in ("one", "two"):
        film(tmp_path / f"{name}.avi", moving(100))
    return tmp_path


def look(table, *lines: str):
    table.write_text("\n".join(lines) + "\n")
    return look_at_clips(PrepareOptions(videos=table, dataset="csv"), Silent())


def test_a_segment_is_as_long_as_it_says(films):
    """Not as its film, of which it may be a small part; 25 frames per second."""
    rows = ["one.avi,0.4,1.2,jump", "one.avi,2,,run", "two.avi,0,9,run"]  # to the end, and past it
    clips = look(films / "list.csv", "path,start,end,class", *rows)
    assert clips.lengths == [20, 50, 100]


def test_a_list_with_a_missing_file_has_no_split_of_its_own(films):
    clips = look(films / "list.csv", "path,class", "one.avi,jump", "two.avi,run", "gone.avi,run")
    assert len(clips.entries) == 2 and not clips.splits
    own = look(films / "own.csv", "path,class,split", "one.avi,jump,train", "two.avi,run,test")
    assert own.splits["1"]["test"] == [own.entries[1].id]


def test_a_flow_that_can_not_run_is_not_the_fault_of_clips(films, monkeypatch):
    table = films / "list.csv"
    clips = look(table, "path,class", "one.avi,jump", "two.avi,run")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtra, match="--flow dis needs the package"):
        measure_motion(clips, PrepareOptions(videos=table, dataset="csv", flow="dis"), Silent())
    for option, words in (("flow", "flow: .*'tlv1'.*did you mean 'tvl1'"), ("arch", "arch: .*'tlv1'")):
        with pytest.raises(UsageError, match=words):
            fit_recipe(FittingOptions(videos=table, **{option: "tlv1"}), "list", "cpu", Silent())
