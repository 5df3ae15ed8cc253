"""RAFT keeps the contract of flows. Its own weights are not here, so no direction is checked."""

import pytest
import torch
from stmn_raft import raft
from torchvision.models.optical_flow import raft_small

from stmn.errors import DataError, UsageError
from stmn.testing import check_flow


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "raft_small.pth"
    torch.save(raft_small(weights=None, progress=False).state_dict(), path)
    return path


def test_contract_is_kept(weights):
    check_flow(raft, moves=False, weights=str(weights), model="small", updates=2)


def test_wrong_weights_are_named(weights):
    frames = torch.zeros(1, 32, 32)
    with pytest.raises(DataError, match="not torchvision's weights of raft_large"):
        raft(frames, frames, weights=str(weights))
    with pytest.raises(UsageError, match="no such file"):
        raft(frames, frames, weights="nowhere.pth")
