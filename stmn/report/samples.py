"""The report's sample videos: which ones, their pictures, and what each evaluation says of them."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO

import torch
from PIL import Image
from torch import Tensor

from stmn.errors import DataError
from stmn.evaluation.scores import Scores
from stmn.flow import colour
from stmn.flow.quantise import dequantise
from stmn.sampling.augment import resize
from stmn.store.format.read import Store

#: frames of a filmstrip
SHOTS = 5
#: pictures are stored at most this high, pixels: enough for a strip on a dense screen
HEIGHT = 144


@dataclass(frozen=True)
class Shot:
    """A frame and the flow that leaves it, as data URIs (`flow` is empty where there is none)."""

    frame: str
    flow: str
    caption: str


@dataclass(frozen=True)
class Prediction:
    """What an evaluation says of a video; probabilities are the soft-max of its scores, in 0..1."""

    evaluation: int
    class_name: str
    probability: float
    probability_of_truth: float
    right: bool


@dataclass(frozen=True)
class Sample:
    """A test video of the report. `note` says why there are no pictures."""

    id: str
    class_name: str
    size: str
    fastest: float
    predictions: list[Prediction | None]
    shots: list[Shot] = field(default_factory=list)
    note: str = ""


def choose(scores: Scores, count: int) -> list[int]:
    """Rows of `scores`: mistakes, the surest one first; where they are too few, right ones, the least sure first."""
    soft = scores.mean().double().softmax(dim=1)
    sure, guess = (values.tolist() for values in soft.max(dim=1))

    def rank(row: int) -> tuple[bool, float, str]:
        right = guess[row] == scores.labels[row]
        return right, sure[row] if right else -sure[row], scores.ids[row]

    return sorted(range(len(scores.ids)), key=rank)[:count]


def samples(store: Store, shown: Scores, evaluations: Sequence[Scores], rows: Sequence[int]) -> list[Sample]:
    """The videos at `rows` of `shown`, with pictures from the store and every evaluation's prediction."""
    predicted = [predictions(number, scores) for number, scores in enumerate(evaluations)]
    found = []
    for row in rows:
        video_id = shown.ids[row]
        said = [by_id.get(video_id) for by_id in predicted]
        name = shown.classes[shown.labels[row]]
        try:
            found.append(filmed(store, video_id, name, said))
        except DataError as error:  # the set was prepared anew, or the scores came from elsewhere
            note = str(error).replace(str(store.folder), store.header.name)
            found.append(Sample(video_id, name, "", 0.0, said, note=note))
    return found


def predictions(number: int, scores: Scores) -> dict[str, Prediction]:
    """Video id -> what evaluation `number` says."""
    soft = scores.mean().double().softmax(dim=1)
    best = soft.argmax(dim=1).tolist()
    return {
        video_id: Prediction(
            number, scores.classes[guess], float(row[guess]), float(row[truth]), guess == truth
        )
        for video_id, row, guess, truth in zip(scores.ids, soft, best, scores.labels, strict=True)
    }  # fmt: skip


def filmed(store: Store, video_id: str, class_name: str, said: list[Prediction | None]) -> Sample:
    """A sample with its filmstrip: frames spread over the video, each above the flow that leaves it.

    Raises `DataError` when the store lacks the video.
    """
    video = store.video(video_id)
    last = max(video.frames - 2, 0)  # the last frame that a flow field leaves
    times = sorted({round(t) for t in torch.linspace(0, last, SHOTS).tolist()})
    frames = small(store.frames(video_id, times)).round().clamp(0, 255).to(torch.uint8)
    fastest, flows = 0.0, [""] * len(times)
    if video.frames > 1:
        flow = dequantise(store.fields(video_id, times), store.header.preparation.bound)
        fastest = float(flow.norm(dim=1).max())
        flows = [picture_uri(picture) for picture in colour.paint_flow(small(flow))]
    shots = [
        Shot(picture_uri(frame), coloured, f"{t / video.fps:.2f} s" if video.fps > 0 else f"frame {t}")
        for t, frame, coloured in zip(times, frames, flows, strict=True)
    ]
    size = f"{video.width} × {video.height}, {video.frames} frames"
    return Sample(video_id, class_name, size, fastest, said, shots)


def small(pictures: Tensor) -> Tensor:
    """(N, planes, H, W) to float pictures at most `HEIGHT` pixels high; their levels stay."""
    height, width = pictures.shape[-2:]
    if height <= HEIGHT:
        return pictures.float()
    return resize(pictures.float(), (HEIGHT, max(1, round(width * HEIGHT / height))))


def picture_uri(picture: Tensor) -> str:
    """A (3, H, W) uint8 picture as a PNG data URI."""
    file = BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def wheel() -> str:
    """The colours of flow, as a data URI."""
    return picture_uri(colour.colour_wheel(97))
