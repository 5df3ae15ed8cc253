"""Starting weights: ImageNet weights of timm's hub that are on this machine, or a local state dict.

Training never touches the network; `stmn weights ARCH` fetches.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from stmn.errors import CheckpointError
from stmn.nets.backbones import Backbone, spread_over_planes

#: tags of the torchvision-trained ImageNet weights, pinned
PINNED = {f"resnet{depth}": f"timm/resnet{depth}.tv_in1k" for depth in (18, 34, 50, 101, 152)}
FILE = "model.safetensors"


def cached_weights(arch: str) -> Path | None:
    """The ImageNet weights of an architecture if they are on this machine."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_name(arch), FILE)
    return Path(found) if isinstance(found, str) else None


def fetch_weights(arch: str) -> Path:
    """Download the ImageNet weights of an architecture. Raises `CheckpointError` when that fails."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(hub_name(arch), FILE))
    except Exception as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"weights of {arch} ({hub_name(arch)}) can't be fetched: {cause}; "
            f"with a file at hand use --weights FILE.safetensors"
        ) from error


def hub_name(arch: str) -> str:
    """The hub's repository of an architecture's weights."""
    return PINNED.get(arch, f"timm/{arch}")


def resolve_weights(weights: str, arch: str) -> str:
    """What `auto` means on this machine: the ImageNet weights if they are here, else none.

    Raises `CheckpointError` when `imagenet` or a file is asked for and is not here.
    """
    if weights == "auto":
        return "imagenet" if cached_weights(arch) else "none"
    if weights == "imagenet" and cached_weights(arch) is None:
        raise CheckpointError(f"ImageNet weights of {arch} are not on this machine; get them with: stmn weights {arch}")
    if weights not in ("imagenet", "none") and not Path(weights).is_file():
        raise CheckpointError(f"{weights}: no such weights file (or write none, imagenet or auto)")
    return weights


def load_weights(backbone: Backbone, weights: str, arch: str) -> None:
    """Fill a backbone from resolved `weights`; conv1 is spread over the planes where their number differs."""
    if weights == "none":
        return
    path = cached_weights(arch) if weights == "imagenet" else Path(weights)
    if path is None:
        raise CheckpointError(f"ImageNet weights of {arch} are not on this machine; get them with: stmn weights {arch}")
    state = {k: v for k, v in read_state(path).items() if not k.startswith("fc.")}
    own = backbone.state_dict()
    first = next(iter(own))  # conv1, or the first of a deep stem
    if first in state and state[first].ndim == 4 and state[first].shape[1] != own[first].shape[1]:
        state[first] = spread_over_planes(state[first], own[first].shape[1])
    # old files of torchvision have no batch counters, and need none
    needed = [name for name in own if "temporal" not in name and not name.endswith("num_batches_tracked")]
    mistakes = [f"lacks {name}" for name in needed if name not in state]
    mistakes += [f"has {name}" for name in state if name not in own]
    mistakes += [f"{name} has another shape" for name in state if name in own and state[name].shape != own[name].shape]
    if mistakes:
        raise CheckpointError(f"{path}: not the weights of {arch}: {mistakes[0]}")
    backbone.load_state_dict(state, strict=False)


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict of timm or torchvision, `.safetensors` or `.pth`; nothing in the file is ever executed."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: not a readable state dict: {str(error).splitlines()[0]}") from error
    except Exception as error:  # pickle's own errors, when the file asks for code
        raise CheckpointError(f"{path}: holds more than weights and was not loaded") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: not a state dict")
    return state
