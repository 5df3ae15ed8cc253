"""Groups from names, and folds: every video is tested once, and no group is on both sides."""

from pathlib import Path

import pytest
from helpers.commands import call, errors_of
from helpers.films import film, moving

from stmn.datasets.base import VideoEntry
from stmn.datasets.csv_list import CsvList
from stmn.datasets.folder import Folder
from stmn.datasets.folds import choose_folds, make_folds
from stmn.store.format.read import Store

FAST = ["--short-side", "32", "--workers", "1", "--flow", "farneback"]


def touched(root: Path, *names: str) -> Path:
    """Empty files: only their names matter here."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def recorded(persons: dict[str, int], classes: int = 3) -> list[VideoEntry]:
    """So many videos of each person in each class."""
    return [
        VideoEntry(f"c{c}/{person}_{n}.avi", Path(), f"c{c}", person)
        for c in range(classes)
        for person, count in persons.items()
        for n in range(count)
    ]


def checked(splits: dict) -> list[list[str]]:
    """The groups in the test part of each split, after checks that hold for any folds."""
    everything = sorted(i for part in splits["1"].values() for i in part)
    assert sorted(i for parts in splits.values() for i in parts["test"]) == everything
    for parts in splits.values():
        assert sorted(parts["train"] + parts["test"]) == everything
    return [sorted({i.split("/")[1].split("_")[0] for i in parts["test"]}) for parts in splits.values()]


def test_each_group_is_tested_once_in_natural_order():
    splits = make_folds(recorded({"p10": 2, "p2": 1, "p1": 3}), "group", None)
    assert list(splits) == ["1", "2", "3"]
    assert checked(splits) == [["p1"], ["p2"], ["p10"]]


def test_group_folds_are_balanced_in_videos_and_classes():
    videos = recorded({f"p{n}": 1 + n % 4 for n in range(20)})
    splits = make_folds(videos, "group", 5)
    groups = checked(splits)
    assert sorted(g for fold in groups for g in fold) == sorted({v.group for v in videos})
    assert [len(parts["test"]) for parts in splits.values()] == [30] * 5
    for parts in splits.values():
        assert [sum(i.startswith(f"c{c}/") for i in parts["test"]) for c in range(3)] == [10] * 3
    assert make_folds(videos, "group", 5) == splits


def test_groups_of_one_class_each_are_spread():
    """As in UCF101, whose g01 is another recording in each class."""
    videos = [
        VideoEntry(f"c{c}/g{g}_{n}", Path(), f"c{c}", f"c{c}_g{g}") for c in range(4) for g in range(6) for n in (1, 2)
    ]
    for parts in make_folds(videos, "group", 3).values():
        assert [sum(i.startswith(f"c{c}/") for i in parts["test"]) for c in range(4)] == [4] * 4


def test_video_folds_are_stratified():
    videos = [VideoEntry(f"c{c}/{n}_", Path(), f"c{c}") for c in range(3) for n in range(10 + c)]
    splits = make_folds(videos, "video", 5)
    checked(splits)
    for parts in splits.values():
        assert all(2 <= sum(i.startswith(f"c{c}/") for i in parts["test"]) <= 3 for c in range(3))
    sizes = sorted(len(parts["test"]) for parts in splits.values())
    assert sizes[-1] - sizes[0] <= 1


@pytest.mark.parametrize("by", ["group", "video"])
def test_copies_of_a_file_are_in_one_fold_whatever_their_names(by, tmp_path):
    """Else a network is tested on what it was trained on."""
    videos = []
    for group in "abcdef":
        for number in range(2):
            path = tmp_path / f"{group}{number}.avi"
            path.write_bytes(f"{group}{number}".encode())
            videos.append(VideoEntry(path.stem, path, f"c{number}", group))
    (tmp_path / "e1.avi").write_bytes(b"a0")
    (tmp_path / "f0.avi").write_bytes(b"a0")
    folds = [set(parts["test"]) for parts in make_folds(videos, by, 3).values()]
    assert [len({"a0", "e1", "f0"} & fold) for fold in folds].count(0) == 2 and len(set.union(*folds)) == 12
    if by == "group":
        assert {"a0", "a1", "e0", "e1", "f0", "f1"} in folds
    assert choose_folds(videos, None) == ("group", 4)


def test_file_that_can_not_be_read_does_not_stop_the_folds(tmp_path, monkeypatch):
    """Preparing names it."""
    videos = []
    for name in "abcd":
        (tmp_path / name).write_bytes(b"the same size")
        videos.append(VideoEntry(name, tmp_path / name, "run"))

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("stmn.datasets.folds.file_digest", refuse)
    assert [len(parts["test"]) for parts in make_folds(videos, "video", 4).values()] == [1, 1, 1, 1]


def test_names_like_ucf101s_give_a_folder_and_a_list_groups(tmp_path):
    names = [f"{c}/v_{c}_g{g:02d}_c01.avi" for c in ("Clap", "Hug") for g in range(1, 6)]
    folder = Folder(touched(tmp_path, *names))
    assert sorted({v.group for v in folder.videos()}) == ["g01", "g02", "g03", "g04", "g05"]
    [said] = folder.notes(folder.videos())
    assert "groups: the gNN of a name is the same person" in said
    [parts] = folder.splits().values()  # whole groups, because there are groups
    assert not {i[-11:-8] for i in parts["train"]} & {i[-11:-8] for i in parts["test"]}
    (tmp_path / "list.csv").write_text("path,class\n" + "".join(f"{name},{name[0]}\n" for name in names))
    assert {v.group for v in CsvList(tmp_path / "list.csv").videos()} == {v.group for v in folder.videos()}
    # a column decides, even where it is empty
    (tmp_path / "own.csv").write_text("path,class,group\n" + "".join(f"{name},{name[0]},\n" for name in names))
    assert {v.group for v in CsvList(tmp_path / "own.csv").videos()} == {""}
    assert {v.group for v in Folder(touched(tmp_path / "b", "wave/a_g1_.avi", "wave/b_g2_x.avi")).videos()} == {""}


def test_a_pattern_finds_the_group_in_a_name(tmp_path):
    root = touched(tmp_path / "v", "bend/daria_bend.avi", "run/daria_run1.avi", "run/eli_run.avi", "run/7.avi")
    folder = Folder(root, group_pattern="/([a-z]+)_")
    assert {v.id: v.group for v in folder.videos()} == {
        "bend/daria_bend.avi": "daria", "run/daria_run1.avi": "daria", "run/eli_run.avi": "eli", "run/7.avi": "",
    }  # fmt: skip
    assert list(folder.notes(folder.videos())) == [
        "groups: 2 (daria, eli); 1 of 4 videos does not match group_pattern, the first: 'run/7.avi'"
    ]
    apart = Folder(root, group_pattern="/([a-z]+)_", groups="per_class")
    assert [v.group for v in apart.videos()] == ["bend_daria", "", "run_daria", "run_eli"]


CLASSES, PEOPLE = ("walk", "run", "hug"), ("anna", "bruno", "hugo", "ed")


def named(form, people=PEOPLE, classes=CLASSES, times=2):
    """Names such as `form` makes of a class, a person and a number."""
    return [
        form.format(c=name, C=name.title(), p=person, i=i)
        for name in classes
        for person in people
        for i in range(times)
    ]


@pytest.mark.parametrize(("names", "groups"), [
    (["bend/daria_bend.avi", "run/daria_run1.avi", "run/eli_run.avi", "bend/eli_bend.avi"], {"daria", "eli"}),
    (["run/person01_run_d1.avi", "run/person02_run_d4.avi", "high jump/person01_HighJump_d2.avi",
      "high jump/person02_highjump_d1.avi"], {"person01", "person02"}),
    (["run/run-Ann.avi", "bend/bend-Ann.avi", "run/run-bob.avi", "bend/bend-bob.avi"], {"Ann", "bob"}),
    (named("{c}/{c}_{p}_{i}.avi"), {*PEOPLE}),
    (named("{c}/{p}_{i}_{c}.avi"), {*PEOPLE}),
    (named("{c}/{p}{C}{i}.avi"), {*PEOPLE}),
    (named("{c}/{c}ing_{p}.avi", times=1), {*PEOPLE}),
    (named("{c}/{p}{i}.avi", PEOPLE[:3]), {*PEOPLE[:3]}),  # the names need not hold the class
    (named("{c}/{p}/{i}.avi"), {*PEOPLE}),
    (named("{c}/cam{p}/{i}.avi", (1, 2)), {"cam1", "cam2"}),
    (named("{c}/{c}_person_{p}.avi", (1, 2, 3), times=1), {"person_1", "person_2", "person_3"}),
    (named("{c}/v_{c}_{p:02d}/v_{c}_{p:02d}_{i}.avi", (1, 2), ("walk", "run")),  # UCF11's
     {"v_walk_01", "v_walk_02", "v_run_01", "v_run_02"}),
    (named("{c}/v_{c}_{p:02d}_{i}.avi", (1, 2)), {"01", "02"}),
    ([f"{c}/{film}{c}_{c}_f_nm_np1_fr_med_{i}.avi" for c in CLASSES for film in "AB" for i in range(3)],  # HMDB51's
     {f"{film}{c}" for c in CLASSES for film in "AB"}),
    (["run/v_run_g01_c01.avi", "run/v_run_g02_c01.avi", "bend/v_bend_g01_c01.avi"], {"g01", "g02"}),
    # names of several numbers, one of them a person's: NTU's, MSR's, UTD-MHAD's, Florence3D's
    ([f"{c}/S00{p % 2}C001P00{p}R00{i}A0{n}.avi" for n, c in enumerate(CLASSES) for p in (1, 2, 3) for i in (1, 2)],
     {"p001", "p002", "p003"}),
    ([f"{c}/a0{n}_s0{p}_e0{i}.avi" for n, c in enumerate(CLASSES) for p in (1, 2) for i in (1, 2)], {"s01", "s02"}),
    ([f"{c}/a{n}_s{p}_t{i}_color.avi" for n, c in enumerate(CLASSES) for p in (1, 2) for i in (1, 2)], {"s1", "s2"}),
    ([f"{c}/Gesture_Id{i}actor{p}idAction{i}category{n}.avi" for n, c in enumerate(CLASSES) for p in (1, 2)
      for i in (1, 2)], {"actor1", "actor2"}),
    (named("{c}/{c}_Subject{p}_rep{i}.avi", (1, 2)), {"subject1", "subject2"}),
    (named("{c}/s01e0{p}_shot{i}.avi", (1, 2)), {"s01e01_shot", "s01e02_shot"}),  # episodes of one season
    (["run/run_Ann.avi", "run/run_bob.avi", "bend/bend_ann.avi", "bend/bend_Bob.avi"], {"ann", "Bob"}),
    # a folder may have another name than the class has in files, if these agree
    (["Walking/walk_anna_1.avi", "Walking/walk_bruno_2.avi", "Walking/walk_ed_1.avi", "Running/run_anna_1.avi",
      "Running/run_bruno_1.avi", "Running/run_ed_2.avi"], {"anna", "bruno", "ed"}),
    ([f"{c}/{p}_{word}{i}.avi" for c, word in (("walk", "gait"), ("run", "jog")) for p in PEOPLE for i in (1, 2)],
     {*PEOPLE}),
    # cameras and sessions name nobody, unless there is nothing else
    (named("{c}/cam{i}/{p}_{c}.avi"), {*PEOPLE}),
    (named("{c}/{p}/session{i}/1.avi"), {*PEOPLE}),
    (named("{c}/{p}1_cam{i}_{c}.avi"), {*PEOPLE}),
    (named("{c}/{p}_indoor_{c}_{i}.avi") + named("{c}/{p}_outdoor_{c}_{i}.avi"), {*PEOPLE}),
    # numbers that count videos name nobody
    (["run/run_1.avi", "run/run_2.avi", "bend/bend_1.avi", "bend/bend_2.avi"], {""}),
    (named("{c}/v_{c}_{i}.avi", times=6), {""}),
    (named("{c}/clip{i}.avi", times=6), {""}),
    (named("{c}/clip{i}/video.avi", times=6), {""}),
    (named("{c}/{p}_{i:03d}.avi", ("IMG", "VID"), times=6), {""}),
    (["run/ann_run.avi", "run/bob_run.avi", "bend/cy_bend.avi", "bend/di_bend.avi"], {""}),  # nobody recurs
    (["run/a.avi", "run/b.avi", "bend/a.avi", "bend/b.avi"], {""}),
    (["run/train/1.avi", "run/test/2.avi", "bend/train/1.avi", "bend/test/2.avi"], {""}),
])  # fmt: skip
def test_what_names_have_in_common_is_a_group_if_asked_for(names, groups, tmp_path):
    root = touched(tmp_path, *names)
    folder = Folder(root, group_pattern="auto")
    assert {v.group for v in folder.videos()} == groups
    [said] = [note for note in folder.notes(folder.videos()) if not note.startswith("deeper than CLASS/VIDEO: ")]
    none = "groups: the names show none, so a person in several videos may be both trained on and tested"
    assert said == none if groups == {""} else said.startswith(f"groups: {len(groups)} (")
    if not any("_g01_" in name for name in names):
        assert {v.group for v in Folder(root).videos()} == {""}


@pytest.mark.parametrize(("name", "groups"), [("weizmann", 9), ("ut_interaction", 10)])
def test_real_names_show_their_groups(name, groups, shared_data):
    """The persons of Weizmann, and the recordings of UT-Interaction, whose clips lie in `videos/`."""
    videos = Folder(shared_data / name, group_pattern="auto").videos()
    assert len({video.group for video in videos}) == groups
    assert all(video.group in video.id for video in videos)


@pytest.mark.parametrize(("by", "folds", "names"), [
    ("group", 2, ["bend/daria_bend.avi", "run/daria_run.avi", "run/eli_run.avi", "bend/eli_bend.avi"]),
    ("video", 4, ["bend/a.avi", "run/b.avi", "run/c.avi", "bend/d.avi"]),
    # a group for each class: to hold one out would leave its class nothing to learn from
    ("video", 4, ["bend/v_bend_g01_c01.avi", "bend/v_bend_g01_c02.avi", "run/v_run_g02_c01.avi", "run/v_run_g02_c02.avi"]),
])  # fmt: skip
def test_folds_are_of_groups_if_there_are_any(by, folds, names, tmp_path):
    root = touched(tmp_path / "v", *names)
    for seed, path in enumerate(root.rglob("*.avi")):
        film(path, moving(3, 32, 32, seed=seed))
    given = ["--split-by", "auto", "--dataset-options", "group_pattern=auto", "--folds", "4", "-w", tmp_path]
    result = call("prepare", root, "mine", *FAST, *given)
    assert result.exit_code == 0
    assert ("folds are of single videos" in result.output) == (by == "video" and "_g01_" in names[0])
    with Store(tmp_path / "data" / "mine") as store:
        assert store.header.folds.model_dump() == {"by": by, "count": folds}
        assert len(store.header.splits) == folds


def test_a_small_class_of_one_person_does_not_put_the_others_on_both_sides():
    """Unless most videos are of such classes, as where each class was recorded by somebody else."""
    videos = recorded({"daria": 1, "denis": 1, "eli": 1, "ido": 1}, classes=2)
    alone = VideoEntry("jack/daria.avi", Path(), "jack", "daria")
    assert choose_folds([*videos, alone], 3) == ("group", 3)
    separate = [VideoEntry(f"{name}/{n}.avi", Path(), name, name) for name in ("jump", "skip") for n in range(9)]
    assert choose_folds([*videos, alone, *separate], 3) == ("video", 3)


def test_folds_take_the_place_of_folders_that_are_a_split(tmp_path):
    root = tmp_path / "v"
    for seed, name in enumerate(("train/run/a.avi", "train/bend/a.avi", "val/run/b.avi", "val/bend/b.avi")):
        film(root / name, moving(3, 32, 32, seed=seed))
    result = call("prepare", root, "mine", *FAST, "--split-by", "video", "--folds", "2", "-w", tmp_path)
    assert "train/ and val/: not used as a split; the folds are of all videos" in result.output
    assert "is the test part" not in result.output
    with Store(tmp_path / "data" / "mine") as store:
        assert sorted(store.header.splits["1"]["test"] + store.header.splits["2"]["test"]) == sorted(store.videos)


def test_folds_take_the_place_of_columns_that_are_splits(tmp_path):
    rows = ["path,class,split1,split2"]
    for name, parts in (("a", "train,test"), ("b", "test,train")):
        for kind in ("run", "bend"):
            film(tmp_path / f"{kind}_{name}.avi", moving(3, 32, 32, seed=len(rows)))
            rows.append(f"{kind}_{name}.avi,{kind},{parts}")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    result = call(
        "prepare", tmp_path / "list.csv", "mine", *FAST, "--split-by", "video", "--folds", "2", "-w", tmp_path
    )
    assert result.exit_code == 0
    assert "columns split1, split2: not used; the folds are of all videos" in result.output


@pytest.mark.parametrize(("options", "words"), [
    (["--split-by", "group"], "split_by = group: no video has a group; names like a_g01_c01.avi have groups"),
    (["--split-by", "group", "--dataset-options", "group_pattern=([a-z]+)_"],
     "split_by = group: 1 of 3 videos has no group, the first: 'run/7.avi'; "),
    (["--split-by", "group", "--folds", "4", "--dataset-options", "group_pattern=([a-z]+)_"],
     "4 folds need at least 4 groups, but there are 3"),
    (["--split-by", "video", "--folds", "4"], "4 folds need at least 4 videos, but there are 3"),
    (["--split-by", "video"], "split_by = video: say how many folds"),
    (["--folds", "4"], "folds: needs split_by = group"),
    (["--folds", "1", "--split-by", "video"], "folds = 1: must be 2 or more"),
    (["--dataset-options", "group_pattern=([a-z"], "group_pattern '([a-z': unterminated character set"),
    (["--dataset-options", "group_pattern=[a-z]+_"], "group_pattern '[a-z]+_': put brackets around the part"),
    (["--dataset-options", "group_pattern=(x)"], "group_pattern '(x)' matches none of the videos, such as 'run/7.avi'"),
    (["--dataset-options", "group_pattern=3"], "group_pattern = 3: must be text"),
    (["--dataset-options", "groups=mine"], "groups is 'mine'; it must be per_class or shared"),
])  # fmt: skip
def test_what_can_not_be_divided_is_one_line(options, words, tmp_path):
    root = touched(tmp_path / "v", "run/daria_1.avi", "run/eli_1.avi", "run/7.avi")
    result = call("prepare", root, "mine", *FAST, "-w", tmp_path, *options)
    assert result.exit_code == 2
    [line] = errors_of(result)
    assert words in line
    assert not (tmp_path / "data").exists()


def test_group_column_and_pattern_exclude_each_other(tmp_path):
    (tmp_path / "a.csv").write_text("path,class,group\na.avi,wave,x\n")
    result = call("prepare", tmp_path / "a.csv", *FAST, "-w", tmp_path, "--dataset-options", "group_pattern=(a)")
    assert errors_of(result) == [
        f"{tmp_path / 'a.csv'}: has a column group, and the option group_pattern gives groups too; use one of them"
    ]


def test_prepared_set_takes_other_splits_without_decoding(tmp_path):
    names = [f"{name}/{person}_{name}.mp4" for person in ("ann", "bob", "cy", "di") for name in ("run", "jump")]
    for seed, name in enumerate(names):
        film(tmp_path / "v" / name, moving(3, 32, 32, seed=seed))
    line = ["prepare", tmp_path / "v", "mine", *FAST, "-w", tmp_path]
    assert call(*line).exit_code == 0

    again = call(*line, "--split-by", "group", "--dataset-options", "group_pattern=/([a-z]+)_", "--json")
    assert again.exit_code == 0, again.stderr
    assert '"new": true' not in again.stdout
    with Store(tmp_path / "data" / "mine") as store:
        assert list(store.header.splits) == ["1", "2", "3", "4"]
        assert {v.group for v in store.part("3", "test")} == {"cy"}
        assert store.header.folds.model_dump() == {"by": "group", "count": None}
    info = call("data", "info", "-w", tmp_path).stdout.splitlines()
    assert "splits       4, each tests one group (1 to 4), train: 6, test: 2" in info
    assert not any(line.startswith("split 1") for line in info)

    folds = call(*line, "--split-by", "group", "--folds", "2", "--dataset-options", "group_pattern=/([a-z]+)_")
    assert "groups: 4 (ann, bob, cy, di)" in folds.stderr
    assert "splits: 2, folds; each tests 4 videos" in folds.stderr
    info = call("data", "info", "-w", tmp_path).stdout.splitlines()
    assert "splits       2 group folds (1 to 2), train: 4, test: 4" in info
