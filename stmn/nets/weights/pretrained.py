"""Starting weights: ImageNet weights of timm's hub that are on this machine, or a local file.

A file is a state dict of timm or torchvision (`.safetensors`, `.pth`) or a ResNet of MatConvNet (`.mat`). Training
never touches the network; `stmn weights ARCH` fetches. `docs/reference/weights.md` says what is read and what is
converted.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import get_pretrained_cfg
from torch import Tensor

from stmn.errors import CheckpointError
from stmn.nets.backbones import Backbone, replicate_filters
from stmn.nets.config import ResNetLayout
from stmn.nets.weights.matconvnet import InputLevels, read_matconvnet

#: tags of the torchvision-trained ImageNet weights, pinned
PINNED = {f"resnet{depth}": f"timm/resnet{depth}.tv_in1k" for depth in (18, 34, 50, 101, 152)}
FILE = "model.safetensors"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def hub_name(arch: str) -> str:
    """The hub's repository of an architecture's weights, with its tag: the pinned one, or timm's own for the name.

    Raises `CheckpointError` when timm knows of none, or only of weights for inputs of another normalisation.
    """
    if arch in PINNED:
        return PINNED[arch]
    try:
        about = get_pretrained_cfg(arch)
    except RuntimeError as error:  # an unknown tag
        raise CheckpointError(f"{arch}: {error}") from error
    if about is None or not about.hf_hub_id:
        raise CheckpointError(f"timm has no ImageNet weights of {arch}: use --weights none, or a file")
    if (tuple(about.mean), tuple(about.std)) != (IMAGENET_MEAN, IMAGENET_STD):
        raise CheckpointError(
            f"{about.hf_hub_id} was trained on inputs of another normalisation than ImageNet's: name another tag"
        )
    return str(about.hf_hub_id)


def cached_weights(arch: str) -> Path | None:
    """The ImageNet weights of an architecture if they are on this machine. Raises what `hub_name` raises."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_name(arch), FILE)
    return Path(found) if isinstance(found, str) else None


def fetch_weights(arch: str) -> Path:
    """Download the ImageNet weights of an architecture. Raises `CheckpointError` when that fails."""
    from huggingface_hub import hf_hub_download

    name = hub_name(arch)
    try:
        return Path(hf_hub_download(name, FILE))
    except Exception as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"weights of {arch} ({name}) can't be fetched: {cause}; with a file at hand use --weights FILE"
        ) from error


def resolve_weights(weights: str, arch: str) -> str:
    """What `auto` means on this machine: the ImageNet weights if they are here, else none.

    Raises `CheckpointError` when `imagenet` or a file is asked for and is not here.
    """
    if weights == "auto":
        try:
            return "imagenet" if cached_weights(arch) else "none"
        except CheckpointError:  # there are none to be had
            return "none"
    if weights == "imagenet":
        imagenet_file(arch)
    elif weights != "none" and not Path(weights).is_file():
        raise CheckpointError(f"{weights}: no such weights file (or write none, imagenet or auto)")
    return weights


def imagenet_file(arch: str) -> Path:
    """The file of the ImageNet weights. Raises `CheckpointError` when it is not on this machine."""
    path = cached_weights(arch)
    if path is None:
        raise CheckpointError(f"ImageNet weights of {arch} are not on this machine; get them with: stmn weights {arch}")
    return path


def is_matconvnet(weights: str) -> bool:
    """True for a MatConvNet file."""
    return Path(weights).suffix.lower() == ".mat"


def layout_of(weights: str) -> ResNetLayout:
    """The layout that a stream needs to start from resolved `weights`."""
    return "caffe" if is_matconvnet(weights) else "torchvision"


def describe_weights(weights: str, arch: str) -> str:
    """What a person is told of resolved `weights`."""
    if weights == "none":
        return f"random weights (ImageNet weights: stmn weights {arch})"
    return f"the ImageNet weights {hub_name(arch)}" if weights == "imagenet" else weights


def load_weights(backbone: Backbone, weights: str, arch: str, levels: InputLevels | None = None) -> None:
    """Fill a backbone from resolved `weights`; its classifier, which knows other classes, is left out.

    conv1 of RGB weights is averaged over its channels and repeated where the backbone has others. `levels` says how the
    stream's inputs are made of levels 0..255: weights of MatConvNet are converted to them, those of timm and
    torchvision fit as they are. Raises `CheckpointError`, and leaves the backbone as it is, when anything is wrong.
    """
    if weights == "none":
        return
    path = imagenet_file(arch) if weights == "imagenet" else Path(weights)
    own = backbone.state_dict()
    first = next(iter(own))  # conv1, or the first of a deep stem
    in_channels = own[first].shape[1]
    if is_matconvnet(weights):
        if levels is None or backbone.layout != "caffe":
            raise CheckpointError(f"{path}: weights of MatConvNet need a stream of Caffe's layout and its input levels")
        state = read_matconvnet(path, in_channels, levels)
    else:
        state = {name: value for name, value in read_state(path).items() if not name.startswith("fc.")}
        if first in state and state[first].ndim == 4 and state[first].shape[1] == 3 != in_channels:
            state[first] = replicate_filters(state[first], in_channels)
    # old files of torchvision have no batch counters, and need none
    needed = [name for name in own if "temporal" not in name and not name.endswith("num_batches_tracked")]
    mistakes = [f"lacks {name}" for name in needed if name not in state]
    mistakes += [f"has {name}" for name in state if name not in own]
    mistakes += [
        f"{name} is {shape_of(state[name])}, not {shape_of(own[name])}"
        for name in state
        if name in own and state[name].shape != own[name].shape
    ]
    if mistakes:
        raise CheckpointError(f"{path}: not the weights of {arch}: {mistakes[0]}")
    broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise CheckpointError(f"{path}: damaged: {broken[0]} has values that are no numbers (NaN or infinite)")
    backbone.load_state_dict(state, strict=False)


def shape_of(value: Tensor) -> str:
    """`64 x 3 x 7 x 7`."""
    return " x ".join(map(str, value.shape)) or "one number"


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict of timm or torchvision, `.safetensors` or `.pth`; nothing in the file is ever executed."""
    try:
        state = load_file(path) if path.suffix == ".safetensors" else load_pickle(path)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: not a readable state dict: {str(error).splitlines()[0]}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: not a state dict")
    return state


def load_pickle(path: Path) -> Any:
    """What `torch.save` wrote, if it is plain tensors. Raises `CheckpointError` for code and for other files."""
    with open(path, "rb") as file:
        start = file.read(4)
    if start != b"PK\x03\x04" and start[:1] != b"\x80":  # a zip, or the pickle of old versions
        raise CheckpointError(f"{path}: no weights file: .safetensors, .pth (written by torch) and .mat are read")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError):
        raise
    except Exception as error:  # pickle's own errors, when the file asks for code
        raise CheckpointError(f"{path}: holds more than weights and was not loaded") from error
