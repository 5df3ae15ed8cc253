"""Improved dense trajectories in the plainest way: a track at a time, a patch at a time, in double precision."""

from math import atan2, hypot, pi, sqrt

import cv2
import numpy as np

LENGTH, PATCH, STILL, EPSILON = 15, 32, 0.4, 0.05


class Track:
    """One track: its points, its displacements, and per frame the four descriptors of its patch."""

    def __init__(self, x: float, y: float) -> None:
        self.points = [(np.float32(x), np.float32(y))]
        self.moves: list[tuple[float, float]] = []
        self.patches: list[list[np.ndarray]] = []


def plain_tracks(greys: list[np.ndarray], fields: list[np.ndarray], step: int) -> np.ndarray:
    """The rows of one scale of frames (H, W) uint8 with flow (2, H, W) that is free of camera motion."""
    height, width = greys[0].shape
    tracks: list[Track] = []
    rows = []
    for t, grey in enumerate(greys):
        if t:
            votes = [vote(*gradient(greys[t - 1].astype(float))), vote(*fields[t - 1], hof=True)]
            votes += [vote(*gradient(plane.astype(float))) for plane in fields[t - 1]]
            tracks = [track for track in tracks if follow(track, fields[t - 1], votes, width, height)]
            ended = [track for track in tracks if len(track.moves) == LENGTH]
            tracks = [track for track in tracks if len(track.moves) < LENGTH]
            rows += [row for track in ended if (row := describe(track, t, width, height, len(greys)))]
        strength = cv2.cornerMinEigenVal(grey, 3, ksize=3)
        taken = {(int(x) // step, int(y) // step) for x, y in (track.points[-1] for track in tracks)}
        for j in range(height // step):
            for i in range(width // step):
                x, y = i * step + step // 2, j * step + step // 2
                if (i, j) not in taken and strength[y, x] > 0.001 * strength.max():
                    tracks.append(Track(x, y))
    return np.array(rows)


def follow(track: Track, field: np.ndarray, votes: list[np.ndarray], width: int, height: int) -> bool:
    """Move a track by the flow at its rounded place and describe the patch around it; False if it left the frame."""
    x, y = track.points[-1]
    column, row = min(max(round(float(x)), 0), width - 1), min(max(round(float(y)), 0), height - 1)
    u, v = field[:, row, column]
    to_x, to_y = x + u, y + v
    if not (0 < to_x < width and 0 < to_y < height):
        return False
    left = min(max(column - PATCH // 2, 0), width - PATCH)
    top = min(max(row - PATCH // 2, 0), height - PATCH)
    half = PATCH // 2
    described = []
    for vote in votes:
        cells = [
            vote[top + b * half : top + (b + 1) * half, left + a * half : left + (a + 1) * half].sum(axis=(0, 1))
            for a in range(2) for b in range(2)
        ]  # fmt: skip
        numbers = np.concatenate(cells) + EPSILON
        described.append(np.sqrt(numbers / numbers.sum()))
    track.patches.append(described)
    track.moves.append((float(u), float(v)))
    track.points.append((to_x, to_y))
    return True


def gradient(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The differences of each pixel's neighbours; zero at the border."""
    x, y = np.zeros_like(plane), np.zeros_like(plane)
    x[:, 1:-1] = plane[:, 2:] - plane[:, :-2]
    y[1:-1] = plane[2:] - plane[:-2]
    return x, y


def vote(xs: np.ndarray, ys: np.ndarray, hof: bool = False) -> np.ndarray:
    """(H, W, 8 or 9), what each pixel gives to each bin."""
    votes = np.zeros((*xs.shape, 9 if hof else 8))
    for row, column in np.ndindex(xs.shape):
        x, y = float(xs[row, column]), float(ys[row, column])
        length = hypot(x, y)
        if hof and length <= STILL:
            votes[row, column, 8] = 1
            continue
        at = (atan2(y, x) / (2 * pi) % 1) * 8
        votes[row, column, int(at) % 8] += length * (1 - at % 1)
        votes[row, column, (int(at) + 1) % 8] += length * (at % 1)
    return votes


def describe(track: Track, frame: int, width: int, height: int, total: int) -> list[float] | None:
    """The row of a track that ended, or None if it says nothing."""
    points, moves = np.array(track.points, float), np.array(track.moves)
    deviation = points.std(axis=0)
    steps = [hypot(*step) for step in np.diff(points, axis=0)]
    lengths = [hypot(*move) for move in moves]
    if max(deviation) < sqrt(3) or max(deviation) > 50 or max(lengths) <= 1:
        return None
    if max(steps) > 20 and max(steps) > 0.7 * sum(steps):
        return None
    x, y = points.mean(axis=0)
    when = min(max((frame - LENGTH / 2) / total, 0), 0.999)
    row = [frame, x, y, *deviation, sum(steps), 1.0, x / width, y / height, when, *(moves / sum(lengths)).ravel()]
    for kind in range(4):
        spans = np.array([patch[kind] for patch in track.patches]).reshape(3, 5, -1)
        row += spans.mean(axis=1).ravel().tolist()
    return row
