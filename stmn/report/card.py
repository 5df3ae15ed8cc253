"""The card of a model: the page that says what it is, how well it does, and what it was not tested on.

It is Markdown with a YAML head, as the hub shows it. Everything in it comes from records; nothing is typed in.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from stmn.errors import MissingExtra, UsageError, count_of, near_match
from stmn.evaluation.metrics import describe_units
from stmn.report.words import describe_protocol, format_percent
from stmn.runtime.names import printable

#: names of licences on the hub; any other licence needs a link
LICENCES = (
    "afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bigcode-openrail-m", "bigscience-openrail-m", "bsd",
    "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "bsl-1.0", "c-uda", "cc", "cc-by-2.0", "cc-by-2.5",
    "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0",
    "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "creativeml-openrail-m", "ecl-2.0",
    "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "eupl-1.2", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "isc", "lgpl",
    "lgpl-2.1", "lgpl-3.0", "lppl-1.3c", "mit", "mpl-2.0", "ms-pl", "ncsa", "odbl", "odc-by", "ofl-1.1", "openrail",
    "osl-3.0", "pddl", "postgresql", "unlicense", "wtfpl", "zlib",
)  # fmt: skip
#: characters that Markdown and HTML would not print as they are
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&$]|^[#+=-])")


@dataclass(frozen=True)
class Licence:
    """A licence from the hub's list, or any other one with a link to its text."""

    name: str
    link: str | None = None


@dataclass(frozen=True)
class Card:
    """The contents of a card.

    Attributes:
        name: the model's name on the hub, `user/name`.
        licence: the licence of the weights.
        network: the network, in a sentence.
        classes: the names of its classes.
        data: label -> text: what it learned from, and how that was prepared.
        tests: the results of its evaluations, as `evaluation.metrics.measure` returns them; the first is the main one.
        untested: phrases for what it was not tested on.
        recipe: the name of the file with its recipe; None if there is none.
        version: the version of stmn that made it.
    """

    name: str
    licence: Licence
    network: str
    classes: Sequence[str]
    data: dict[str, str]
    tests: Sequence[dict[str, Any]]
    untested: Sequence[str]
    recipe: str | None = None
    version: str = ""
    tags: Sequence[str] = field(default=("action-recognition", "two-stream", "optical-flow"))


def choose_licence(name: str | None, link: str | None) -> Licence:
    """Check the licence of weights.

    Raises:
        UsageError: none is given, or it is not on the hub's list and has no link.
    """
    if not name or not name.strip():
        raise UsageError(
            "a model needs a licence, or nobody may use it: name one with --licence, such as apache-2.0 or cc-by-4.0 "
            "(the licence of the videos may limit the choice)"
        )
    known = name.strip().lower()
    if known in LICENCES:
        return Licence(known, link)
    if not link:
        raise UsageError(
            f"--licence {name}: is no licence that the hub knows{near_match(known, LICENCES)}; for another one add "
            f"--licence-link ADDRESS of its text"
        )
    return Licence(name.strip(), link)


