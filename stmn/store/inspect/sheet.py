"""Draw a sheet of a video: frames spread over it, the flow from each to the next in colour, and u and v in grey."""

from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from stmn.flow.colour import colour_scale, colour_wheel, paint_flow
from stmn.flow.quantise import dequantise_for_display, noise_bound
from stmn.runtime.files import atomic_write
from stmn.runtime.fonts import Font, find_font
from stmn.runtime.names import printable
from stmn.store.format.read import Store, StoredVideo
from stmn.store.inspect.lookup import quote_id

#: sizes in pixels: smallest width of a column, gap between pictures, width of the labels on the left, and text
_COLUMN, _GAP, _LEFT, _TEXT = 150, 4, 62, 13
_LINE = _TEXT + 5
#: height of the four lines at the top
_HEAD = 4 * _LINE + 2 * _GAP
_PAPER, _INK, _MUTED, _FRAME = (255, 255, 255), (20, 20, 20), (110, 110, 110), (215, 215, 215)


def write_sheet(store: Store, video: StoredVideo, path: Path, columns: int = 6) -> None:
    """Write a PNG that shows `columns` moments of a video.

    Flow has one scale for the whole sheet. u and v run from black (left, up) over grey (still) to white (right, down).

    Raises:
        DataError: The store can't give the video's pictures.
        StmnError: The file can't be written.
    """
    with atomic_write(path) as temporary:
        _draw_sheet(store, video, columns).save(temporary, "PNG")


def _draw_sheet(store: Store, video: StoredVideo, columns: int) -> Image.Image:
    """Draw the sheet, RGB."""
    bound = store.header.preparation.bound
    times = sorted({round(t) for t in torch.linspace(0, max(video.frames - 2, 0), columns).tolist()})
    flow = dequantise_for_display(store.fields(video.id, times), bound)
    full, quiet = colour_scale(flow), noise_bound(bound)
    rows = {
        "frame": store.frames(video.id, times),
        "flow": paint_flow(flow, full),
        "u": _paint_component(flow[:, :1], full),
        "v": _paint_component(flow[:, 1:], full),
    }
    scale = max(1, -(-_COLUMN // video.width))  # a whole number, so that pixels stay square and sharp
    width, height = video.width * scale, video.height * scale
    foot = _TEXT + 2 * _GAP
    size = (_LEFT + len(times) * (width + _GAP), _HEAD + len(rows) * (height + _GAP) + foot)
    sheet = Image.new("RGB", size, _PAPER)
    draw, font = ImageDraw.Draw(sheet), find_font(quote_id(video.id) + video.class_name, _TEXT)

    wheel = _to_image(colour_wheel(_HEAD - 2 * _GAP))
    sheet.paste(wheel, (sheet.width - wheel.width - _GAP, _GAP))
    rate = f", {video.fps:.4g} per second" if video.fps > 0 else ""
    head = (
        quote_id(video.id),
        f"{printable(video.class_name)}: {video.frames} frames of {video.width} x {video.height}{rate}",
        f"flow: direction as from the wheel's centre; full at {full:.1f} px per frame, white below {quiet:.1f} px",
        f"u (to the right), v (down): black -{full:.1f}, grey 0, white +{full:.1f} px per frame",
    )
    for line, text in enumerate(head):
        text = _shorten(text, font, sheet.width - wheel.width - 3 * _GAP)
        draw.text((_GAP, _GAP + line * _LINE), text, _MUTED if line else _INK, font)

    for row, (name, pictures) in enumerate(rows.items()):
        top = _HEAD + row * (height + _GAP)
        draw.text((_GAP, top + height // 2 - _TEXT // 2), name, _INK, font)
        for column, picture in enumerate(pictures):
            image = _to_image(picture).resize((width, height), Image.Resampling.NEAREST)
            left = _LEFT + column * (width + _GAP)
            draw.rectangle((left - 1, top - 1, left + width, top + height), outline=_FRAME)
            sheet.paste(image, (left, top))
    for column, t in enumerate(times):
        when = f"{t}  ({t / video.fps:.2f} s)" if video.fps > 0 else str(t)
        draw.text((_LEFT + column * (width + _GAP), sheet.height - foot), when, _MUTED, font)
    draw.text((_GAP, sheet.height - foot), "time", _MUTED, font)
    return sheet


def _shorten(text: str, font: Font, room: int) -> str:
    """Cut text to a width in pixels."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text + "..."


def _paint_component(component: Tensor, full: float) -> Tensor:
    """Paint u or v, (N, 1, H, W) pixels, as (N, 3, H, W) uint8 grey: -full is black, +full is white."""
    return (127.5 + component * (127.5 / full)).round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1)


def _to_image(picture: Tensor) -> Image.Image:
    """Convert (3, H, W) uint8 RGB to a Pillow image."""
    return Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
