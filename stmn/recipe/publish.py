"""Collect what is sent to the hub: the model file, its card, its recipe."""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from stmn.errors import MissingExtra, StmnError, UsageError
from stmn.recipe.from_runs import recipe_name, write_recipe_from_runs
from stmn.runtime.files import read_text
from stmn.runtime.hub import CARD_FILE, MODEL_FILE, RECIPE_FILE, HubName
from stmn.runtime.names import without_folders
from stmn.runtime.progress import Progress
from stmn.stages.card import Licence, find_model_run, find_tests, make_card
from stmn.workspace import Workspace

#: bytes of the longest card
_LONGEST_CARD = 2**20


def collect(
    path: Path, name: HubName, licence: Licence | None, card: Path | None, folder: Path, workspace: Workspace,
    progress: Progress,
) -> None:  # fmt: skip
    """Write to a folder what is to be sent.

    The model file is a copy with the licence, but without what would tell strangers about this machine: folders in its
    options, and the names of training videos. Their hashes stay, so that no test takes these videos for unseen ones.

    Args:
        path: the model file.
        name: what the hub will call it.
        licence: licence of the weights; not needed with a card.
        card: a card that the user wrote; None to write one from the records.
        folder: an empty folder.
        workspace: where runs are found.
        progress: prints what is missing.

    Raises:
        UsageError: the card names no licence or can't be read, or `path` is an exported file.
        CheckpointError: the model file is damaged.
        PluginError: the model needs a plugin that is not installed.
    """
    from stmn.nets.checkpoint import load_checkpoint, save_checkpoint

    if path.suffix != Path(MODEL_FILE).suffix:
        raise UsageError(f"{path}: is an exported file; push the model that it was made of")
    text, terms = read_card(card) if card else ("", licence.name if licence else "")
    network, description = load_checkpoint(path)
    known = description.trained_on
    described = replace(
        description,
        training=without_folders(description.training),
        trained_on=known.without_lists().model_copy(update={"contents": known.contents}),
        licence=terms,
    )
    save_checkpoint(folder / MODEL_FILE, network, described)
    run, recipe = find_model_run(path), None
    if run is None:
        progress.say(f"{path}: no record of a run beside it: the card has its description alone, and no recipe")
    else:
        tests = find_tests(path, workspace)
        about = f"what made {name.repo}"
        try:
            write_recipe_from_runs([run, *tests], recipe_name(name.repo), about, folder / RECIPE_FILE, workspace)
            recipe = RECIPE_FILE
        except StmnError as error:
            (folder / RECIPE_FILE).unlink(missing_ok=True)
            progress.say(f"{RECIPE_FILE} is left out: {error.lines[0]}")
        if not tests:
            progress.say(f"{run.label}: has not been tested, and its card says so; test it with: stmn evaluate")
    if not card:
        assert licence
        made_by = str(run.record.get("stmn", "")) if run else version("stmn")
        text = make_card(path, name.repo, licence, workspace, recipe, made_by)
    (folder / CARD_FILE).write_text(text, encoding="utf-8")


def read_card(path: Path) -> tuple[str, str]:
    """Read a card that the user wrote: its text, and the licence that it names.

    Raises:
        UsageError: it can't be read, has no head of YAML, or names no licence.
        MissingExtra: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import ModelCard
    except ImportError as error:
        raise MissingExtra("a card", "huggingface_hub", "hub") from error
    text = read_text(path, _LONGEST_CARD)
    try:
        licence = ModelCard(text).data.get("license")
    except Exception as error:  # the YAML reader's own
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path}: its head is not YAML: {first}") from error
    if not licence:
        raise UsageError(f"{path}: names no licence: its head needs a line such as `license: apache-2.0`")
    return text, str(licence)
