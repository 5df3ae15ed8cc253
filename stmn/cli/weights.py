"""`stmn weights ARCH`: download ImageNet weights."""

from typing import Annotated

import typer

from stmn.cli.app import command, make_app
from stmn.cli.console import answer

app = make_app()


@command(app, examples=("stmn weights resnet50 resnet152",))
def weights(
    arch: Annotated[list[str], typer.Argument(metavar="ARCH...", help="ResNets of timm: resnet50, resnet152, ...")],
) -> None:
    """Download ImageNet weights to start streams from. Training downloads only what hf:// names."""
    from stmn.nets.backbones import check_arch
    from stmn.nets.weights.pretrained import fetch_weights

    for name in arch:
        check_arch(name)
        answer(f"{name}: {fetch_weights(name)}")