def write_card(card: Card) -> str:
    """The text of a card. Raises `MissingExtra` if huggingface_hub is not installed."""
    parts = [f"---\n{_head(card)}\n---", f"# {escape(card.name.partition('/')[2])}", card.network]
    parts += ["## Use", _usage(card), "## Accuracy", *_accuracy(card), "## Not tested", *_list(card.untested)]
    parts += ["## Data", *_table(("", ""), [(escape(key), escape(value)) for key, value in card.data.items()])]
    parts += ["## Classes", *_classes(card), "## Licence", _licence(card.licence)]
    parts += ["## How it was made", _origin(card)]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Escape any text as Markdown that shows it unchanged, on one line."""
    return _SPECIAL.sub(r"\\\1", printable(text))


def _head(card: Card) -> str:
    """The YAML that the hub reads."""
    try:
        from huggingface_hub import EvalResult, ModelCardData
    except ImportError as error:
        raise MissingExtra("a card", "huggingface_hub", "hub") from error
    licence = card.licence
    known = licence.name in LICENCES
    results = [
        EvalResult(
            task_type="video-classification",
            dataset_type=protocol.get("data", ""),
            dataset_name=f"{protocol.get('data', '')}, split {protocol.get('split', '')}",
            dataset_split=protocol.get("part", ""),
            metric_type="accuracy",
            metric_value=round(test["accuracy"], 4),
        )
        for test in card.tests
        if (protocol := test.get("protocol", {}))
    ]
    head = ModelCardData(
        license=licence.name if known else "other",
        license_name=None if known else licence.name,
        license_link=licence.link,
        library_name="stmn",
        pipeline_tag="video-classification",
        tags=list(card.tags),
        model_name=card.name if results else None,
        eval_results=results or None,
    )
    return str(head.to_yaml()).strip()


def _licence(licence: Licence) -> str:
    """The licence, for readers of the text; the hub shows the one in the head."""
    return f"Of the weights: {escape(licence.name)}" + (f", {escape(licence.link)}" if licence.link else "")


def _usage(card: Card) -> str:
    """How to use the model: three lines of Python and one of shell."""
    return (
        f'```python\nimport stmn\nmodel = stmn.load("hf://{card.name}")\nmodel.predict("clip.mp4")[0]\n```\n\n'
        f"On the command line:\n\n```sh\nstmn predict hf://{card.name} clip.mp4\n```"
    )


def _accuracy(card: Card) -> Iterator[str]:
    """The results of each evaluation."""
    if not card.tests:
        yield "**It has not been tested**: there is no record of an evaluation on test videos."
    for test in card.tests:
        protocol = test.get("protocol", {})
        over = f" in {describe_units(test)}" if test.get("intervals_over") == "groups" else ""
        yield (
            f"On {count_of(test['videos'], 'video')}{over}, which are the {protocol.get('part', 'test')} part of split "
            f"{escape(str(protocol.get('split')))} of `{_code(str(protocol.get('data')))}`:"
        )
        yield from _table(("", "accuracy, %", "95 % interval"), list(_rows(test)))
        yield f"Measured with: {escape(describe_protocol(test))}. The intervals are over {test['intervals_over']}."
        if seen := protocol.get("seen_in_training"):
            yield (
                f"**The model has learned from {seen:,} of these {test['videos']:,} videos**: this says nothing of "
                f"videos that it has not seen."
            )
        yield from (escape(note) for note in test.get("notes", ()))


def _rows(test: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The rows of a table of accuracies."""
    intervals = test.get("intervals", {})
    yield "accuracy", *_share(test["accuracy"], test["interval"])
    yield "mean over classes", *_share(test["mean_class_accuracy"], intervals.get("mean_class_accuracy"))
    if test.get("top5") is not None:
        yield "true class among the best 5", *_share(test["top5"], intervals.get("top5"))
    streams = test.get("streams", {})
    for name, share in streams.items() if len(streams) > 1 else ():
        yield f"{escape(name)} stream alone", *_share(share, test.get("stream_intervals", {}).get(name))
    yield "chance", *_share(test["chance"], None)
    if box := test.get("box_shape_baseline"):
        yield "from the size and shape of the frames alone", *_share(box["accuracy"], box.get("interval"))


def _share(value: float, interval: Sequence[float] | None) -> tuple[str, str]:
    """A share and its interval in percent."""
    return format_percent(value), " to ".join(map(format_percent, interval)) if interval else ""


def _classes(card: Card) -> Iterator[str]:
    """The classes, with the first evaluation's result for each."""
    if not card.tests:
        yield from _list([escape(name) for name in card.classes])
        return
    found = card.tests[0].get("per_class", {})
    rows = []
    for name in card.classes:
        about = found.get(name, {"videos": 0})
        share = _share(about["accuracy"], about.get("interval")) if about["videos"] else ("not tested", "")
        rows.append((escape(name), f"{about['videos']:,}", *share))
    yield from _table(("class", "test videos", "accuracy, %", "95 % interval"), rows)


def _origin(card: Card) -> str:
    """What made the model, and how to make it again."""
    by = f"stmn {card.version}" if card.version else "stmn"
    if card.recipe is None:
        return f"{by} trained it; its recipe is not known."
    return (
        f"{by} trained it. `{card.recipe}` has every stage with its options; where the data set is not rendered, "
        f"`--data-root` names your copy of the videos:\n\n```sh\nstmn run {card.recipe}\n```"
    )


def _list(items: Sequence[str]) -> list[str]:
    """A Markdown list."""
    return ["\n".join(f"- {item}" for item in items)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, with numbers from its second column on."""
    align = ["---", *["--:" if len(head) > 2 else "---"] * (len(head) - 1)]
    return ["\n".join(f"| {' | '.join(cells)} |" for cells in (head, align, *rows))]


def _code(text: str) -> str:
    """Text that may stand between back quotes."""
    return printable(text).replace("`", "'")
