"""A report's sample videos: which ones to show, their frames and flow, and what each evaluation predicts."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from stmn.errors import DataError, count_of
from stmn.evaluation.kinds import holds_logits
from stmn.evaluation.scores import Scores
from stmn.flow import colour
from stmn.flow.quantise import dequantise_for_display
from stmn.store.format.read import Store

#: frames in a filmstrip
_FRAMES = 5
#: largest height of a stored picture, pixels: enough for a filmstrip on a dense screen
_HEIGHT = 144


@dataclass(frozen=True)
class FilmstripFrame:
    """A frame and the flow to the next one, as data URIs; `flow` is empty if there is none."""

    frame: str
    flow: str
    caption: str


@dataclass(frozen=True)
class SamplePrediction:
    """An evaluation's prediction for a video.

    Probabilities in 0..1 are the softmax of its logits; None for scores that are not logits.
    """

    evaluation: int
    class_name: str
    probability: float | None
    probability_of_truth: float | None
    correct: bool


@dataclass(frozen=True)
class SampleVideo:
    """A test video of a report.

    Attributes:
        id: the video's id.
        class_name: its true class.
        size: its size and length in words.
        fastest: the longest flow vector of the filmstrip, pixels per frame.
        predictions: each evaluation's prediction; None if it did not test the video.
        frames: the filmstrip.
        note: why there is no filmstrip.
    """

    id: str
    class_name: str
    size: str
    fastest: float
    predictions: list[SamplePrediction | None]
    frames: list[FilmstripFrame] = field(default_factory=list)
    note: str = ""


def choose_samples(scores: Scores, count: int) -> list[int]:
    """Choose rows of `scores`: mistakes, the most confident first, then correct videos, the least confident first."""
    confidence, predicted = (values.tolist() for values in scores.probabilities().max(dim=1))

    def rank(row: int) -> tuple[bool, float, str]:
        correct = predicted[row] == scores.labels[row]
        return correct, confidence[row] if correct else -confidence[row], scores.ids[row]

    return sorted(range(len(scores.ids)), key=rank)[:count]


def load_samples(store: Store, shown: Scores, evaluations: Sequence[Scores], rows: Sequence[int]) -> list[SampleVideo]:
    """The videos at `rows` of `shown`, with pictures from the store and every evaluation's prediction."""
    predictions = [_predict(number, scores) for number, scores in enumerate(evaluations)]
    found = []
    for row in rows:
        video_id = shown.ids[row]
        own = [by_id.get(video_id) for by_id in predictions]
        name = shown.classes[shown.labels[row]]
        try:
            found.append(_load_sample(store, video_id, name, own))
        except DataError as error:  # the set was prepared again, or the scores came from elsewhere
            note = str(error).replace(str(store.folder), store.header.name)
            found.append(SampleVideo(video_id, name, "", 0.0, own, note=note))
    return found


def draw_flow_wheel() -> str:
    """The colours of flow directions, as a data URI."""
    return encode_picture(colour.colour_wheel(97))


def _predict(number: int, scores: Scores) -> dict[str, SamplePrediction]:
    """Video id -> the prediction of evaluation `number`."""
    soft = scores.probabilities()
    best = soft.argmax(dim=1).tolist()
    sure = holds_logits(scores.protocol)
    return {
        video_id: SamplePrediction(
            number,
            scores.classes[predicted],
            float(row[predicted]) if sure else None,
            float(row[truth]) if sure else None,
            predicted == truth,
        )
        for video_id, row, predicted, truth in zip(scores.ids, soft, best, scores.labels, strict=True)
    }  # fmt: skip


def _load_sample(
    store: Store, video_id: str, class_name: str, predictions: list[SamplePrediction | None]
) -> SampleVideo:
    """A sample with frames spread over the video, each with its flow. Raises `DataError` if the store lacks it."""
    video = store.video(video_id)
    last = max(video.frames - 2, 0)  # the last frame with flow to a next one
    times = sorted({round(t) for t in torch.linspace(0, last, _FRAMES).tolist()})
    frames = _shrink(store.frames(video_id, times)).round().clamp(0, 255).to(torch.uint8)
    fastest, flows = 0.0, [""] * len(times)
    if video.frames > 1:
        flow = dequantise_for_display(store.fields(video_id, times), store.header.preparation.bound)
        fastest = float(flow.norm(dim=1).max())
        flows = [encode_picture(picture) for picture in colour.paint_flow(_shrink(flow))]
    strip = [
        FilmstripFrame(encode_picture(frame), coloured, f"{t / video.fps:.2f} s" if video.fps > 0 else f"frame {t}")
        for t, frame, coloured in zip(times, frames, flows, strict=True)
    ]
    size = f"{video.width} × {video.height}, {count_of(video.frames, 'frame')}"
    return SampleVideo(video_id, class_name, size, fastest, predictions, strip)


def _shrink(pictures: Tensor) -> Tensor:
    """Shrink (N, channels, H, W) pictures to at most `_HEIGHT` pixels high, as floats."""
    height, width = pictures.shape[-2:]
    if height <= _HEIGHT:
        return pictures.float()
    size = (_HEIGHT, max(1, round(width * _HEIGHT / height)))
    return interpolate(pictures.float(), size, mode="bilinear", antialias=True)


def encode_picture(picture: Tensor) -> str:
    """Encode a (3, H, W) uint8 picture as a PNG data URI."""
    file = BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
