"""`stmn weights ARCH`: fetch ImageNet weights. The one command that uses the network."""

from typing import Annotated

import typer

from stmn.cli.guard import guarded

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def weights(
    arch: Annotated[list[str], typer.Argument(help="architectures: resnet50, resnet152, ...")],
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
) -> None:
    """Fetch ImageNet weights, to start streams from; training itself never uses the network."""
    with guarded(debug):
        from stmn.nets.backbones import check_arch
        from stmn.nets.weights.pretrained import fetch_weights

        for name in arch:
            check_arch(name)
            typer.echo(f"{name}: {fetch_weights(name)}")
