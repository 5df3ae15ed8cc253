"""Where chunks lie in a video (sections 4.1 and 4.2): RGB frame t with flow fields t - 5 ... t + 4."""

import numpy as np
import pytest

from stmn.sampling import positions
from stmn.sampling.positions import draw_positions, draw_segments, stack_times, valid_positions

L = 10
LENGTHS = [*range(1, 60), 100, 251, 1000]


def draws(frames: int, chunks: int, stride: tuple[int, int] = (5, 35), count: int = 200) -> list[list[int]]:
    return [draw_positions(frames, L, chunks, stride, np.random.default_rng(seed)) for seed in range(count)]


def test_chunk_at_t_has_fields_t_minus_5_to_t_plus_4():
    assert stack_times(20, frames=100, stack_length=L) == [15, 16, 17, 18, 19, 20, 21, 22, 23, 24]
    assert stack_times(20, frames=100, stack_length=1) == [20]
    assert stack_times(20, frames=100, stack_length=5) == [18, 19, 20, 21, 22]


@pytest.mark.parametrize("stack_length", [1, 2, 5, 10])
def test_valid_positions_have_their_whole_stack_in_the_video(stack_length):
    for frames in range(stack_length + 1, 60):
        fields = range(frames - 1)
        first, last = stack_length // 2, stack_length - stack_length // 2 - 1
        whole = [t for t in range(frames) if t - first in fields and t + last in fields]
        assert list(valid_positions(frames, stack_length)) == whole
        for t in whole:
            assert stack_times(t, frames, stack_length) == list(range(t - first, t + last + 1))


def test_video_of_11_frames_has_one_whole_chunk():
    assert list(valid_positions(11, L)) == [5]
    assert stack_times(5, 11, L) == list(range(10))  # 11 frames have 10 fields


@pytest.mark.parametrize("frames", range(1, 11))
def test_video_shorter_than_a_stack_repeats_its_end_fields(frames):
    assert list(valid_positions(frames, L)) == [frames // 2]
    assert positions.spread_positions(frames, L, 25) == [frames // 2]
    assert {tuple(times) for times in draws(frames, chunks=5)} == {(frames // 2,) * 5}
    times = stack_times(frames // 2, frames, L)
    assert len(times) == L
    assert set(times) == set(range(max(frames - 1, 1)))  # all fields of the video, and no other
    assert times == sorted(times)


@pytest.mark.parametrize("stride", [(5, 35), (1, 3), (7, 7)], ids=str)
def test_training_chunks_have_one_random_stride_in_bounds(stride):
    strides, starts = set(), set()
    for times in draws(frames=300, chunks=5, stride=stride):
        steps = set(np.diff(times).tolist())
        assert len(steps) == 1 and stride[0] <= min(steps) <= stride[1]
        assert times[0] in valid_positions(300, L) and times[-1] in valid_positions(300, L)
        strides |= steps
        starts.add(times[0])
    assert {stride[0], stride[1]} <= strides  # both bounds occur
    assert len(starts) > 50


def test_every_start_with_enough_room_can_be_drawn():
    valid = valid_positions(40, L)
    starts = {times[0] for times in draws(frames=40, chunks=2, stride=(5, 5), count=500)}
    assert starts == set(range(valid.start, valid.stop - 5))
    assert {times[0] for times in draws(40, chunks=1, count=500)} == set(valid)


@pytest.mark.parametrize("frames", [12, 15, 20, 31])
def test_video_too_short_for_the_stride_is_covered_evenly(frames):
    valid = valid_positions(frames, L)
    for times in draws(frames, chunks=5, stride=(20, 20), count=5):
        assert (times[0], times[-1], len(times)) == (valid[0], valid[-1], 5)
        assert np.ptp(np.diff(times)) <= 1


def test_training_chunks_of_any_video_have_all_their_fields():
    for frames in LENGTHS:
        for times in draws(frames, chunks=5, count=20):
            assert len(times) == 5
            assert set(times) <= set(valid_positions(frames, L))


@pytest.mark.parametrize("chunks", [2, 3, 25])
def test_test_chunks_are_distinct_and_evenly_spread(chunks):
    for frames in LENGTHS:
        valid = valid_positions(frames, L)
        times = positions.spread_positions(frames, L, chunks)
        assert len(times) == len(set(times)) == min(chunks, len(valid))
        assert set(times) <= set(valid)
        assert times == sorted(times)
        if len(times) > 1:
            assert (times[0], times[-1]) == (valid[0], valid[-1])
            assert np.ptp(np.diff(times)) <= 1


def test_single_test_chunk_is_the_middle_one():
    for frames in LENGTHS:
        valid = valid_positions(frames, L)
        (time,) = positions.spread_positions(frames, L, 1)
        assert abs((time - valid[0]) - (valid[-1] - time)) <= 1


@pytest.mark.parametrize("chunks", [1, 3, 5, 11])
@pytest.mark.parametrize("frames", [11, 14, 21, 40, 41, 300])
def test_segments_have_one_chunk_each_in_order_of_time(frames, chunks):
    """As in temporal segment networks: all times of a segment are drawn, and none of another one."""
    valid = list(valid_positions(frames, L))
    middles = draw_segments(frames, L, chunks, None)
    drawn = [draw_segments(frames, L, chunks, np.random.default_rng(seed)) for seed in range(400)]
    assert all(times == sorted(times) and len(times) == chunks for times in [middles, *drawn])
    if len(valid) < chunks:  # too short: every time of the video, the same in each draw
        assert all(times == middles for times in drawn) and set(middles) == set(valid)
        return
    segments = [[t for i, t in enumerate(valid) if (i + 1) * chunks > k * len(valid) and i * chunks < (k + 1) * len(valid)]
                for k in range(chunks)]  # fmt: skip
    for k, segment in enumerate(segments):
        seen = {times[k] for times in drawn}
        assert seen <= set(segment)
        assert abs(middles[k] - (segment[0] + segment[-1]) / 2) <= 1
    if len(valid) % chunks == 0:
        assert all(
            {times[k] for times in drawn} == set(segment) for k, segment in enumerate(segments) if len(segment) < 50
        )


@pytest.mark.parametrize("frames", range(1, 11))
def test_segments_of_a_video_shorter_than_a_stack_are_its_middle(frames):
    assert draw_segments(frames, L, 11, np.random.default_rng(0)) == [frames // 2] * 11
