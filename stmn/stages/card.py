"""Collect what the records of a workspace say about a model, for its card."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmn import registry
from stmn.errors import StmnError, count_of
from stmn.report.card import Card, escape, write_card
from stmn.report.card import Licence as Licence  # the recipe room imports pages only through this room
from stmn.report.sources import RunGraph
from stmn.runtime.files import file_digest
from stmn.runtime.names import without_folders
from stmn.workspace import Run, Workspace, read_run

if TYPE_CHECKING:
    from stmn.nets.checkpoint import Description
    from stmn.nets.config import NetworkConfig


def make_card(
    path: Path, name: str, licence: Licence, workspace: Workspace, recipe: str | None, version: str
) -> str:  # fmt: skip
    """Write the text of a model's card.

    Args:
        path: the model file.
        name: its name on the hub, `user/name`.
        licence: the licence of its weights.
        workspace: where its run and its evaluations are found.
        recipe: the name of the file with its recipe, if there is one.
        version: the version of stmn that made it.

    Raises:
        CheckpointError: the file is damaged, or not a model.
        MissingExtra: huggingface_hub is not installed.
    """
    from stmn.nets.checkpoint import read_description

    description = read_description(path)
    tests = [run.results for run in find_tests(path, workspace)]
    card = Card(
        name=name,
        licence=licence,
        network=describe_network(description.network),
        classes=description.network.classes,
        data=dict(_describe_data(description)) | dict(_describe_start(path, workspace)),
        tests=tests,
        untested=list(_find_untested(description, tests, _is_rendered(description, workspace))),
        recipe=recipe,
        version=version,
    )
    return write_card(card)


def find_model_run(path: Path) -> Run | None:
    """The finished run that made a model file, or None."""
    run = read_run(path.parent)
    return run if run and run.done and run.record["outputs"].get("model") == path.name else None


def find_tests(path: Path, workspace: Workspace) -> list[Run]:
    """The newest evaluation of a single model on test videos for each way of testing it; its own data set first.

    Args:
        path: the model file.
        workspace: where evaluations are found.
    """
    from stmn.nets.checkpoint import read_description

    run, graph = find_model_run(path), RunGraph(workspace.runs())
    names = {file_digest(path)} | ({run.record["fingerprint"]} if run else set())
    found: dict[str, Run] = {}
    for test in graph.runs:  # newest first
        options = test.record.get("options", {})
        if test.record.get("verb") != "evaluate" or options.get("part", "test") != "test" or not test.makes("scores"):
            continue
        if options.get("blank") is None and len(read := graph.list_models(test)) == 1 and read[0] in names:
            weights = options.get("stream_weights")
            found.setdefault(f"{test.results.get('protocol', {}).get('words')} {weights}", test)
    own = read_description(path).trained_on

    def place(test: Run) -> tuple[bool, bool]:
        protocol = test.results.get("protocol", {})
        usual = test.record.get("given", {}).keys() <= {"model", "data", "split", "seed", "part"}
        return (protocol.get("data"), protocol.get("split")) != (own.data, own.split), not usual

    return sorted(found.values(), key=place)


def find_upstream(runs: Sequence[Run], workspace: Workspace) -> list[Run]:
    """Runs and those that led to them, each once, causes before effects."""
    return RunGraph([*runs, *workspace.runs()]).find_upstream(runs)


def describe_network(config: "NetworkConfig") -> str:
    """Describe a network in a sentence."""
    streams = [
        f"a {escape(stream.arch)}{f' of width {stream.width:g}' if stream.width != 1 else ''} on "
        f"{'frames' if stream.modality == 'rgb' else f'stacks of {config.stack_length} flow fields'}"
        for stream in config.streams
    ]
    classes = count_of(len(config.classes), "class", "classes")
    text = f"It names one of {classes} for a video, by {' and '.join(streams)}"
    if gate := config.gate:
        tied = gate.fusion not in ("none", "stmn:none")
        text += f", tied by `{gate.fusion}` gates ({gate.direction.replace('_', ' ')})" if tied else ", without gates"
    if config.temporal.injector != "none":
        text += f", with temporal filters (`{config.temporal.injector}`)"
    return f"{text}. Crops of {config.size} pixels in training."


def _describe_data(description: "Description") -> Iterator[tuple[str, str]]:
    """The data that a model learned from, and how new videos are prepared: (label, text)."""
    known, how = description.trained_on, description.preparation
    yield "data set", known.data
    count = len(known.videos) if known.count is None else known.count
    yield "learned from", f"{count_of(count, 'video')}, the training part of split {known.split}"
    if known.held_out and known.held_out.videos:
        yield "held out for validation", count_of(len(known.held_out.videos), "video")
    yield "frames", f"short side {how.short_side} pixels" + (f", {how.fps:g} a second" if how.fps else "")
    if any(stream.modality == "flow" for stream in description.network.streams):
        options = "".join(f", {key} = {value}" for key, value in how.flow_options.items())
        camera = ", without its median" if how.camera_motion == "subtract" else ""
        yield "optical flow", f"{how.flow}{options}, up to {how.bound:g} pixels a frame{camera}"
    if description.blank:
        yield "control", f"it saw noise in place of {description.blank}"
    yield "augmentation", ", ".join(sorted(description.keeps)) or "no mirrors, no crops"


def _describe_start(path: Path, workspace: Workspace) -> Iterator[tuple[str, str]]:
    """The starting weights of each stream, if on record: they may limit the choice of a licence."""
    run = find_model_run(path)
    for cause in find_upstream([run], workspace) if run else ():
        options = cause.record.get("options", {})
        if cause.record.get("verb") == "train-stream" and not cause.record.get("inputs", {}).get("weights"):
            stream = "appearance" if options.get("modality") == "rgb" else "motion"
            words = {"none": "random", "imagenet": "ImageNet"}
            yield f"starting weights of {stream}", words.get(str(options.get("weights")), "not recorded")
        elif cause.record.get("verb") == "train-stream":
            yield f"starting weights of {cause.label}", str(without_folders(str(options.get("weights"))))


def _find_untested(description: "Description", tests: list[dict[str, Any]], rendered: bool) -> Iterator[str]:
    """The kinds of video that a model was not tested on, as far as the records show."""
    if not tests:
        yield "Anything: no evaluation of it on test videos is on record."
    protocols = [test.get("protocol", {}) for test in tests]
    data = " and ".join(dict.fromkeys(f"`{protocol.get('data')}`" for protocol in protocols))
    if rendered:
        yield "Real videos: its data set is rendered."
    if tests:
        yield f"Videos from elsewhere than {data}: other cameras, places, people."
        if any(test.get("intervals_over") == "videos" for test in tests):
            yield (
                "New people or recordings: no groups of the test videos are known, so some may be of a recording that "
                "it learned from."
            )
        counted = [test.get("per_class", {}) for test in tests]
        absent = [n for n in description.network.classes if not any(c.get(n, {}).get("videos") for c in counted)]
        if absent:
            count = count_of(len(absent), "class", "classes")
            yield f"The {count} without test videos: {', '.join(map(escape, absent))}."
        if short := max((protocol.get("fewer_chunks", 0) for protocol in protocols), default=0):
            yield f"Longer videos: {count_of(short, 'test video was', 'test videos were')} too short for all chunks."
        if not description.preparation.fps:
            yield "Other frame rates: frames are taken as they come, so motion per frame changes with the rate."
        precisions = dict.fromkeys(protocol.get("precision", "float32") for protocol in protocols)
        yield f"Other precisions than {' and '.join(precisions)}."
    yield "Videos of none of its classes: it always names one of them."
    yield "Parts of a video, cameras and streams (`--window`): each test video was classified whole."


def _is_rendered(description: "Description", workspace: Workspace) -> bool:
    """True if the data set of a model makes its own videos."""
    run = read_run(workspace.data_dir(description.trained_on.data))
    try:
        return bool(run and registry.load("dataset", run.record["options"]["dataset"]).makes_videos)
    except (StmnError, KeyError):
        return False
