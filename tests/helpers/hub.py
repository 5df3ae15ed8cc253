"""A stand-in for the cache of timm's hub."""

from pathlib import Path

import pytest

#: what the file is called in the cache's folder of a snapshot
FILE = "model.safetensors"


def use_cache(monkeypatch: pytest.MonkeyPatch, folder: Path, *archs: str) -> Path:
    """Make `folder` the cache, with an empty file in the place of each architecture's ImageNet weights."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for arch in archs:
        model = folder / f"models--timm--{arch}.tv_in1k"
        (model / "refs").mkdir(parents=True)
        (model / "refs" / "main").write_text("0" * 40)
        (model / "snapshots" / ("0" * 40)).mkdir(parents=True)
        (model / "snapshots" / ("0" * 40) / FILE).touch()
    return folder
