"""Look inside a trained network: find its videos, the objects in them, and its streams before they were tied."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmn import registry
from stmn.errors import DataError, PluginError, StmnError, UsageError
from stmn.registry.options import build
from stmn.report.sources import RunGraph
from stmn.stages.model_fit import check_fits
from stmn.workspace import Workspace, read_run

if TYPE_CHECKING:
    from stmn.evaluation.inside.clips import Masks
    from stmn.evaluation.inside.look import Inside
    from stmn.nets.two_stream import TwoStream
    from stmn.store.format.read import Store, StoredVideo


def look_at(
    model: str, data: str | None, split: str | None, part: str, most: int, device: str, workspace: Workspace
) -> tuple[Path, "Inside"]:
    """Look inside a model.

    Args:
        model: a run, or a model file.
        data: a prepared set; None for the one that the model was trained on.
        split: a split of it; None for the model's.
        part: the part of the split whose videos are read, `test` or `train`.
        most: the most videos that are read.
        device: `auto`, `cpu` or `cuda`.
        workspace: where names are looked up.

    Returns:
        The model file, and the results.

    Raises:
        StmnError: as `look_at_model`, or a name is unknown.
    """
    from stmn.nets.checkpoint import read_description
    from stmn.store.format.read import Store

    path = workspace.find_model(model)
    trained_on = read_description(path).trained_on
    folder = workspace.find_data(data or (trained_on.data if trained_on.data in workspace.prepared() else None))
    with Store(folder) as store:
        own = trained_on.split if trained_on.split in store.header.splits else next(iter(store.header.splits))
        return path, look_at_model(path, store, lambda given: given.part(split or own, part), most, device, workspace)


def look_at_model(
    path: Path, store: "Store", videos: "Callable[[Store], Sequence[StoredVideo]]", most: int, device_name: str,
    workspace: Workspace,
) -> "Inside":  # fmt: skip
    """Look inside a tied network.

    Args:
        path: its model file.
        store: a prepared set that it fits.
        videos: chooses videos of the set.
        most: the most videos that are read.
        device_name: `auto`, `cpu` or `cuda`.
        workspace: where the streams that it was made from are found.

    Raises:
        UsageError: it has no gates.
        DataError: it doesn't fit the set, or there are no videos.
        CheckpointError: the file is damaged.
    """
    from stmn.evaluation.inside.clips import choose_videos, read_clips
    from stmn.evaluation.inside.look import look_inside
    from stmn.nets.checkpoint import load_checkpoint
    from stmn.nets.two_stream import TwoStream
    from stmn.runtime.device import choose_device

    network, description = load_checkpoint(path)
    if not isinstance(network, TwoStream) or not network.tied:
        has = "has two streams that are not tied" if isinstance(network, TwoStream) else "has one stream"
        raise UsageError(f"{path}: {has}, and so no gates to look at; name a model that `stmn fuse` made")
    check_fits(description, str(path), store)
    chosen = choose_videos(videos(store), description.test_short_side, most)
    if not chosen:
        raise DataError(f"{store.folder}: none of the videos that were asked for is readable")
    clips = read_clips(store, chosen, description, network.names, find_masks(store))
    return look_inside(network, clips, choose_device(device_name, "float32"), find_start(path, network, workspace))


def find_start(path: Path, network: "TwoStream", workspace: Workspace) -> "TwoStream | None":
    """A tied network as it was before its streams were trained together; None if these aren't in the workspace.

    Args:
        path: the network's model file.
        network: the network.
        workspace: where its streams are found.
    """
    from stmn.nets.build import build_network
    from stmn.nets.checkpoint import load_checkpoint
    from stmn.nets.two_stream import TwoStream

    run = read_run(path.parent)
    if run is None:
        return None
    start = build_network(network.config, int(run.record.get("options", {}).get("seed", 0)))
    state, missing = start.state_dict(), set(network.names)
    for cause in RunGraph(workspace.runs()).find_causes(run):
        if not cause.makes("model"):
            continue
        try:
            stream, described = load_checkpoint(cause.output("model"))
        except StmnError:
            return None
        if [part.name for part in described.network.streams] == stream.names and len(stream.names) == 1:
            own = stream.state_dict()
            if any(name not in state or state[name].shape != value.shape for name, value in own.items()):
                return None
            state |= own
            missing -= set(stream.names)
    if missing or not isinstance(start, TwoStream):
        return None
    start.load_state_dict(state)
    return start


def find_masks(store: "Store") -> "Masks | None":
    """A function that asks a prepared set's data set for masks of the objects in a video; None if it has none.

    Also None if frames were resampled to another rate, because then their numbers differ from the video's.
    """
    from stmn.datasets.base import Dataset

    header = store.header
    try:
        plugin = registry.load("dataset", header.dataset["name"])
    except (StmnError, KeyError):
        return None
    if plugin.masks is Dataset.masks or header.preparation.fps is not None:
        return None
    run = read_run(store.folder)
    recorded = Path(str((run.results if run else {}).get("root") or store.folder / "videos"))
    try:
        dataset: Dataset = build(
            "dataset", header.dataset["name"], header.dataset_options, recorded if recorded.exists() else store.folder
        )
    except (StmnError, TypeError, ValueError, OSError):
        return None

    def ask(video_id: str, times: Sequence[int]) -> dict[str, Any]:
        try:
            masks = dataset.masks(video_id, times)
        except StmnError:
            raise
        except Exception as error:
            raise PluginError(f"data set '{header.dataset['name']}': masks of '{video_id}' failed: {error}") from error
        for name, mask in masks.items():
            if mask.ndim != 3 or len(mask) != len(times) or 0 in mask.shape:
                raise PluginError(
                    f"data set '{header.dataset['name']}': the mask '{name}' of '{video_id}' has the shape "
                    f"{' x '.join(map(str, mask.shape))}, not {len(times)} x height x width"
                )
        return masks

    return ask
