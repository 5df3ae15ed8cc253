"""The backbones keep their contract, and compute what timm's ConvNeXts compute."""

import timm
import torch
from stmn_convnext import ConvNeXtBackbone, convnext_atto, convnext_tiny

from stmn.testing import check_backbone


def test_contract_is_kept():
    check_backbone(convnext_atto, width=0.2)
    check_backbone(convnext_tiny, width=0.1, drop_path=0.2)


def test_maps_are_those_of_timm():
    torch.manual_seed(0)
    net = timm.create_model("convnext_atto", num_classes=0).eval()
    video = torch.rand(2, 3, 64, 64)
    own = ConvNeXtBackbone(net)
    with torch.no_grad():
        x = own.stem(video)
        for units in own.parts.values():
            for unit in units:
                x = unit.activate(unit.join(unit.shortcut(x), unit.residual(x, 1)))
        torch.testing.assert_close(x, net.head.norm(net.forward_features(video)))
    assert set(own.state_dict()) == set(net.state_dict())
