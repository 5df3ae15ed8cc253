"""Write a video that explains a model's view of a video: running prediction, the flow that it reads, and its gate."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from stmn.evaluation.protocol import Protocol
from stmn.flow.colour import colour_scale, colour_wheel, paint_flow
from stmn.flow.quantise import dequantise_for_display
from stmn.prediction.class_map import ClassMap
from stmn.prediction.classifier import Classifier, ClassScore
from stmn.prediction.gate_map import GateMap
from stmn.prediction.panels import (
    GAP,
    LINE,
    MUTED,
    RgbArray,
    Sheet,
    draw_bar,
    draw_heat_map,
    draw_heat_scale,
    draw_text,
    panel_size,
)
from stmn.prediction.table import UNKNOWN
from stmn.prediction.windows import TimedFrame, Window, classify_spans, read_frames, slide_window
from stmn.runtime.progress import Progress
from stmn.video.frame import Frame
from stmn.video.write import VideoWriter, video_writer

#: classes shown
_TOP_CLASSES = 5
#: the quantile of a gate map's values that gets the brightest colour
_BRIGHTEST = 0.995
#: the largest value of a heat map that is 0 everywhere
_DARK = 1e-9


def write_overlay(
    model: Classifier, frames: Iterable[Frame], name: str, path: Path, gate: GateMap | None, explained: ClassMap | None,
    length: float, step: float, protocol: Protocol, progress: Progress,
    is_unknown: Callable[[Tensor], bool] | None = None,
) -> Iterator[Window]:  # fmt: skip
    """Classify the windows of a video, and draw each frame with the window whose middle is nearest to it.

    Args:
        model: The model.
        frames: The decoded frames of the video.
        name: The video's name, for the title and for error messages.
        path: The MP4 file. It appears once the caller has taken the last window.
        gate: The gate map to draw, if the model has one.
        explained: The class maps to draw, if a class is explained.
        length: Seconds of a window.
        step: Seconds from one window to the next.
        protocol: How each window is classified.
        progress: Where notices go.
        is_unknown: Tells from a window's logits (outputs, classes) whether it is of no known class.

    Yields:
        The windows.

    Raises:
        DataError: The video can't be read, or its frame size changes.
        StmnError: The overlay can't be written.
    """
    with video_writer(path) as writer:
        drawing = _Drawing(model, writer, name, gate, explained, is_unknown)
        waiting: deque[TimedFrame] = deque()
        stream = read_frames(model, frames, _fit_panel)
        stream = gate.add_maps(stream) if gate else stream
        stream = _remember(explained.add_maps(stream) if explained else stream, waiting)
        window: Window | None = None
        for window in classify_spans(model, slide_window(stream, length, step), protocol, name, progress):
            drawing.add(_take_until(waiting, window.middle + step / 2), window)
            yield window
        if window is not None:
            drawing.add(list(waiting), window)


def _fit_panel(frame: Frame) -> RgbArray:
    """Resize a frame to fit a panel."""
    height, width = panel_size(*frame.size)
    picture = frame.picture(min(height, width))
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def _remember(frames: Iterable[TimedFrame], waiting: deque[TimedFrame]) -> Iterator[TimedFrame]:
    """Yield the same frames and keep each in `waiting` until it is drawn."""
    for frame in frames:
        waiting.append(frame)
        yield frame


def _take_until(waiting: deque[TimedFrame], seconds: float) -> list[TimedFrame]:
    """Remove the frames before a time from `waiting`."""
    taken = []
    while waiting and waiting[0].seconds < seconds:
        taken.append(waiting.popleft())
    return taken


@dataclass
class _Heat:
    """A panel with a heat map; the range of its colours never shrinks during a video.

    Attributes:
        title: The panel's title.
        legend: Two lines that explain the map.
        pick: Frame -> its (h, w) map.
        strongest: The value with the brightest colour.
    """

    title: str
    legend: tuple[str, str]
    pick: Callable[[TimedFrame], Tensor]
    strongest: float = _DARK

    def scale(self, frames: Sequence[TimedFrame]) -> list[NDArray[np.floating]]:
        """(h, w) map of each frame, scaled to 0..1."""
        maps = torch.stack([self.pick(frame) for frame in frames])
        self.strongest = max(self.strongest, float(maps.quantile(_BRIGHTEST)))
        return list((maps / self.strongest).clamp(0, 1).numpy())


def _list_heat(gate: GateMap | None, explained: ClassMap | None) -> Iterator[_Heat]:
    """The panels with heat maps, from left to right."""

    def gate_of(frame: TimedFrame) -> Tensor:
        assert frame.gate_map is not None
        return frame.gate_map

    if gate:
        yield _Heat(f"gate map, {gate.part}", gate.legend, gate_of)
    for number, name in enumerate(explained.streams if explained else ()):
        assert explained

        def class_of(frame: TimedFrame, number: int = number) -> Tensor:
            assert frame.class_maps is not None
            return frame.class_maps[number]

        yield _Heat(f"{explained.class_name} in {name}, {explained.part}", explained.legend(name), class_of)


class _Drawing:
    """Draws the frames of one video. The ranges of colours never shrink during it."""

    def __init__(
        self, model: Classifier, writer: VideoWriter, name: str, gate: GateMap | None, explained: ClassMap | None,
        is_unknown: Callable[[Tensor], bool] | None,
    ) -> None:  # fmt: skip
        self.model, self.writer, self.name, self.is_unknown = model, writer, Path(name).name, is_unknown
        self.heats = list(_list_heat(gate, explained))
        self.fastest = 0.0
        self.last_flow: Tensor | None = None

    def add(self, frames: Sequence[TimedFrame], window: Window) -> None:
        """Append frames to the overlay with the prediction of a window."""
        if not frames:
            return
        ranked = self.model.rank(window.logits)[:_TOP_CLASSES]
        unknown = self.is_unknown is not None and self.is_unknown(window.outputs)
        flows = self.colour_flow(frames) if self.model.reads_flow else [None] * len(frames)
        columns = [heat.scale(frames) for heat in self.heats]
        for number, (frame, flow) in enumerate(zip(frames, flows, strict=True)):
            if not self.writer.count:
                self.writer.fps = frame.rate
            page = self.draw(frame, window, ranked, unknown, flow, [column[number] for column in columns])
            self.writer.add(page, frame.seconds)

    def colour_flow(self, frames: Sequence[TimedFrame]) -> list[RgbArray]:
        """(H, W, 3) colours of each frame's flow; the last frame of a video shows the flow before it."""
        fields = []
        for frame in frames:
            self.last_flow = self.last_flow if frame.flow is None else frame.flow
            fields.append(torch.zeros(2, *frame.frame.shape[1:]) if self.last_flow is None else self.last_flow)
        flow = dequantise_for_display(torch.stack(fields), self.model.description.preparation.bound)
        self.fastest = max(self.fastest, colour_scale(flow))
        return list(paint_flow(flow, self.fastest).permute(0, 2, 3, 1).contiguous().numpy())

    def draw(
        self, frame: TimedFrame, window: Window, ranked: Sequence[ClassScore], unknown: bool, flow: RgbArray | None,
        maps: Sequence[NDArray[np.floating]],
    ) -> RgbArray:  # fmt: skip
        """One frame of the overlay, (H, W, 3) RGB."""
        assert frame.display is not None
        height, width = frame.display.shape[:2]
        sheet = Sheet(height, width, 1 + (flow is not None) + len(maps))
        image, draw = sheet.blank()
        sheet.paste(image, 0, f"{frame.seconds:.2f} s   {self.name}", Image.fromarray(frame.display))
        if unknown:
            draw_text(draw, (sheet.left(0), sheet.foot), UNKNOWN, sheet.column)
        for line, found in enumerate(ranked[: _TOP_CLASSES - unknown], int(unknown)):
            at = (sheet.left(0), sheet.foot + line * LINE)
            draw_bar(draw, at, sheet.column, found.class_name, found.score, line == 0)
        at = (sheet.left(0), sheet.foot + _TOP_CLASSES * LINE)
        draw_text(draw, at, f"window {window.start:.2f} to {window.end:.2f} s", sheet.column, MUTED)
        if flow is not None:
            picture = Image.fromarray(flow).resize((width, height), Image.Resampling.BILINEAR)
            sheet.paste(image, 1, "optical flow", picture)
            self.explain_flow(sheet, image)
        for panel, (heat, values) in enumerate(zip(self.heats, maps, strict=True), 1 + (flow is not None)):
            sheet.paste(image, panel, heat.title, draw_heat_map(frame.display, values))
            _explain_heat(sheet, image, panel, heat)
        return np.asarray(image)

    def explain_flow(self, sheet: Sheet, image: Image.Image) -> None:
        """Draw the colour wheel of directions, and its scale."""
        left, top, side = sheet.left(1), sheet.foot, 5 * LINE
        disc = Image.new("L", (side, side))
        ImageDraw.Draw(disc).ellipse((1, 1, side - 2, side - 2), 255)
        image.paste(Image.fromarray(colour_wheel(side).permute(1, 2, 0).contiguous().numpy()), (left, top), disc)
        draw, room = ImageDraw.Draw(image), sheet.column - side - GAP
        rim = f"rim: {self.fastest:.1f} pixels per frame"
        lines = ("colour: direction, seen", "from the wheel's centre", "paler: slower", rim)
        for line, words in enumerate(lines):
            draw_text(draw, (left + side + GAP, top + line * LINE), words, room, MUTED)


def _explain_heat(sheet: Sheet, image: Image.Image, panel: int, heat: _Heat) -> None:
    """Draw the colours of a heat map, with words that explain them."""
    left, top = sheet.left(panel), sheet.foot
    draw_heat_scale(image, (left, top + 4), sheet.column, heat.strongest)
    for line, words in enumerate(heat.legend):
        draw_text(ImageDraw.Draw(image), (left, top + (line + 2) * LINE), words, sheet.column, MUTED)
