"""The recipe for a few hundred clips of your own, from a folder of clips to its table."""

import csv
import shutil

import pytest
from helpers.commands import call
from helpers.films import film, moving

FEW = [
    "--set", "sweep.seed=[0]", "--set", "appearance.steps=1", "--set", "motion.steps=1", "--set", "fused.steps=1",
    *(word for test in ("appearance", "motion", "fused", "fused-weighted") for word in ("--set", f"test-{test}.chunks=1")),
]  # fmt: skip


@pytest.mark.slow
def test_small_makes_a_table_of_clips_as_people_have_them(tmp_path):
    """Among them a damaged clip, and one that lies there twice, in the names of two persons."""
    for seed, person in enumerate(("ann", "bob", "cy", "di")):
        for name, dx in (("left", -1), ("right", 1), ("still", 0)):
            film(tmp_path / "v" / name / f"{person}_{name}.mp4", moving(14, 48 + 8 * seed, 64, dx, seed=seed))
    shutil.copy(tmp_path / "v" / "still" / "ann_still.mp4", tmp_path / "v" / "still" / "bob_still_again.mp4")
    (tmp_path / "v" / "left" / "cy_left_2.mp4").write_bytes(b"no video" * 100)
    done = call("run", "small", "--data-root", tmp_path / "v", "-w", tmp_path, *FEW)
    assert done.exit_code == 0, done.stderr
    assert "cy_left_2.mp4" in done.stderr
    [table] = tmp_path.glob("runs/table-*/table.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["row"] for row in rows] == [
        "chance", "box shapes alone", "test-appearance", "test-motion", "test-late-fusion", "test-late-fusion-weighted",
        "test-fused", "test-fused-weighted",
    ]  # fmt: skip
    assert {row["videos"] for row in rows[2:]} == {"13"}
