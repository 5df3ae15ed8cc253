"""Measure how well an exported file classifies, beside the network that it was made from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stmn.runtime.progress import Progress
from stmn.workspace import Workspace

if TYPE_CHECKING:
    from stmn.exporting.base import Runner
    from stmn.nets.checkpoint import Description

#: the most test videos that are classified, spread over the list
VIDEOS = 100


@dataclass(frozen=True)
class Accuracies:
    """Name of a runner -> accuracy in percent, and how many test videos they are over."""

    percent: dict[str, float]
    videos: int

    def __str__(self) -> str:
        each = ", ".join(f"{name} {value:.1f} %" for name, value in self.percent.items())
        return f"accuracy on {self.videos} test videos: {each}"


def measure_accuracies(
    description: "Description", workspace: Workspace, runners: "Mapping[str, Runner]", progress: Progress,
    most: int = VIDEOS,
) -> Accuracies | None:  # fmt: skip
    """Classify test videos of a model's split, with 5 chunks, whole frames and the mean over streams.

    Args:
        description: The model's description.
        workspace: Where its data set may be.
        runners: Name -> what computes the logits.
        progress: Where progress is reported.
        most: The most videos.

    Returns:
        The accuracies; None if the set isn't in the workspace, or has no test videos of the model's classes.
    """
    import torch

    from stmn.evaluation.inference import score_videos
    from stmn.nets.outside import OutsideNetwork
    from stmn.runtime.device import choose_device
    from stmn.stages.export_clips import CHUNKS, protocol_of
    from stmn.store.format.read import Store

    known, classes = description.trained_on, description.network.classes
    if known.data not in workspace.prepared():
        return None
    percent = {}
    with Store(workspace.find_data(known.data)) as store:
        if known.split not in store.header.splits:
            return None
        listed = [store.videos[name] for name in store.header.part(known.split, "test") if name in store.videos]
        usable = [video for video in listed if video.status == "ok" and video.class_name in classes]
        videos = usable[:: max(1, -(-len(usable) // max(1, most)))]
        if not videos:
            return None
        truth = torch.tensor([classes.index(video.class_name) for video in videos])
        for name, run in runners.items():
            network = OutsideNetwork(description.network, run)
            logits = score_videos(
                network, store, videos, protocol_of(description, CHUNKS), choose_device("cpu"), progress,
                task_name=f"testing {name}",
            )  # fmt: skip
            best = torch.stack(list(logits.values())).mean(dim=0).argmax(dim=1)
            percent[name] = 100 * float((best == truth).float().mean())
    return Accuracies(percent, len(videos))
