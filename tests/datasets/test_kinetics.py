"""Kinetics: published lists, and those clips that could still be downloaded."""

import shutil
from pathlib import Path

import pytest
from helpers.commands import call, errors_of
from helpers.films import film, moving

from stmn.datasets.kinetics import Kinetics
from stmn.store.format.read import Store

FAST = ["--short-side", "32", "--workers", "1", "--flow", "farneback"]
HEAD = "label,youtube_id,time_start,time_end,split"


def listed(path: Path, *rows: str, head: str = HEAD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def test_every_row_becomes_a_video(tmp_path):
    """Clips are in one folder, in folders of labels (with blanks or underscores), or of parts; many are missing."""
    root = tmp_path / "k400"
    clip = film(tmp_path / "clip.mp4", moving(3, 32, 32))
    places = ["-abc_000001_000011.mp4", "riding a bike/x_y-z12_000120_000130.mp4"]
    for place in [*places, "val/zumba_dance/v1_000000_000010.mkv"]:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, root / place)
    bikes = ["riding a bike,-abc,1,11,train", '"riding a bike",x_y-z12,120,130,train']
    listed(root / "train.csv", *bikes, "sipping cup,gone,7,17,train")
    listed(root / "validate.csv", "zumba dance,v1,0,10,validate", "zumba dance,v2,0.0,10.0,validate")
    listed(root / "test.csv", "t1,0,10,test", head="youtube_id,time_start,time_end,split")

    result = call("prepare", root, "mine", "--dataset", "kinetics", *FAST, "-w", tmp_path)
    assert result.exit_code == 1
    assert "3 of 6 videos were skipped, the first: 't1_000000_000010': " in errors_of(result)[0]
    result = call("prepare", root, "mine", "--dataset", "kinetics", *FAST, "-w", tmp_path, "--allow-failures", "3")
    assert result.exit_code == 0
    with Store(tmp_path / "data" / "mine") as store:
        assert {v.id: v.class_name for v in store.videos.values() if v.status == "ok"} == {
            "riding a bike/-abc_000001_000011": "riding a bike", "riding a bike/x_y-z12_000120_000130": "riding a bike",
            "zumba dance/v1_000000_000010": "zumba dance",
        }  # fmt: skip
        assert store.videos["zumba dance/v1_000000_000010"].group == "v1"
        reasons = {v.id: v.reason for v in store.videos.values() if v.status == "skipped"}
        assert "no such video file" in reasons["sipping cup/gone_000007_000017"]
        assert "no such video file" in reasons["zumba dance/v2_000000_000010"]
        assert reasons["t1_000000_000010"].endswith("the list has no label for it")
        assert store.header.classes == ["riding a bike", "sipping cup", "zumba dance"]
        # the test list has no labels, so the validation rows are for testing
        assert store.header.splits == {"1": {
            "train": ["riding a bike/-abc_000001_000011", "riding a bike/x_y-z12_000120_000130", "sipping cup/gone_000007_000017"],
            "test": ["zumba dance/v1_000000_000010", "zumba dance/v2_000000_000010"],
        }}  # fmt: skip


def test_clips_may_be_elsewhere_and_arrive_later(tmp_path):
    """A CSV is recognised by its header; a clip that arrives later is prepared then."""
    (tmp_path / "clips").mkdir()
    path = listed(tmp_path / "lists" / "val.csv", "wave,abc,1,11,val", "clap,def,2,12,val")
    arguments = ["prepare", path, "mine", "--dataset-options", f"clips={tmp_path / 'clips'}", *FAST, "-w", tmp_path]
    result = call(*arguments)
    assert "2 of 2 videos were skipped" in errors_of(result)[0]
    film(tmp_path / "clips" / "abc_000001_000011.mp4", moving(3, 32, 32))
    result = call(*arguments)
    assert "1 of 2 videos was skipped, the first: 'clap/def_000002_000012': " in errors_of(result)[0]
    film(tmp_path / "clips" / "clap" / "def_000002_000012.webm", moving(3, 32, 32), "libvpx")
    assert call(*arguments).exit_code == 0
    with Store(tmp_path / "data" / "mine") as store:
        assert [v.class_name for v in store.part("1", "test")] == ["wave", "clap"]


def test_labelled_test_rows_are_the_test_part(tmp_path):
    listed(tmp_path / "a.csv", "wave,a,0,10,train", "wave,b,0,10,val", "wave,c,0,10,test")
    assert Kinetics(tmp_path).splits() == {"1": {"train": ["wave/a_000000_000010"], "test": ["wave/c_000000_000010"]}}


def test_lists_may_be_named_and_lack_a_split_column(tmp_path):
    for name in ("k700_train", "k700_val", "other"):
        listed(tmp_path / f"{name}.csv", f"wave,{name},0,10", head="label,youtube_id,time_start,time_end")
    dataset = Kinetics(tmp_path, lists="k700_train.csv, k700_val.csv")
    assert dataset.splits() == {
        "1": {"train": ["wave/k700_train_000000_000010"], "test": ["wave/k700_val_000000_000010"]},
    }  # fmt: skip


@pytest.mark.parametrize(("rows", "words"), [
    (["wave,abc,1,11,train", "wave,abc,one,11,train"], "line 3: times 'one' and '11' are not seconds"),
    (["wave,,1,11,train"], "line 2: no youtube_id"),
    (["wave,abc,1,11,trial"], "line 2: split is 'trial'; it must be one of train, val"),
    (["wave,abc,1,11,train", "wave,abc,1,11,val"], "wave/abc_000001_000011 is listed twice"),
])  # fmt: skip
def test_wrong_list_is_one_line(rows, words, tmp_path):
    path = listed(tmp_path / "a.csv", *rows)
    [line] = errors_of(call("prepare", path, "mine", *FAST, "-w", tmp_path))
    assert line.startswith(str(path))
    assert words in line


def test_missing_lists_or_clips_are_named(tmp_path):
    [line] = errors_of(call("prepare", tmp_path, "mine", "--dataset", "kinetics", "-w", tmp_path))
    assert line == f"{tmp_path}: no CSV with the columns label, youtube_id, time_start, time_end, split"
    path = listed(tmp_path / "a.csv", "wave,abc,1,11,train")
    [line] = errors_of(call("prepare", path, "mine", "--dataset-options", "clips=none", "-w", tmp_path))
    assert line == f"{tmp_path / 'none'}: no such folder of clips; name it with clips=FOLDER"
