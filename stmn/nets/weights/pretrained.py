"""Starting weights: ImageNet weights from timm's hub that are already on this machine, or a local file.

A file is a state dict of timm or torchvision (`.safetensors`, `.pth`) or a MatConvNet ResNet (`.mat`). Only
`fetch_weights` downloads, for `stmn weights ARCH`. `docs/reference/weights.md` describes what is read and what is
converted.
"""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import get_pretrained_cfg
from torch import Tensor

from stmn.errors import CheckpointError, MissingWeights
from stmn.nets.backbones import Backbone, replicate_filters
from stmn.nets.config import ResNetLayout
from stmn.nets.weights.matconvnet import InputLevels, read_matconvnet
from stmn.nets.weights.pickles import load_pickle
from stmn.runtime.files import check_regular, names_path
from stmn.runtime.hub import is_hub_name
from stmn.runtime.tensor_files import format_shape

#: pinned tags: the ImageNet weights that torchvision trained
_PINNED = {f"resnet{depth}": f"timm/resnet{depth}.tv_in1k" for depth in (18, 34, 50, 101, 152)}
_FILE = "model.safetensors"
#: keys under which training scripts save the state dict
_WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state")
#: the start of tensor names in networks of this project
_OWN_NAME = re.compile(r"(module\.)?streams\.(appearance|motion)\.")
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def find_hub_name(arch: str) -> str:
    """Return the hub's name of an architecture's ImageNet weights, such as `timm/resnet50.tv_in1k`.

    The tag is the one in `arch`, else the pinned one, else timm's default.

    Raises:
        CheckpointError: timm has no such weights, or they expect inputs normalised differently.
    """
    if arch in _PINNED:
        return _PINNED[arch]
    try:
        pretrained = get_pretrained_cfg(arch)
    except RuntimeError as error:  # an unknown tag
        raise CheckpointError(f"{arch}: {error}") from error
    if pretrained is None or not pretrained.hf_hub_id:
        raise CheckpointError(f"timm has no ImageNet weights for {arch}; use --weights none or a file")
    if (tuple(pretrained.mean), tuple(pretrained.std)) != (_IMAGENET_MEAN, _IMAGENET_STD):
        raise CheckpointError(
            f"{pretrained.hf_hub_id} was trained on inputs not normalised as ImageNet's are; choose another tag"
        )
    return str(pretrained.hf_hub_id)


