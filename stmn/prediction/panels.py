"""Drawing tools for an overlay: panels side by side, each with a title, a picture and an explanation at its foot."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stmn.runtime.fonts import Font, find_font

Colour = tuple[int, int, int]
#: (H, W, 3) uint8
RgbArray = NDArray[np.uint8]

#: width and height, in pixels, that a picture is fitted into
_PICTURE_BOX = (480, 336)
#: the smallest width of a panel, pixels
_MIN_COLUMN = 300
#: the gap between panels, and the height of a line of text, pixels
GAP, LINE = 12, 21
#: the size of text, pixels
_TEXT_SIZE = 14
#: lines of text at a panel's foot
_FOOT_LINES = 6
#: colours of less important text, and of the best class's bar
MUTED, BAR = (160, 166, 174), (64, 156, 255)
_PAPER, _INK, _OTHER_BAR, _GROOVE = (18, 20, 24), (238, 238, 238), (58, 100, 150), (44, 48, 56)
#: black, violet, red, orange, pale yellow: brightness rises evenly, so the scale works in grey too
_HEAT = ((0, 0, 8), (62, 12, 92), (148, 32, 98), (222, 74, 58), (250, 152, 30), (252, 250, 170))
#: opacity of a heat map over its picture
_HEAT_OPACITY = 0.68


def panel_size(height: int, width: int) -> tuple[int, int]:
    """Fit a picture into a panel: (height, width) in pixels, both even."""
    scale = min(_PICTURE_BOX[0] / width, _PICTURE_BOX[1] / height)
    return max(2, round(height * scale / 2) * 2), max(2, round(width * scale / 2) * 2)


@dataclass(frozen=True)
class Sheet:
    """The layout of `panels` panels in one image, each for a picture of `height` x `width` pixels."""

    height: int
    width: int
    panels: int

    @property
    def column(self) -> int:
        """Width of a panel, in pixels."""
        return max(self.width, _MIN_COLUMN)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the image in pixels, both even."""
        wide = GAP + self.panels * (self.column + GAP)
        high = GAP + LINE + self.height + GAP // 2 + _FOOT_LINES * LINE + GAP
        return wide + wide % 2, high + high % 2

    def blank(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        """Make an empty image, and a drawing context for it."""
        image = Image.new("RGB", self.size, _PAPER)
        return image, ImageDraw.Draw(image)

    def left(self, panel: int) -> int:
        """The left edge of a panel, in pixels."""
        return GAP + panel * (self.column + GAP)

    @property
    def foot(self) -> int:
        """The upper edge of the panels' feet, pixels from the top."""
        return GAP + LINE + self.height + GAP // 2

    def paste(self, image: Image.Image, panel: int, title: str, picture: Image.Image) -> None:
        """Put a title and a picture into a panel."""
        draw_text(ImageDraw.Draw(image), (self.left(panel), GAP - 3), title, self.column, MUTED)
        image.paste(picture, (self.left(panel) + (self.column - picture.width) // 2, GAP + LINE))


def draw_text(draw: ImageDraw.ImageDraw, at: tuple[int, int], words: str, room: float, ink: Colour = _INK) -> None:
    """Draw a line of text at (left, top), cut off after `room` pixels."""
    draw.text(at, _shorten(words, room), ink, _font(words))


def draw_bar(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], width: int, name: str, share: float, best: bool = False
) -> None:
    """Draw a class's name, a bar with the length of its score (0..1), and the score in percent."""
    left, top = at
    names, numbers = round(0.42 * width), round(_font().getlength("100 %")) + 6
    draw_text(draw, (left, top), name, names - 8, _INK if best else MUTED)
    room = width - names - numbers
    box = (left + names, top + 4, left + names + room, top + _TEXT_SIZE + 1)
    draw.rectangle(box, _GROOVE)
    if share > 0:
        draw.rectangle((*box[:2], box[0] + round(room * share), box[3]), BAR if best else _OTHER_BAR)
    words = f"{100 * share:.0f} %"
    draw.text((left + width - _font().getlength(words), top), words, _INK if best else MUTED, _font())


def draw_heat_map(picture: RgbArray, values: NDArray[np.floating]) -> Image.Image:
    """Lay a (h, w) map of values 0..1, in colour and smoothly enlarged, over the picture in grey."""
    height, width = picture.shape[:2]
    enlarged = Image.fromarray(values.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    colours = _heat(np.clip(np.asarray(enlarged), 0, 1)).astype(np.float32)
    grey = np.asarray(Image.fromarray(picture).convert("L"), np.float32)[..., None]
    return Image.fromarray((_HEAT_OPACITY * colours + (1 - _HEAT_OPACITY) * grey).round().astype(np.uint8))


def draw_heat_scale(image: Image.Image, at: tuple[int, int], width: int, largest: float) -> None:
    """Draw the colours of a heat map from 0 to `largest` at (left, top), with both numbers under them."""
    left, top = at
    image.paste(Image.fromarray(_heat(np.tile(np.linspace(0, 1, width), (12, 1)))), at)
    draw = ImageDraw.Draw(image)
    draw.text((left, top + 15), "0", MUTED, _font())
    words = f"{largest:.3g}"
    draw.text((left + width - _font().getlength(words), top + 15), words, MUTED, _font())


def _font(words: str = "") -> Font:
    """A font that has all letters of a text."""
    return find_font(words, _TEXT_SIZE)


def _shorten(words: str, room: float) -> str:
    """Cut text to a width in pixels."""
    font = _font(words)
    if font.getlength(words) <= room:
        return words
    while words and font.getlength(words + "...") > room:
        words = words[:-1]
    return words + "..."


def _heat(values: NDArray[np.floating]) -> RgbArray:
    """Map values 0..1 of any shape to (..., 3) RGB colours."""
    at = np.linspace(0, 1, len(_HEAT))
    colours = np.array(_HEAT, float)
    return np.stack([np.interp(values, at, colours[:, c]) for c in range(3)], axis=-1).round().astype(np.uint8)
