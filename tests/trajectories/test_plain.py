"""Rows beside those of a second implementation, which is written for reading alone."""

import numpy as np
import pytest
from helpers.motions import pan

from stmn.idt.trajectories.extract import extract_tracks
from stmn.idt.trajectories.parameters import TrackParameters
from stmn.idt.trajectories.tracks import join_tracks

cv2 = pytest.importorskip("cv2")


def test_rows_are_those_of_the_plain_implementation():
    from helpers.plain_tracks import plain_tracks

    frames = pan(18, height=44, width=60)
    rng = np.random.default_rng(4)
    fields = []
    for _ in frames[1:]:  # flow that varies over the frame: some still, some fast
        noise = [cv2.GaussianBlur(rng.normal(size=(44, 60)), (0, 0), 6) for _ in range(2)]
        fields.append((np.stack(noise) * 20 + [[[1.2]], [[0.4]]]).astype(np.float32))
    parameters = TrackParameters(scales=1, step=6, flow="stored", camera=False)
    ours = join_tracks(list(extract_tracks(frames, parameters, fields=fields, total=18))).rows
    plain = plain_tracks([frame[..., 0] for frame in frames], fields, 6)
    assert ours.shape == plain.shape
    assert len(ours) > 30
    ours, plain = (rows[np.lexsort(rows[:, [2, 1, 0]].round(2).T)] for rows in (ours, plain))
    assert ours == pytest.approx(plain, abs=2e-4)
