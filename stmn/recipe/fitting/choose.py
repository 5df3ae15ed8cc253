"""Choose sizes, network and lengths to fit some clips and a machine, and give a reason for each choice."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

from stmn.errors import count_of
from stmn.options.fitting import FittingOptions
from stmn.stages.clips import Clips, Motion

#: plugins of data sets that find groups in names
NAMED_GROUPS = ("folder", "csv")
#: L, the flow fields of a stack
STACK_LENGTH = 10
#: short side of prepared frames and side of the crop, without and with a GPU, pixels
_SIZES = {False: (96, 64), True: (160, 112)}
#: side of the crop, as a fraction of the short side
_CROP = 2 / 3
#: width of a backbone that starts from random weights: its channels as a fraction of the full number
_WIDTH = {False: 0.5, True: 1.0}
_BATCH = {False: 8, True: 32}
#: chunks of a sample: appearance needs fewer
CHUNKS, APPEARANCE_CHUNKS = 8, 4
#: the fewest passes over the clips, and the fewest steps, of the motion stream
_PASSES, _STEPS = 15, 400
#: to fit the time, steps are never cut below this fraction of what was wanted
_FEWEST = 0.25
#: fewer clips than `_MANY` are tested in folds, so that the accuracy is over all of them
_MANY, _FOLDS = 1000, 3
#: from this rate on, every second frame shows the motion just as well, frames per second
_FAST = 45.0
#: ratio of largest to smallest class from which on classes are shown equally often
_UNEQUAL = 3
#: largest stride between chunks, as in the paper, frames
_LONGEST_STRIDE = 35
#: fraction of the clips that may turn out to be damaged
_DAMAGED = 0.05


@dataclass(frozen=True)
class Machine:
    """The machine that a recipe will run on.

    Attributes:
        device: the device's name.
        is_gpu: it is a GPU.
        cores: cores that this process may use.
        imagenet: the architectures whose ImageNet weights are on it.
        installed: starting weights from packages: name -> backbone and width of both streams.
    """

    device: str
    is_gpu: bool
    cores: int
    imagenet: frozenset[str]
    installed: Mapping[str, tuple[str, float]]


@dataclass(frozen=True)
class Choice:
    """The value chosen for a key, and why."""

    key: str
    value: str
    why: str

    def __str__(self) -> str:
        return f"{self.key:<10} {self.value:<13} {self.why}"


@dataclass(frozen=True)
class Chosen:
    """All that the text of a recipe needs.

    Attributes:
        reasons: key -> the choice, in the order in which they are printed.
    """

    name: str
    dataset: str
    classes: int
    group_pattern: str
    flow: str
    seeds: int
    folds: int
    short_side: int
    size: int
    fps: float | None
    arch: str
    width: float
    weights: str
    chunks: int
    strides: tuple[int, int]
    appearance_strides: tuple[int, int]
    batch: int
    steps: int
    wanted_steps: int
    balance: bool
    mirror_pairs: dict[str, str]
    allow_failures: int
    bound: float = 20.0
    reasons: dict[str, Choice] = field(default_factory=dict)

    @property
    def half_steps(self) -> int:
        """Steps of the appearance stream, and of the gated network."""
        return max(1, self.steps // 2)

    def with_reason(self, key: str, value: Any, why: str) -> "Chosen":
        """A copy with the reason for a choice, in place of an earlier reason for the same key."""
        return replace(self, reasons=self.reasons | {key: Choice(key.replace("_", " "), str(value), why)})


def choose(clips: Clips, machine: Machine, asked: FittingOptions, name: str, dataset: str) -> Chosen:
    """Choose everything that depends neither on how things move nor on how long steps take.

    Args:
        clips: what was found.
        machine: where it runs.
        asked: what the user has decided.
        name: name of the prepared set.
        dataset: the plugin that lists the clips.
    """
    (short_side, why_short), (size, why_size) = _choose_sizes(clips, machine.is_gpu, asked)
    fps, why_fps = _choose_rate(clips, asked)
    (arch, why_arch), (weights, why_weights), (width, why_width) = _choose_network(machine, asked)
    folds, why_folds = _choose_folds(clips, asked)
    length = max(clips.median_length, 1)
    if fps and clips.rates:
        length = max(1, round(length * fps / clips.rates[0][0]))
    chunks = asked.chunks or CHUNKS
    batch = asked.batch or _BATCH[machine.is_gpu]
    train = len(clips.entries) * 2 // 3
    wanted = max(_STEPS, _round_steps(_PASSES * train / batch))
    classes = clips.classes
    rarest, most = min(classes.values()), max(classes.values())
    chosen = Chosen(
        name=name, dataset=dataset, classes=len(classes), group_pattern=asked.group_pattern, flow=asked.flow,
        seeds=asked.seeds, folds=folds,
        short_side=short_side, size=size, fps=fps, arch=arch, width=width, weights=weights, chunks=chunks,
        strides=_choose_strides(length, chunks), appearance_strides=_choose_strides(length, APPEARANCE_CHUNKS),
        batch=batch, steps=asked.steps or wanted, wanted_steps=asked.steps or wanted,
        balance=most > _UNEQUAL * rarest, mirror_pairs=_mirror_words(clips),
        allow_failures=len(clips.entries) - clips.readable + ceil(_DAMAGED * len(clips.entries)),
    )  # fmt: skip
    chosen = chosen.with_reason("short_side", f"{short_side} pixels", why_short).with_reason(
        "crop", f"{size} pixels", why_size
    )
    chosen = chosen.with_reason("rate", f"{fps:g} fps" if fps else "their own", why_fps)
    chosen = chosen.with_reason("network", arch, why_arch).with_reason("width", f"{width:g}", why_width)
    chosen = chosen.with_reason("weights", weights, why_weights)
    low, high = chosen.strides
    spans = f"{low} to {high} frames apart: they span a clip of {length} frames"
    chosen = chosen.with_reason("chunks", chunks, spans)
    if chosen.balance:
        chosen = chosen.with_reason(
            "balance", "yes", f"classes have {rarest} to {most} clips: each is shown equally often"
        )
    if chosen.mirror_pairs:
        one, other = clips.mirrored[0]
        chosen = chosen.with_reason("mirrors", "exchanged", f"'{one}' in a mirror is '{other}'")
    chosen = chosen.with_reason("folds", describe_folds(chosen), why_folds)
    return explain_steps(chosen, "as asked" if asked.steps else "", train)


def choose_bound(chosen: Chosen, motion: Motion, asked: FittingOptions) -> Chosen:
    """Choose the bound that flow is clipped at, pixels."""
    from stmn.stages.clips import bound_for

    bound = asked.bound or bound_for(motion)
    why = f"99.9 % of u and v stay within {motion.largest:.1f} in {count_of(motion.clips, 'clip')}"
    return replace(chosen, bound=bound).with_reason("bound", f"{bound:g} pixels", "as asked" if asked.bound else why)


def describe_folds(chosen: Chosen) -> str:
    """`3 folds`, or `one split`."""
    return f"{chosen.folds} folds" if chosen.folds > 1 else "one split"


def explain_steps(chosen: Chosen, why: str, train: int) -> Chosen:
    """Add the reason for the number of steps."""
    passes = chosen.steps * chosen.batch / max(train, 1)
    many = count_of(max(1, round(passes)), "pass", "passes")
    seen = f"of {chosen.batch} clips: {many} for motion, half as many for the others"
    return chosen.with_reason("steps", f"{chosen.steps:,}", f"{why}; {seen}" if why else seen)


def shorten_recipe(chosen: Chosen, clips: Clips, asked: FittingOptions) -> Iterator[Chosen]:
    """The same recipe in shorter forms, longest first: without folds, then with ever fewer steps."""
    why = f"{asked.minutes:g} minutes are too few for folds: 30 % are held out (--minutes)"
    train = len(clips.entries) * 2 // 3
    if chosen.folds > 1 and asked.folds is None:
        chosen = replace(chosen, folds=1).with_reason("folds", "one split", why)
        yield chosen
    if asked.steps is None:
        for part in (0.75, 0.5, 0.35, _FEWEST):
            steps = max(1, _round_steps(part * chosen.wanted_steps))
            yield explain_steps(replace(chosen, steps=steps), f"not {chosen.wanted_steps:,}, to fit --minutes", train)


def _choose_sizes(clips: Clips, gpu: bool, asked: FittingOptions) -> tuple[tuple[int, str], tuple[int, str]]:
    """The short side of the prepared frames and the side of the crop, pixels, each with its reason."""
    usual, side = _SIZES[gpu], clips.short_sides[len(clips.short_sides) // 2]
    if asked.short_side:
        short = asked.short_side, "as asked"
    elif side < usual[0]:
        short = max(side, 32), "that of the clips"
    else:
        short = usual[0], f"enough for {_kind_of(gpu)}; the clips have {side}"
    if asked.size:
        return short, (asked.size, "as asked")
    size = usual[1] if short[0] == usual[0] else max(32, round(short[0] * _CROP / 16) * 16)
    return short, (size, "two thirds of it, cut at random")


def _choose_network(
    machine: Machine, asked: FittingOptions
) -> tuple[tuple[str, str], tuple[str, str], tuple[float, str]]:
    """Network, starting weights and width, each with its reason."""
    gpu, where = machine.is_gpu, _kind_of(machine.is_gpu)
    if asked.arch:
        arch = asked.arch, "as asked"
    elif asked.weights and asked.weights in machine.installed:
        arch = machine.installed[asked.weights][0], "that of the weights"
    elif gpu and "resnet50" in machine.imagenet:
        arch = "resnet50", f"for {where}; its weights are here"
    else:
        arch = "resnet18", f"small, for {where}"
    if asked.weights:
        weights = asked.weights, "as asked"
    elif gpu and arch[0] in machine.imagenet and asked.width in (None, 1):
        weights = "imagenet", "they are on this machine"
    elif fitting := [
        name
        for name, (backbone, width) in machine.installed.items()
        if backbone == arch[0] and asked.width in (None, width)
    ]:
        weights = fitting[0], "of an installed package, so that few clips are enough"
    else:
        weights = "none", "learned from the clips alone; few clips gain from weights of stmn-formula, or imagenet"
    if asked.width:
        return arch, weights, (asked.width, "as asked")
    if weights[0] == "imagenet":
        return arch, weights, (1.0, "that of the weights")
    if weights[0] in machine.installed:
        return arch, weights, (machine.installed[weights[0]][1], "that of the weights")
    return arch, weights, (_WIDTH[gpu], f"for {where}")


def _kind_of(gpu: bool) -> str:
    """The device in words."""
    return "a GPU" if gpu else "a CPU"


def _choose_folds(clips: Clips, asked: FittingOptions) -> tuple[int, str]:
    """The number of folds that the clips are tested in, 1 for one split, and why."""
    most = _most_folds(clips)
    if asked.folds and asked.folds > most:
        units = "groups" if clips.can_hold_out_groups else "clips"
        return most, f"{asked.folds} were asked for, and there are {most} {units}"
    if asked.folds:
        return asked.folds, "as asked"
    if clips.splits:
        return 1, "the clips come with one"
    if len(clips.entries) >= _MANY:
        return 1, "many clips: 30 % are held out"
    unseen = ""
    if clips.can_hold_out_groups:
        unseen = ", and none by a network that saw its group"
    elif clips.groups:
        unseen = ", but by networks that may have seen its group: most clips are of classes of one group each"
    return min(_FOLDS, most), f"few clips: each is tested once{unseen}"


def _choose_rate(clips: Clips, asked: FittingOptions) -> tuple[float | None, str]:
    """The frames per second to resample to, None if clips keep theirs; and why."""
    from stmn.stages.clips import common_rate

    rates = [rate for rate, _ in clips.rates]
    if asked.fps:
        return asked.fps, "as asked"
    common = common_rate(clips)
    if common:
        return common, f"clips have {min(rates):g} to {max(rates):g}: one motion has to make one flow"
    if not rates:
        return None, "the clips state none"
    if rates[0] >= _FAST:
        return round(rates[0] / 2, 2), f"half of the clips' {rates[0]:g}, which shows the motion as well"
    return None, f"all clips have about {rates[0]:g} fps"


def _choose_strides(length: int, chunks: int) -> tuple[int, int]:
    """Smallest and largest stride between chunks; at the largest they span more than a clip of `length` frames."""
    valid = max(length - STACK_LENGTH, 1)
    most = min(max(ceil(1.5 * valid / max(chunks - 1, 1)), 1), _LONGEST_STRIDE)
    return max(1, most // 5), most


def _most_folds(clips: Clips) -> int:
    """The most folds that the groups, or the clips, allow."""
    alone = sum(not entry.group for entry in clips.entries)
    return len(clips.groups) + alone if clips.can_hold_out_groups else len(clips.entries)


def _mirror_words(clips: Clips) -> dict[str, str]:
    """The words that change places in a mirror, if classes do."""
    from stmn.stages.clips import mirror_words

    return mirror_words(clips)


def _round_steps(steps: float) -> int:
    """Round a number of steps to two digits, as a person would write it."""
    digits = int(10 ** max(len(str(int(steps))) - 2, 0))
    return max(1, int(round(steps / digits) * digits))
