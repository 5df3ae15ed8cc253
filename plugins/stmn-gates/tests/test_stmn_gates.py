"""The four fusions keep their contract, and compute what their equations say."""

import pytest
import torch
from stmn_gates import AffineGate, BilinearGate, ScaledMultiply, SigmoidGate

from stmn.testing import check_fusion


@pytest.mark.parametrize("fusion", [AffineGate, BilinearGate, ScaledMultiply, SigmoidGate])
def test_contract_is_kept(fusion):
    check_fusion(fusion)


def test_options_keep_the_contract_too():
    check_fusion(AffineGate, pooled=True)
    check_fusion(BilinearGate, rank=3)


def test_scaled_multiply_is_what_its_equation_says():
    receiving, sending = torch.tensor([-2.0, 3.0]).view(1, 2, 1, 1), torch.tensor([4.0, 5.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(ScaledMultiply(2, start=0.5)(receiving, sending).flatten(), torch.tensor([-6.0, 10.5]))
