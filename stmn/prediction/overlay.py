"""A video of what a network makes of a video: the running prediction, the flow it reads, and where its gate opens."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from stmn.evaluation.protocol import Protocol
from stmn.flow.colour import colour_scale, colour_wheel, paint_flow
from stmn.flow.quantise import dequantise
from stmn.prediction.gate_map import GateMap
from stmn.prediction.model import Prediction, Scorer
from stmn.prediction.panels import GAP, LINE, MUTED, Picture, Sheet, bar, heated, scale_bar, shown_size, text
from stmn.prediction.windows import Moment, Window, moments, score_spans, slide
from stmn.runtime.progress import Progress
from stmn.video.decode import Frame
from stmn.video.write import VideoWriter, writing_video

#: classes shown
CLASSES = 5
#: the share of a map's places below the value that is painted in full strength
FULL = 0.995


def overlaid(
    model: Scorer, frames: Iterable[Frame], name: str, path: Path, gate: GateMap | None,
    length: float, step: float, protocol: Protocol, progress: Progress,
) -> Iterator[Window]:  # fmt: skip
    """Classify windows of a video and write the overlay as they come; the file appears when the last one is taken.

    A frame shows the window whose middle is nearest to it. Raises as `moments` and `writing_video` do.
    """
    with writing_video(path) as writer:
        picture = Drawing(model, writer, name, gate)
        waiting: deque[Moment] = deque()
        passing = moments(model, frames, name, view)
        passing = remembered(gate.along(passing) if gate else passing, waiting)
        window: Window | None = None
        for window in score_spans(model, slide(passing, length, step), protocol, name, progress):
            picture.draw(taken(waiting, window.middle + step / 2), window)
            yield window
        if window is not None:
            picture.draw(list(waiting), window)


def view(frame: Frame) -> Picture:
    """The frame as a panel shows it."""
    height, width = shown_size(*frame.size)
    picture = frame.picture(min(height, width))
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def remembered(passing: Iterable[Moment], waiting: deque[Moment]) -> Iterator[Moment]:
    """The same moments, of which each is kept too until it is drawn."""
    for moment in passing:
        waiting.append(moment)
        yield moment


def taken(waiting: deque[Moment], until: float) -> list[Moment]:
    """The moments before a time, which wait no longer."""
    found = []
    while waiting and waiting[0].seconds < until:
        found.append(waiting.popleft())
    return found


class Drawing:
    """Draws the moments of one video. Colours of flow and gate keep one scale, which only ever grows."""

    def __init__(self, model: Scorer, writer: VideoWriter, name: str, gate: GateMap | None) -> None:
        self.model, self.writer, self.name, self.gate = model, writer, Path(name).name, gate
        self.panels = 1 + model.reads_flow + (gate is not None)
        self.fastest = self.strongest = 0.0
        self.field: Tensor | None = None

    def draw(self, some: Sequence[Moment], window: Window) -> None:
        """Add moments to the video, over which stands what is said of a window."""
        if not some:
            return
        ranked = self.model.ranked(window.scores)[:CLASSES]
        flows = self.flows(some) if self.model.reads_flow else [None] * len(some)
        maps = self.maps(some) if self.gate else [None] * len(some)
        for moment, flow, found in zip(some, flows, maps, strict=True):
            if not self.writer.count:
                self.writer.fps = moment.rate
            self.writer.add(self.page(moment, window, ranked, flow, found), moment.seconds)

    def flows(self, some: Sequence[Moment]) -> list[Picture]:
        """(H, W, 3) the flow of each moment in colour; the last frame of a video shows the one before."""
        fields = []
        for moment in some:
            self.field = self.field if moment.levels is None else moment.levels
            fields.append(torch.zeros(2, *moment.frame.shape[1:]) if self.field is None else self.field)
        flow = dequantise(torch.stack(fields), self.model.description.preparation.bound)
        self.fastest = max(self.fastest, colour_scale(flow))
        return list(paint_flow(flow, self.fastest).permute(0, 2, 3, 1).contiguous().numpy())

    def maps(self, some: Sequence[Moment]) -> list[NDArray[np.floating]]:
        """(h, w) the gate's map of each moment, 0..1."""
        found = torch.stack([moment.gate for moment in some if moment.gate is not None])
        self.strongest = max(self.strongest, float(found.quantile(FULL)), 1e-9)
        return list((found / self.strongest).clamp(0, 1).numpy())

    def page(
        self, moment: Moment, window: Window, ranked: Sequence[Prediction], flow: Picture | None,
        found: NDArray[np.floating] | None,
    ) -> Picture:  # fmt: skip
        """One frame of the overlay, (H, W, 3) RGB."""
        assert moment.view is not None
        height, width = moment.view.shape[:2]
        sheet = Sheet(height, width, self.panels)
        image, draw = sheet.blank()
        sheet.place(image, 0, f"{moment.seconds:.2f} s   {self.name}", Image.fromarray(moment.view))
        for line, prediction in enumerate(ranked):
            at = (sheet.left(0), sheet.foot + line * LINE)
            bar(draw, at, sheet.column, prediction.class_name, prediction.score, line == 0)
        at = (sheet.left(0), sheet.foot + CLASSES * LINE)
        text(draw, at, f"window {window.start:.2f} to {window.end:.2f} s", sheet.column, MUTED)
        if flow is not None:
            picture = Image.fromarray(flow).resize((width, height), Image.Resampling.BILINEAR)
            sheet.place(image, 1, "optical flow", picture)
            self.explain_flow(sheet, image)
        if found is not None and self.gate is not None:
            sheet.place(image, 2, f"gate map, {self.gate.stage}", heated(moment.view, found))
            self.explain_gate(sheet, image)
        return np.asarray(image)

    def explain_flow(self, sheet: Sheet, image: Image.Image) -> None:
        """The wheel of directions and its scale."""
        left, top, side = sheet.left(1), sheet.foot, 5 * LINE
        disc = Image.new("L", (side, side))
        ImageDraw.Draw(disc).ellipse((1, 1, side - 2, side - 2), 255)
        image.paste(Image.fromarray(colour_wheel(side).permute(1, 2, 0).contiguous().numpy()), (left, top), disc)
        draw, room = ImageDraw.Draw(image), sheet.column - side - GAP
        rim = f"rim: {self.fastest:.1f} pixels a frame"
        lines = ("colour: direction, as from", "the wheel's centre", "paler: slower", rim)
        for line, words in enumerate(lines):
            text(draw, (left + side + GAP, top + line * LINE), words, room, MUTED)

    def explain_gate(self, sheet: Sheet, image: Image.Image) -> None:
        """The colours of the map, and what they are."""
        assert self.gate is not None
        left, top = sheet.left(2), sheet.foot
        scale_bar(image, (left, top + 4), sheet.column, self.strongest)
        for line, words in enumerate(self.gate.words):
            text(ImageDraw.Draw(image), (left, top + (line + 2) * LINE), words, sheet.column, MUTED)