def _find_cached(arch: str) -> Path | None:
    """Return the file of an architecture's ImageNet weights, or None. Raises `CheckpointError` as `find_hub_name`."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(find_hub_name(arch), _FILE)
    return Path(found) if isinstance(found, str) else None


def fetch_weights(arch: str) -> Path:
    """Download an architecture's ImageNet weights and return their file.

    Raises:
        CheckpointError: there are no such weights, or the download failed.
    """
    from huggingface_hub import hf_hub_download

    name = find_hub_name(arch)
    try:
        return Path(hf_hub_download(name, _FILE))
    except Exception as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"can't download the weights of {arch} ({name}): {cause}; if you have a file, use --weights FILE"
        ) from error


def resolve_weights(weights: str, arch: str) -> str:
    """Replace `auto` by `imagenet` if those weights are on this machine, else by `none`.

    Args:
        weights: `auto`, `imagenet`, `none`, or the name of a file, of a run, or of a model on the hub.
        arch: a ResNet of timm.

    Returns:
        `imagenet`, `none`, or the name.

    Raises:
        CheckpointError: `weights` is `imagenet`, or a path, and isn't on this machine.
    """
    if weights == "auto":
        try:
            return "imagenet" if _find_cached(arch) else "none"
        except CheckpointError:  # there are no such weights
            return "none"
    if weights == "imagenet":
        _find_imagenet_file(arch)
    elif is_hub_name(weights):  # found later, like any model
        return weights
    elif weights != "none" and names_path(weights) and not Path(weights).exists():
        raise CheckpointError(f"{weights}: no such weights file; use an existing file, none, imagenet or auto")
    return weights


def _find_imagenet_file(arch: str) -> Path:
    """Return the file of an architecture's ImageNet weights. Raises `MissingWeights` if it isn't on this machine."""
    path = _find_cached(arch)
    if path is None:
        raise MissingWeights(arch)
    return path


def _is_matconvnet(weights: str) -> bool:
    """Say whether weights are a MatConvNet file."""
    return Path(weights).suffix.lower() == ".mat"


def choose_layout(weights: str) -> ResNetLayout:
    """Return the layout that a stream needs to start from resolved `weights`."""
    return "caffe" if _is_matconvnet(weights) else "torchvision"


def describe_weights(weights: str, arch: str) -> str:
    """Describe resolved `weights` in a few words for the log."""
    if weights == "none":
        try:
            find_hub_name(arch)
        except CheckpointError:
            return "random weights"
        return f"random weights (ImageNet weights: stmn weights {arch})"
    return f"the ImageNet weights {find_hub_name(arch)}" if weights == "imagenet" else weights


def load_weights(backbone: Backbone, weights: str, arch: str, levels: InputLevels | None = None) -> None:
    """Load resolved `weights` into a backbone. The file's classifier is left out: it has other classes.

    If the weights are for RGB and the backbone has other input channels, conv1 is averaged over the colours and
    repeated (section 3.1).

    Args:
        backbone: changed in place.
        weights: `imagenet`, `none` (nothing is loaded), or a file.
        arch: a ResNet of timm.
        levels: how the stream's input is computed from levels 0..255. MatConvNet's weights are converted to it; those
            of timm and torchvision need no conversion.

    Raises:
        CheckpointError: the weights can't be read or don't fit. The backbone is unchanged.
    """
    if weights == "none":
        return
    path = _find_imagenet_file(arch) if weights == "imagenet" else Path(weights)
    own = backbone.state_dict()
    first = next(iter(own))  # conv1, or the first of a deep stem
    in_channels = own[first].shape[1]
    if _is_matconvnet(weights):
        if levels is None or backbone.layout != "caffe":
            raise CheckpointError(f"{path}: MatConvNet weights need a stream with Caffe's layout and its input levels")
        state = read_matconvnet(path, in_channels, levels)
    else:
        read = read_state(path)
        if any(_OWN_NAME.match(name) for name in read):
            raise CheckpointError(
                f"{path}: the weights of a model of stmn, without what its file says of them, such as the videos that "
                f"they have learned from; name that file (model.safetensors), or its run"
            )
        read = _without_prefix(read, first)
        state = {name: value for name, value in read.items() if not name.startswith(("fc.", "head.fc."))}
        if first in state and state[first].ndim == 4 and state[first].shape[1] == 3 != in_channels:
            state[first] = replicate_filters(state[first], in_channels)
    fill_backbone(backbone, state, path, arch)


def fill_backbone(backbone: Backbone, state: dict[str, Tensor], path: Path, arch: str) -> None:
    """Load all tensors of a backbone, except those of temporal filters.

    Args:
        backbone: changed in place.
        state: tensors by timm's names.
        path: the file that they come from.
        arch: the backbone's name in messages.

    Raises:
        CheckpointError: a tensor is missing, unknown, of another shape or not finite. The backbone is unchanged.
    """
    own = backbone.state_dict()
    # old torchvision files have no batch counters, and these are not needed
    needed = [name for name in own if "temporal" not in name and not name.endswith("num_batches_tracked")]
    mistakes = [f"lacks {name}" for name in needed if name not in state]
    mistakes += [f"has {name}" for name in state if name not in own]
    mistakes += [
        f"{name} is {format_shape(state[name].shape)}, not {format_shape(own[name].shape)}"
        for name in state
        if name in own and state[name].shape != own[name].shape
    ]
    if mistakes:
        raise CheckpointError(f"{path}: not the weights of {arch}: {mistakes[0]}")
    broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise CheckpointError(f"{path}: damaged: {broken[0]} has NaN or infinite values")
    backbone.load_state_dict(state, strict=False)


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict from `.safetensors` or `.pth`, never executing anything in the file."""
    try:
        check_regular(path)
        state = load_file(path) if path.suffix == ".safetensors" else load_pickle(path)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: not a readable state dict: {why[:300]}") from error
    for _ in range(len(_WRAPPERS)):  # bounded, because a dict may contain itself
        inner = next((k for k in _WRAPPERS if isinstance(state, dict) and isinstance(state.get(k), dict)), None)
        state = state if inner is None else state[inner]
    if not isinstance(state, dict) or not state or not all(map(_is_named_tensor, state.items())):
        raise CheckpointError(f"{path}: not a state dict")
    return state


def _is_named_tensor(item: tuple[Any, Any]) -> bool:
    """True for a name with a plain tensor whose storage is at least as large as its shape says."""
    name, value = item
    if not isinstance(name, str) or not isinstance(value, Tensor) or value.is_complex():
        return False
    return value.layout == torch.strided and value.untyped_storage().nbytes() >= value.numel() * value.element_size()


def _without_prefix(state: dict[str, Tensor], first: str) -> dict[str, Tensor]:
    """Remove a prefix that all names share, such as `module.` after training by several processes."""
    while first not in state and len({name.partition(".")[0] for name in state}) == 1:
        state = {name.partition(".")[2]: value for name, value in state.items()}
    return state
