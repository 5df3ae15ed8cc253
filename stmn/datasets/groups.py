"""Find which videos belong together, judging by their names: a recording or a person is one group.

Names like UCF101's, `v_CLASS_gNN_cMM`, contain the group; for other names a person gives a pattern.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stmn.datasets.base import VideoEntry
from stmn.datasets.naming import SURE, guess_groups
from stmn.errors import UsageError, count_of, near_match

_CHOICES = ("per_class", "shared")
#: pattern of `gNN` in names like UCF101's, and a stricter one for names that are almost certainly like them
LIKE_UCF101, SURELY_LIKE_UCF101 = r"_(g\d+)_", r"_(g\d+)_c\d+"
#: largest number of groups named in a line
_MOST_NAMED = 4
#: the value of a pattern that means: guess groups from what the names share apart from their classes
AUTO = "auto"

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
_UCF101 = frozenset(_NAMES.split())


@dataclass(frozen=True)
class GroupNames:
    """Finds the group of a video in its id.

    Args:
        pattern: A regular expression that is searched in the id; its first brackets match the group. "" to search
            `gNN` in names like UCF101's. "auto": if few names are like that, the parts that names share apart from
            their classes, as `stmn.datasets.naming` finds them: `bend/daria_bend.avi` and `jack/daria_jack.avi` are of
            one group.
        scope: `per_class`: the same name in two classes is two groups, as in UCF101 itself. `shared`: it is the same
            person or recording. By default `per_class` if all classes are UCF101's own and there is no pattern, and
            `shared` otherwise, because taking two groups for one is the safer mistake.
        like_ucf101: The pattern of names like UCF101's.

    Raises:
        ValueError: An argument is wrong.
    """

    pattern: str = ""
    scope: str | None = None
    like_ucf101: str = LIKE_UCF101

    def __post_init__(self) -> None:
        if self.scope not in (None, *_CHOICES):
            raise ValueError(
                f"groups is '{self.scope}'{near_match(self.scope, _CHOICES)}; it must be per_class or shared"
            )
        if not isinstance(self.pattern, str):
            raise ValueError(f"group_pattern = {self.pattern!r}: must be a regular expression in quotes")
        try:
            brackets = re.compile(self.pattern).groups
        except re.error as error:
            raise ValueError(f"group_pattern '{self.pattern}': {error}") from error
        if self.pattern not in ("", AUTO) and not brackets:
            raise ValueError(
                f"group_pattern '{self.pattern}': put brackets around the part that names the group, as in '/([a-z]+)_'"
            )

    def name(self, videos: Sequence[VideoEntry]) -> list[VideoEntry]:
        """Give each video without a group the group in its id, if there is one.

        Args:
            videos: All videos of the set.

        Raises:
            UsageError: The pattern matches none of them.
        """
        per_class = self._is_per_class(videos)
        found = self._find_all(videos)
        named = []
        for video in videos:
            group = found.get(video.id, "")
            if group and per_class:
                group = f"{video.class_name}_{group}"
            named.append(video if video.group or not group else replace(video, group=group))
        if self.pattern not in ("", AUTO) and videos and not found:
            raise UsageError(f"group_pattern '{self.pattern}' matches none of the videos, such as '{videos[0].id}'")
        return named

    def describe(self, videos: Sequence[VideoEntry]) -> str:
        """Return a line about what `name` takes as a group; "" if there is no doubt."""
        found = self._find_all(videos)
        if self.pattern == AUTO and not found:
            return "groups: the names show none, so a person in several videos may be both trained on and tested"
        if self.pattern:
            names = sorted(set(found.values()), key=natural)
            some = ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
            line = f"groups: {len(names)} ({some})"
            if others := [video.id for video in videos if video.id not in found]:
                lack = ("has none", "have none") if self.pattern == AUTO else ("does not match", "do not match")
                what = "" if self.pattern == AUTO else " group_pattern"
                line += (
                    f"; {len(others):,} of {count_of(len(videos), 'video')} {lack[len(others) != 1]}{what}, the first: "
                    f"'{others[0]}'"
                )
            return line
        if not found or len({video.class_name for video in videos}) < 2:
            return ""
        if self._is_per_class(videos):
            told, other = "another recording in each class, as in UCF101", "shared"
        else:
            told, other = "the same person or recording in all classes", "per_class"
        choice = "" if self.scope else f"; if that is wrong: --dataset-options groups={other}"
        return f"groups: the gNN of a name is {told}{choice}"

    def _find_all(self, videos: Sequence[VideoEntry]) -> dict[str, str]:
        """Return video id -> group in it, without the class; videos without a group are left out."""
        pattern = self.like_ucf101 if self.pattern in ("", AUTO) else self.pattern
        found = {video.id: match[1] for video in videos if (match := re.search(pattern, video.id)) and match[1]}
        if self.pattern == AUTO and len(found) < SURE * len(videos):
            return guess_groups(videos) or found
        return found

    def _is_per_class(self, videos: Sequence[VideoEntry]) -> bool:
        """True if the same name in two classes is two groups."""
        if self.scope or self.pattern not in ("", AUTO):
            return self.scope == "per_class"
        return {video.class_name for video in videos} <= _UCF101


def natural(text: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a key that sorts names in natural order: g2 before g10."""
    parts = [part for part in re.split(r"(\d+)", text) if part]
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], text
