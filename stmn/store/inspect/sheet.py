"""One picture of a video: frames across it, the flow that leaves each in colour, and u and v in grey."""

from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from stmn.flow.colour import colour_scale, colour_wheel, paint_flow
from stmn.flow.quantise import dequantise
from stmn.runtime.files import atomic_write
from stmn.store.format.read import Store, StoredVideo
from stmn.store.inspect.lookup import quote_id

#: pixels: the least width of a column, between pictures, of the labels at the left, of the head and of text
COLUMN, GAP, LEFT, HEAD, TEXT = 150, 4, 62, 64, 13
PAPER, INK, MUTED = (255, 255, 255), (20, 20, 20), (110, 110, 110)


def write_sheet(store: Store, video: StoredVideo, path: Path, columns: int = 6) -> None:
    """Write a PNG with `columns` moments of a video; u and v run from black (leftwards, upwards) to white."""
    with atomic_write(path) as temporary:
        draw_sheet(store, video, columns).save(temporary, "PNG")


def draw_sheet(store: Store, video: StoredVideo, columns: int) -> Image.Image:
    """The picture, RGB. Raises `DataError` when the store can't give the video's pictures."""
    times = sorted({round(t) for t in torch.linspace(0, max(video.frames - 2, 0), columns).tolist()})
    frames = store.frames(video.id, times)
    flow = dequantise(store.fields(video.id, times), store.header.preparation.bound)
    full = colour_scale(flow)
    rows = {
        "frame": frames,
        "flow": paint_flow(flow, full),
        "u": grey_levels(flow[:, :1], full),
        "v": grey_levels(flow[:, 1:], full),
    }
    scale = max(1, -(-COLUMN // video.width))  # small pictures are enlarged, by a whole number: pixels stay pixels
    width, height = video.width * scale, video.height * scale
    foot = TEXT + 2 * GAP
    sheet = Image.new(
        "RGB",
        (LEFT + len(times) * (width + GAP), HEAD + len(rows) * (height + GAP) + foot),
        PAPER,
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    room = sheet.width - HEAD - 2 * GAP
    for line, (text, ink) in enumerate(((quote_id(video.id), INK), (about(video), MUTED), (legend(full), MUTED))):
        draw.text((GAP, GAP + line * (TEXT + 5)), fitted(text, font, room), ink, font)
    disc = as_image(colour_wheel(HEAD - 2 * GAP))
    sheet.paste(disc, (sheet.width - disc.width - GAP, GAP))
    for row, (name, pictures) in enumerate(rows.items()):
        top = HEAD + row * (height + GAP)
        draw.text((GAP, top + height // 2 - TEXT // 2), name, INK, font)
        for column, picture in enumerate(pictures):
            image = as_image(picture).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(image, (LEFT + column * (width + GAP), top))
    for column, t in enumerate(times):
        when = f"{t}  ({t / video.fps:.2f} s)" if video.fps > 0 else str(t)
        draw.text((LEFT + column * (width + GAP), sheet.height - foot), when, MUTED, font)
    draw.text((GAP, sheet.height - foot), "time", MUTED, font)
    return sheet


def about(video: StoredVideo) -> str:
    """A line on the video."""
    rate = f", {video.fps:.4g} a second" if video.fps > 0 else ""
    return f"{video.class_name}: {video.frames} frames of {video.width} x {video.height}{rate}"


def legend(full: float) -> str:
    """What colours and greys mean."""
    return f"rim of the wheel: {full:.1f} px a frame;  u, v: black -{full:.1f}, grey 0, white +{full:.1f} px"


def fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> str:
    """Text cut to a width in pixels."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text + "..."


def grey_levels(component: Tensor, full: float) -> Tensor:
    """(N, 1, H, W) pixels to (N, 3, H, W) uint8 grey: -full is black, +full is white."""
    return (127.5 + component * (127.5 / full)).round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1)


def as_image(picture: Tensor) -> Image.Image:
    """(3, H, W) uint8 to a picture."""
    return Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
