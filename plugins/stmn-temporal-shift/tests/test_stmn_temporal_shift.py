"""The injector keeps its contract, and shifts as it says."""

import torch
from stmn_temporal_shift import TemporalShift, temporal_shift

from stmn.testing import check_injector


def test_contract_is_kept():
    check_injector(temporal_shift)
    check_injector(temporal_shift, fold=2, every_unit=False)


def test_channels_move_both_ways_by_one_chunk():
    x = torch.arange(1.0, 13).view(3, 4, 1, 1)  # three chunks of one video, four channels
    moved = TemporalShift(4, distance=1, fold=4, start=1.0)(x, 3)[..., 0, 0]
    assert moved[:, 0].tolist() == [0, 1, 5]  # later
    assert moved[:, 1].tolist() == [6, 10, 0]  # earlier
    assert moved[:, 2:].tolist() == x[:, 2:, 0, 0].tolist()
