"""`ucf101`: UCF101 as published, and other data sets with lists in its format.

Videos: `UCF-101/CLASS/v_CLASS_gNN_cMM.avi` (or `videos/`, or the class folders themselves). Lists:
`ucfTrainTestlist/{classInd,trainlist01,testlist01,...}.txt` (or `splits/`).
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stmn.datasets.base import Dataset, Splits, VideoEntry, class_folders, first_folder
from stmn.errors import DataError, near_match
from stmn.runtime.files import read_text

_GROUPS = ("per_class", "shared")
_NUMBER = re.compile(r"_g(\d+)_")

#: the classes of UCF101
_NAMES = """
ApplyEyeMakeup ApplyLipstick Archery BabyCrawling BalanceBeam BandMarching BaseballPitch Basketball BasketballDunk
BenchPress Biking Billiards BlowDryHair BlowingCandles BodyWeightSquats Bowling BoxingPunchingBag BoxingSpeedBag
BreastStroke BrushingTeeth CleanAndJerk CliffDiving CricketBowling CricketShot CuttingInKitchen Diving Drumming
Fencing FieldHockeyPenalty FloorGymnastics FrisbeeCatch FrontCrawl GolfSwing Haircut Hammering HammerThrow
HandstandPushups HandstandWalking HeadMassage HighJump HorseRace HorseRiding HulaHoop IceDancing JavelinThrow
JugglingBalls JumpingJack JumpRope Kayaking Knitting LongJump Lunges MilitaryParade Mixing MoppingFloor Nunchucks
ParallelBars PizzaTossing PlayingCello PlayingDaf PlayingDhol PlayingFlute PlayingGuitar PlayingPiano PlayingSitar
PlayingTabla PlayingViolin PoleVault PommelHorse PullUps Punch PushUps Rafting RockClimbingIndoor RopeClimbing
Rowing SalsaSpin ShavingBeard Shotput SkateBoarding Skiing Skijet SkyDiving SoccerJuggling SoccerPenalty StillRings
SumoWrestling Surfing Swing TableTennisShot TaiChi TennisSwing ThrowDiscus TrampolineJumping Typing UnevenBars
VolleyballSpiking WalkingWithDog WallPushups WritingOnBoard YoYo
"""
CLASSES = frozenset(_NAMES.split())


class UCF101(Dataset):
    """UCF101, or any data set with lists like its own.

    Args:
        root: The folder of videos, or one that holds `UCF-101/` or `videos/`.
        lists: The folder of lists; by default `ucfTrainTestlist/` or `splits/` under the root, or the root.
        groups: What the `gNN` of a name is. `per_class`: a recording of one class, so that g01 of two classes are two
            groups, as in UCF101 itself. `shared`: the same person or recording in all classes. By default `per_class`
            if all classes are UCF101's own, or some of them, and `shared` for any others, because to take two groups
            for one is the safer mistake.

    Raises:
        DataError: There is no such folder.
        ValueError: `groups` is neither.
    """

    renames = frozenset({"groups"})

    def __init__(self, root: Path, lists: str | None = None, groups: str | None = None) -> None:
        super().__init__(root)
        check_groups(groups)
        self._groups = groups
        self._videos = first_folder(root, "UCF-101", "videos")
        self._lists = Path(lists) if lists else first_folder(root, "ucfTrainTestlist", "splits")

    def videos(self) -> list[VideoEntry]:
        """List all videos in the class folders; the group is the `gNN` of the name, if need be with the class."""
        return name_groups(class_folders(self._videos), self._groups)

    def describe_groups(self, videos: Sequence[VideoEntry]) -> str:
        """Say whether `gNN` is the same group in all classes."""
        return describe_groups(videos, self._groups)

    def splits(self) -> Splits:
        """Return the published splits "1", "2" and "3", whether or not their videos exist."""
        return read_splits(self._lists)


def check_groups(groups: str | None) -> None:
    """Raise `ValueError` if the option `groups` has a value that it can't have."""
    if groups not in (None, "per_class", "shared"):
        raise ValueError(f"groups is '{groups}'{near_match(groups, _GROUPS)}; it must be per_class or shared")


def name_groups(videos: Sequence[VideoEntry], groups: str | None) -> list[VideoEntry]:
    """Give videos without a group the `gNN` of their names, `v_CLASS_gNN_cMM`, if they have one.

    Args:
        videos: All videos of the set.
        groups: Whether the class stands before it, as `UCF101` says.
    """
    per_class = _is_per_class(videos, groups)
    named = []
    for video in videos:
        match = _NUMBER.search(video.id)
        group = f"{video.class_name}_g{match[1]}" if match and per_class else f"g{match[1]}" if match else ""
        named.append(video if video.group else replace(video, group=group))
    return named


def describe_groups(videos: Sequence[VideoEntry], groups: str | None) -> str:
    """Say what `name_groups` took the `gNN` of names for, in one line; "" if no name has one, or one class alone."""
    if not any(_NUMBER.search(video.id) for video in videos) or len({video.class_name for video in videos}) < 2:
        return ""
    if _is_per_class(videos, groups):
        told, other = "another recording in each class, as in UCF101", "shared"
    else:
        told, other = "the same person or recording in all classes", "per_class"
    choice = "" if groups else f"; if that is wrong: --dataset-options groups={other}"
    return f"groups: the gNN of a name is {told}{choice}"


def _is_per_class(videos: Sequence[VideoEntry], groups: str | None) -> bool:
    """True if the same `gNN` in two classes is two groups."""
    return groups == "per_class" or (groups is None and {video.class_name for video in videos} <= CLASSES)


def read_splits(folder: Path) -> Splits:
    """Read the splits of a folder of lists. Raises `DataError` if there are none, or a test list is missing."""
    found: Splits = {}
    for path in sorted(folder.glob("trainlist*.txt")):
        number = path.stem.removeprefix("trainlist")
        test = path.with_name(f"testlist{number}.txt")
        if not test.exists():
            raise DataError(f"{test}: missing beside {path.name}")
        found[str(int(number))] = {"train": _read_list(path), "test": _read_list(test)}
    if not found:
        raise DataError(f"{folder}: no trainlist01.txt; name the folder with lists=FOLDER")
    return found


def _read_list(path: Path) -> list[str]:
    """The video ids of a list. Train lists have a class number after each id, which is not needed."""
    lines = (line.strip() for line in read_text(path).splitlines())
    return [re.sub(r"\s+\d+$", "", line) for line in lines if line]
