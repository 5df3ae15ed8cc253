"""Draw tracks: one frame with the tracks that pass through it, or a film."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stmn.errors import DataError
from stmn.idt.trajectories.boxes import Boxes
from stmn.idt.trajectories.extract import extract_tracks
from stmn.idt.trajectories.parameters import TrackParameters
from stmn.idt.trajectories.tracks import Tracks
from stmn.runtime.files import atomic_write
from stmn.video.decode import count_frames, iter_frames
from stmn.video.write import video_writer

RgbArray = NDArray[np.uint8]
#: (n, 2) the points of a track up to the frame shown, pixels of the frame
Tail = NDArray[np.float32]

#: pictures are enlarged by a whole factor until they are this wide, pixels
_WIDTH = 640
#: sizes of gaps and text, pixels
_GAP, _TEXT = 8, 14
_PAPER, _INK, _MUTED = (255, 255, 255), (20, 20, 20), (110, 110, 110)
#: colours of a track: its present point; and the pieces of its tail, the newest first, with the displacements in each
_HEAD = (255, 40, 30)
_COLOURS = ((60, 255, 80), (46, 220, 66), (32, 180, 50), (16, 140, 36), (0, 100, 22))
_PIECE = 3
#: brightness of the frame under the tracks
_DIM = 0.75


@dataclass(frozen=True)
class Shown:
    """The numbers behind a picture.

    Attributes:
        frame: The number of the frame, from 0.
        frames: How many frames the video has.
        tracks: How many tracks pass through the frame.
        all: How many would, if camera motion were not removed; None if it was not.
    """

    frame: int
    frames: int
    tracks: int
    all: int | None


def write_picture(video: Path, path: Path, parameters: TrackParameters, boxes: Boxes, frame: int | None) -> Shown:
    """Write a PNG of one frame with the tracks that pass through it, beside those found with camera motion kept.

    Args:
        video: The file.
        path: The PNG.
        parameters: Parameters of the tracks.
        boxes: Boxes around people.
        frame: The frame's number, from 0; None for the middle of the video.

    Raises:
        DataError: The video can't be read, is too small, or has no such frame.
        MissingExtra: OpenCV is not installed.
        StmnError: The file can't be written.
    """
    frames = count_frames(video)
    frame = frames // 2 if frame is None else frame
    if frame >= frames:
        raise DataError(f"{video}: has no frame {frame}; its {frames} frames are 0 to {frames - 1}")
    start, stop = max(0, frame - 2 * parameters.length), frame + parameters.length + 1
    pictures = [seen.picture() for seen in islice(iter_frames(video), start, stop)]
    near = {number - start: found for number, found in boxes.items()}

    def passing(camera: bool) -> tuple[list[Tail], int]:
        chosen = parameters.model_copy(update={"camera": camera})
        return _find_tails(video, pictures, chosen, near, frame - start)

    kept, count = passing(parameters.camera)
    sides = [("camera motion removed" if parameters.camera else "camera motion not removed", count, kept)]
    every: int | None = None
    if parameters.camera:
        tails, every = passing(False)
        sides.append(("camera motion not removed", every, tails))
    with atomic_write(path) as temporary:
        title = f"{video.name}, frame {frame} of {frames}; drawn are the tracks of the finest scale"
        _draw_sheet(
            pictures[frame - start], title, [(f"{words}: {n} tracks", tails) for words, n, tails in sides]
        ).save(temporary, "PNG")
    return Shown(frame, frames, count, every)


def write_film(video: Path, path: Path, parameters: TrackParameters, boxes: Boxes) -> int:
    """Write an MP4 of a video with the tracks of the finest scale. Memory holds as many frames as a track is long.

    Arguments and errors are those of `write_picture`.

    Returns:
        The number of tracks.
    """
    held: deque[tuple[int, RgbArray, float]] = deque()
    found: deque[tuple[int, Tail]] = deque()
    length, count = parameters.length, 0
    with video_writer(path) as writer:

        def write_until(last: int) -> None:
            """Write the frames up to `last`, whose tracks are all known."""
            while held and held[0][0] <= last:
                number, picture, seconds = held.popleft()
                while found and found[0][0] < number:
                    found.popleft()
                tails = [points[: length + 1 - end + number] for end, points in found if end - length <= number]
                drawn = np.asarray(draw_tracks(picture, tails))
                writer.add(np.ascontiguousarray(drawn[: drawn.shape[0] // 2 * 2, : drawn.shape[1] // 2 * 2]), seconds)

        def watched() -> Iterator[RgbArray]:
            """Yield the frames. When the next one is asked for, all tracks that ended before it are known."""
            for number, frame in enumerate(iter_frames(video)):
                if not number:
                    writer.fps = frame.rate
                write_until(number - 1 - length)
                picture = frame.picture()
                held.append((number, picture, frame.seconds))
                yield picture

        for tracks in _extract(video, watched(), parameters, boxes):
            found.extend((end, points) for end, points, finest in tracks if finest)
            count += len(tracks)
        write_until(held[-1][0] if held else -1)
    return count


def draw_tracks(picture: RgbArray, tails: list[Tail]) -> Image.Image:
    """Draw tracks over a frame, which is enlarged if it is small.

    Args:
        picture: (H, W, 3).
        tails: The points of each track, pixels of the frame: drawn as a green line that brightens towards the last
            point, in red.
    """
    height, width = picture.shape[:2]
    scale = ceil(_WIDTH / width)
    frame = Image.fromarray((picture * _DIM).astype(np.uint8))
    image = frame.resize((width * scale, height * scale), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    places = [(tail + 0.5) * scale for tail in tails]
    for place in places:
        points = list(map(tuple, place.tolist()))
        for piece in range(0, len(points) - 1, _PIECE):
            colour = _COLOURS[min((len(points) - 2 - piece) // _PIECE, len(_COLOURS) - 1)]
            draw.line(points[piece : piece + _PIECE + 1], fill=colour)
    for x, y in (place[-1].tolist() for place in places):
        draw.rectangle((x - 1, y - 1, x + 1, y + 1), fill=_HEAD)
    return image


def _find_tails(
    video: Path, pictures: list[RgbArray], parameters: TrackParameters, boxes: Boxes, frame: int
) -> tuple[list[Tail], int]:
    """Tracks of the finest scale through a frame, cut there; and how many tracks of all scales pass through it."""
    tails, count = [], 0
    for tracks in _extract(video, pictures, parameters, boxes):
        for end, points, finest in tracks:
            at = frame - (end - parameters.length)
            if 0 <= at <= parameters.length:
                count += 1
                if finest:
                    tails.append(points[: at + 1])
    return tails, count


def _extract(
    video: Path, pictures: Iterable[RgbArray], parameters: TrackParameters, boxes: Boxes
) -> Iterator[list[tuple[int, Tail, bool]]]:
    """Yield the tracks that end in a frame: its number, points in pixels of the video, True for the finest scale."""
    try:
        for tracks in extract_tracks(pictures, parameters, boxes=boxes):
            assert tracks.points is not None
            points = (tracks.points + 0.5) / np.float32(parameters.scale) - 0.5
            finest = tracks.info[:, Tracks.INFO.index("scale")] == 1
            yield list(zip(tracks.info[:, 0].astype(int).tolist(), points, finest.tolist(), strict=True))
    except DataError as error:
        raise error if str(video) in str(error) else DataError(f"{video}: {error}") from error


def _draw_sheet(picture: RgbArray, title: str, sides: list[tuple[str, list[Tail]]]) -> Image.Image:
    """Draw pictures beside each other, each with its words above it."""
    images = [(words, draw_tracks(picture, tails)) for words, tails in sides]
    width, height = images[0][1].size
    line = _TEXT + _GAP // 2
    sheet = Image.new("RGB", (_GAP + len(images) * (width + _GAP), 2 * line + 3 * _GAP + height), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT)
    draw.text((_GAP, _GAP // 2), title, _INK, font)
    for k, (words, image) in enumerate(images):
        left = _GAP + k * (width + _GAP)
        draw.text((left, _GAP // 2 + line), words, _MUTED, font)
        sheet.paste(image, (left, 2 * line + 2 * _GAP))
    return sheet
