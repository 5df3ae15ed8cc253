"""The validation list: whole groups, all classes alike, no class left untrained, the same for every stage."""

from collections import Counter
from dataclasses import replace

import pytest

from stmn.errors import DataError
from stmn.sampling.validation import hold_out
from stmn.store.format.read import StoredVideo


def video(number: int, class_name: str, group: str = "") -> StoredVideo:
    return StoredVideo(
        f"{class_name}/v{number}", class_name, group, "ok", "", 20, 8, 8, 8, 8, 25.0, f"hash{number}", number, 0
    )


def persons(count: int, classes: int, clips: int = 1) -> list[StoredVideo]:
    """Every person does everything."""
    return [
        video(clips * (person * classes + k) + clip, f"class{k}", f"person{person}")
        for person in range(count)
        for k in range(classes)
        for clip in range(clips)
    ]


def groups_of(videos: list[StoredVideo]) -> set[str]:
    return {video.group or video.id for video in videos}


@pytest.mark.parametrize("seed", range(5))
def test_person_who_does_everything_stands_on_one_side(seed):
    lists = hold_out(persons(10, 6), 0.2, seed)
    assert len(groups_of(lists.held_out)) == 2 and len(lists.held_out) == 12
    assert not groups_of(lists.kept) & groups_of(lists.held_out)
    assert len(lists.kept) + len(lists.held_out) == 60


@pytest.mark.parametrize("seed", range(20))
def test_no_class_is_left_untrained(seed):
    """10 classes of 2 videos, without groups."""
    videos = [video(2 * k + i, f"class{k}") for k in range(10) for i in range(2)]
    for share in (0.1, 0.5, 0.89):
        lists = hold_out(videos, share, seed)
        assert {v.class_name for v in lists.kept} == {v.class_name for v in videos}
        assert len(lists.held_out) == min(round(share * 20), 10)


@pytest.mark.parametrize("seed", range(5))
def test_classes_are_held_out_alike(seed):
    videos = [
        video(number, f"class{k}", f"g{k}-{number // 4}") for k in range(7) for number in range(40 * k, 40 * k + 40)
    ]
    held = Counter(v.class_name for v in hold_out(videos, 0.2, seed).held_out)
    assert set(held.values()) == {8}
    unequal = [video(n, "many", "") for n in range(90)] + [video(n, "few", "") for n in range(90, 100)]
    assert Counter(v.class_name for v in hold_out(unequal, 0.2, seed).held_out) == {"many": 18, "few": 2}


def test_list_is_a_function_of_the_set_the_share_and_the_seed():
    videos = persons(12, 5, clips=3)
    ids = [v.id for v in hold_out(videos, 0.25, 1).held_out]
    assert [v.id for v in hold_out(videos, 0.25, 1).held_out] == ids
    assert {v.id for v in hold_out(videos[::-1], 0.25, 1).held_out} == set(ids)
    assert {v.id for v in hold_out(videos, 0.25, 2).held_out} != set(ids)


@pytest.mark.parametrize("videos", [persons(12, 5), [video(n, f"class{n % 4}", f"g{n // 3}") for n in range(90)]])
def test_larger_share_holds_out_what_a_smaller_one_does(videos):
    smaller: set[str] = set()
    for share in (0.05, 0.1, 0.2, 0.3, 0.5):
        held = {v.id for v in hold_out(videos, share, 0).held_out}
        assert smaller <= held
        smaller = held


def test_share_is_met_as_closely_as_whole_groups_allow():
    assert len(hold_out([video(n, "a") for n in range(50)], 0.1, 0).held_out) == 5
    assert len(hold_out(persons(9, 10), 0.1, 0).held_out) == 10
    assert hold_out(persons(9, 10), 0.1, 0).describe() == ""
    assert hold_out(persons(9, 10), 0.0, 0).held_out == []


def test_far_more_than_the_share_is_said():
    lists = hold_out(persons(2, 10), 0.1, 0)
    assert len(lists.held_out) == 10
    assert "10 of 20 training videos are held out, more than 0.1 of them, because groups are not divided" in (
        lists.describe()
    )


def test_less_than_the_share_and_a_share_below_one_video_are_said():
    few = hold_out([video(2 * k + i, f"class{k}") for k in range(10) for i in range(2)], 0.89, 0)
    assert few.describe() == (
        "validation: 10 of 20 training videos are held out, less than 0.89 of them, because groups are not divided "
        "and every class keeps one"
    )
    assert "1 of 5 training videos is held out, more than 0.1 of them" in (
        hold_out([video(n, "a") for n in range(5)], 0.1, 0).describe()
    )


@pytest.mark.parametrize("seed", range(10))
def test_same_file_under_two_names_stands_on_one_side(seed):
    """Also where a file joins two groups, and a third one through another file."""
    videos = [video(n, f"class{n % 2}", f"g{n // 4}") for n in range(80)]
    for one, other in ((0, 41), (42, 79), (5, 6)):
        videos[other] = replace(videos[other], source_hash=videos[one].source_hash)
    lists = hold_out(videos, 0.3, seed)
    assert not {v.source_hash for v in lists.kept} & {v.source_hash for v in lists.held_out}
    assert not groups_of(lists.kept) & groups_of(lists.held_out)
    assert len({group in groups_of(lists.held_out) for group in ("g0", "g10", "g19")}) == 1


def test_class_that_can_not_be_validated_is_named():
    videos = [video(n, "many", f"g{n}") for n in range(20)] + [video(n, "alone", "one person") for n in range(20, 24)]
    lists = hold_out(videos, 0.1, 0)
    assert {v.class_name for v in lists.held_out} == {"many"}
    assert lists.describe() == "validation: no video of alone is held out"


def test_nothing_to_hold_out_is_refused_with_the_class():
    with pytest.raises(
        DataError, match=r"validation = 0.1: no training videos can be held out.* class 'a' .*validation = 0"
    ):
        hold_out([video(0, "a", "p"), video(1, "b", "p"), video(2, "b", "p")], 0.1, 0)


def test_large_set_takes_seconds():
    """20,000 videos of 400 classes; the greedy choice must not be quadratic in them."""
    videos = [video(n, f"class{n % 400}", f"g{n // 3}") for n in range(20_000)]
    assert len(hold_out(videos, 0.1, 0).held_out) == pytest.approx(2000, abs=3)
