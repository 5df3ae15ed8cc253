"""What an overlay is drawn with: panels side by side, each a title, a picture and a foot that explains it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Picture = NDArray[np.uint8]

#: pixels: the most that a picture may measure, the least width of a panel, between panels, of text and of its lines
BOX, LEAST, GAP, TEXT, LINE = (480, 336), 300, 12, 14, 21
#: lines of a panel's foot
FOOT_LINES = 6
PAPER, INK, MUTED, BAR, GROOVE = (18, 20, 24), (238, 238, 238), (160, 166, 174), (64, 156, 255), (44, 48, 56)
#: black, violet, red, orange, pale yellow: brightness rises evenly, so that it reads in grey too
HEAT = ((0, 0, 8), (62, 12, 92), (148, 32, 98), (222, 74, 58), (250, 152, 30), (252, 250, 170))
#: the share of the heat in the picture under it
STRENGTH = 0.68


def shown_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) of a picture fitted into a panel, both even."""
    scale = min(BOX[0] / width, BOX[1] / height)
    return max(2, round(height * scale / 2) * 2), max(2, round(width * scale / 2) * 2)


@dataclass(frozen=True)
class Sheet:
    """A picture of `panels` panels, each for pictures of (height, width) pixels."""

    height: int
    width: int
    panels: int

    @property
    def column(self) -> int:
        """Width of a panel."""
        return max(self.width, LEAST)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of all, both even."""
        wide = GAP + self.panels * (self.column + GAP)
        high = GAP + LINE + self.height + GAP // 2 + FOOT_LINES * LINE + GAP
        return wide + wide % 2, high + high % 2

    def blank(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        """An empty sheet, and what draws on it."""
        image = Image.new("RGB", self.size, PAPER)
        return image, ImageDraw.Draw(image)

    def left(self, panel: int) -> int:
        """The left edge of a panel."""
        return GAP + panel * (self.column + GAP)

    @property
    def foot(self) -> int:
        """The upper edge of the feet."""
        return GAP + LINE + self.height + GAP // 2

    def place(self, image: Image.Image, panel: int, title: str, picture: Image.Image) -> None:
        """Put a title and a picture into a panel."""
        text(ImageDraw.Draw(image), (self.left(panel), GAP - 3), title, self.column, MUTED)
        image.paste(picture, (self.left(panel) + (self.column - picture.width) // 2, GAP + LINE))


def font(size: int = TEXT) -> Font:
    """Pillow's own, which is there on every machine."""
    return ImageFont.load_default(size)


def fitted(words: str, room: float, size: int = TEXT) -> str:
    """Text cut to a width in pixels."""
    letters = font(size)
    if letters.getlength(words) <= room:
        return words
    while words and letters.getlength(words + "...") > room:
        words = words[:-1]
    return words + "..."


def text(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], words: str, room: float, ink: tuple[int, int, int] = INK
) -> None:
    """A line of text, cut where the room ends."""
    draw.text(at, fitted(words, room), ink, font())


def bar(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], width: int, name: str, share: float, strong: bool = False
) -> None:
    """A class, a bar as long as its score (0..1), and the score in per cent."""
    left, top = at
    names, numbers = round(0.42 * width), round(font().getlength("100 %")) + 6
    text(draw, (left, top), name, names - 8, INK if strong else MUTED)
    room = width - names - numbers
    box = (left + names, top + 4, left + names + room, top + TEXT + 1)
    draw.rectangle(box, GROOVE)
    if share > 0:
        draw.rectangle((*box[:2], box[0] + round(room * share), box[3]), BAR if strong else (58, 100, 150))
    words = f"{100 * share:.0f} %"
    draw.text((left + width - font().getlength(words), top), words, INK if strong else MUTED, font())


def heat(values: NDArray[np.floating]) -> Picture:
    """Values 0..1 of any shape to colours, (..., 3) RGB."""
    at = np.linspace(0, 1, len(HEAT))
    colours = np.array(HEAT, float)
    return np.stack([np.interp(values, at, colours[:, c]) for c in range(3)], axis=-1).round().astype(np.uint8)


def heated(picture: Picture, values: NDArray[np.floating]) -> Image.Image:
    """A map of values 0..1, (h, w), in colour over the grey picture, smoothly enlarged to its size."""
    height, width = picture.shape[:2]
    wide = Image.fromarray(values.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    colours = heat(np.clip(np.asarray(wide), 0, 1)).astype(np.float32)
    grey = np.asarray(Image.fromarray(picture).convert("L"), np.float32)[..., None]
    return Image.fromarray((STRENGTH * colours + (1 - STRENGTH) * grey).round().astype(np.uint8))


def scale_bar(image: Image.Image, at: tuple[int, int], width: int, full: float) -> None:
    """The colours of a map from 0 to `full`, with both numbers under them."""
    left, top = at
    image.paste(Image.fromarray(heat(np.tile(np.linspace(0, 1, width), (12, 1)))), at)
    draw = ImageDraw.Draw(image)
    draw.text((left, top + 15), "0", MUTED, font())
    words = f"{full:.3g}"
    draw.text((left + width - font().getlength(words), top + 15), words, MUTED, font())
