"""Describe the inside of a gated network in words, for a page."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stmn.errors import count_of
from stmn.evaluation.inside.estimate import Estimate
from stmn.evaluation.inside.focus import UnitFocus
from stmn.evaluation.inside.gradients import Gradients
from stmn.evaluation.inside.look import Inside
from stmn.report.gate_pictures import GatePictures
from stmn.report.words import format_percent


@dataclass(frozen=True)
class InsideSection:
    """The section of a page about the inside of a network.

    Attributes:
        model: the network's name on the page.
        found: the measurements.
        pictures: pictures of what its first gate lets through.
    """

    model: str
    found: Inside
    pictures: Sequence[GatePictures] = ()

    @property
    def videos(self) -> str:
        """`48 videos, 5 chunks of each`."""
        chunks = sorted({len(clip.times) for clip in self.found.clips})
        words = count_of(chunks[0], "chunk") if len(chunks) == 1 else f"{chunks[0]} to {chunks[-1]} chunks"
        return f"{count_of(len(self.found.clips), 'video')}, {words} of each"

    @property
    def sender(self) -> str:
        """The stream that sends at the first gate."""
        return self.found.gradients[0].units[0].sender

    @property
    def receiver(self) -> str:
        """The stream that receives at the first gate."""
        return self.found.gradients[0].units[0].receiver

    @property
    def rival(self) -> bool:
        """True if there is a distractor to compare the target with."""
        return bool(self.found.focus) and self.found.focus[0].read.lead is not None

    @property
    def focus_words(self) -> str:
        """The gates that pick the target, and what is read without gates, in words."""
        return describe_focus(self.found.focus)

    @property
    def gradient_words(self) -> list[str]:
        """The findings about gradients, one sentence each."""
        return [*describe_parts(self.found), *describe_gradient_focus(self.found.gradients)]


def describe_focus(focus: Sequence[UnitFocus]) -> str:
    """Say which gates pick the target; empty without a distractor."""
    if not focus or focus[0].read.lead is None:
        return ""
    picks = [unit for unit in focus if unit.read.picks]
    if not picks:
        return "No gate picks the target: no unit reads clearly more densely on the target than on the distractor."
    best = max(picks, key=lambda unit: unit.read.lead.mean if unit.read.lead else 0.0)
    on = {name: format_percent(share.mean) for name, share in best.read.objects.items()}
    words = [
        f"The gates pick the target at {_list_units([unit.unit.label for unit in picks])}. At {best.unit.label}, "
        f"{on['target']} % of what the unit reads falls on the target and {on['distractor']} % on the distractor. They "
        f"cover {format_percent(best.area['target'].mean)} and {format_percent(best.area['distractor'].mean)} % of the "
        "frame."
    ]
    sent = format_percent(best.sent.objects["target"].mean), format_percent(best.sent.objects["distractor"].mean)
    clear = best.sent.lead is not None and best.sent.lead.low > 0
    words.append(
        f"The signal sent to the gate has {sent[0]} and {sent[1]} % there: by itself it "
        + ("prefers the target too." if clear else "does not tell the two apart.")
    )
    if best.ungated:
        alone = [format_percent(best.ungated.objects[name].mean) for name in ("target", "distractor")]
        words.append(f"Without gates the unit of the untied stream reads {alone[0]} and {alone[1]} % there.")
    return " ".join(words)


def describe_parts(found: Inside) -> list[str]:
    """Say how much gradient reaches the sending stream through the first gate, and from its own classifier."""
    sentences = []
    for when, measured in (("Before the streams were trained together", found.began), ("As trained", found.gradients)):
        by_fusion = {item.fusion: item.units[0] for item in measured}
        if not by_fusion:
            continue
        parts = [
            f"{_round(100 * unit.through_gate.mean / unit.own.mean)} % with {fusion}"
            for fusion, unit in by_fusion.items()
            if unit.own.mean > 0
        ]
        if parts:
            first = next(iter(by_fusion.values()))
            losses = _join([f"{item.loss.mean:.2f}" for item in measured])
            sentences.append(
                f"{when}, the gradient through the gate of {first.unit} is, beside that of {first.sender}'s own "
                f"classifier, {_join(parts)} (losses {losses})."
            )
    return sentences


def describe_gradient_focus(measured: Sequence[Gradients]) -> list[str]:
    """Say where the gradient through the gates falls, for each gate function; empty without a distractor."""
    sentences = []
    for item in measured:
        leads = [(unit.unit, unit.focus.lead) for unit in item.units]
        if any(lead is None for _, lead in leads):
            return []
        clear = [unit for unit, lead in leads if lead and lead.low > 0]
        where = f"denser on the target than on the distractor at {_list_units(clear)}" if clear else (
            "nowhere clearly denser on the target than on the distractor"
        )  # fmt: skip
        sentences.append(f"With {item.fusion} it is {where}.")
    return sentences


def format_estimate(value: Estimate | None, scale: float = 1.0, digits: int = 3) -> str:
    """`0.028`, to three digits; `–` for nothing."""
    if value is None or not np.isfinite(value.mean):
        return "–"
    return f"{scale * value.mean:.{digits}g}"


def format_signed(value: float) -> str:
    """`+1.34`, `−0.20`."""
    text = f"{value:+.2f}" if np.isfinite(value) else "–"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "−")


def _list_units(labels: Sequence[str]) -> str:
    """`conv2 and conv3`; with the units' numbers if a part has several."""
    parts = [label.split(" ")[0] for label in labels]
    return _join(parts if len(set(parts)) == len(parts) else list(labels))


def _join(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _round(value: float) -> str:
    """Two digits: `3.6`, `0.0012`, `180`."""
    return f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"
