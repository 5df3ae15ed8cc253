"""`stmn predict MODEL VIDEO...`: the classes of video files."""

import json
from pathlib import Path
from typing import Annotated

import typer

from stmn.cli.guard import guarded

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(epilog="Example:  stmn predict runs/fused-multiply-1a2b3c4d/model.safetensors clip.mp4 --json")
def predict(
    model: Annotated[Path, typer.Argument(help="a model file that stmn wrote")],
    videos: Annotated[list[Path], typer.Argument(help="video files, or folders of them")],
    top: Annotated[int, typer.Option(help="classes to show", min=1)] = 5,
    frames: Annotated[int, typer.Option(help="chunks of a video, spread evenly", min=1)] = 25,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line and video")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
) -> None:
    """Decode, compute flow, classify. Nothing but the model file is needed."""
    with guarded(debug):
        from stmn.errors import DataError
        from stmn.evaluation.predict import find_videos, load

        files = list(find_videos(videos))
        classifier = load(model, device)
        failed = 0
        for path in files:
            try:
                predictions = classifier.predict(path, frames)[:top]
            except DataError as error:
                failed += 1
                typer.secho(f"error: {error}", fg="red", err=True)
                continue
            if as_json:
                scores = {p.class_name: round(p.score, 6) for p in predictions}
                typer.echo(json.dumps({"video": str(path), "scores": scores}, ensure_ascii=False))
            else:
                typer.echo(f"{path}: " + ", ".join(f"{p.class_name} {100 * p.score:.1f} %" for p in predictions))
        if failed:
            raise typer.Exit(1)
