"""Where each stream finds evidence for a class: Grad-CAM (Selvaraju et al., ICCV 2017)."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from stmn.errors import UsageError, near_match
from stmn.nets.backbones import PARTS
from stmn.nets.network import FUSED
from stmn.nets.units import Activation
from stmn.prediction.classifier import Classifier
from stmn.prediction.frame_maps import MapPart, choose_part, frame_inputs, map_frames
from stmn.prediction.windows import TimedFrame
from stmn.runtime.precision import exact_float32


class ClassMap:
    """Grad-CAM maps of a class at the end of a part of each stream.

    Each frame is processed as a single chunk, so temporal filters see no neighbours.

    Args:
        model: The model to explain.
        class_name: One of its classes.
        part: The part of the ResNet; by default the deepest one whose maps have enough positions: conv5 for frames of
            256 pixels.

    Attributes:
        streams: The streams that have a map: those whose logits the model uses.

    Raises:
        UsageError: The model has no such class, or is an exported file.
    """

    def __init__(self, model: Classifier, class_name: str, part: MapPart | None = None) -> None:
        model.check_inside("--explain")
        if class_name not in model.classes:
            known = ", ".join(model.classes[:6]) + (", ..." if len(model.classes) > 6 else "")
            raise UsageError(
                f"--explain {class_name}: the model has no such class{near_match(class_name, model.classes)}; it has: "
                f"{known}"
            )
        self.model, self.class_name, self.part = model, class_name, choose_part(model, part)
        self.streams = [name for name in model.network.names if model.stream in (None, FUSED, name)]

    def legend(self, stream: str) -> tuple[str, str]:
        """Two lines that explain the map of a stream."""
        return f"what {stream} has at {self.part} that speaks", f"for {self.class_name} (Grad-CAM)"

    def add_maps(self, frames: Iterable[TimedFrame]) -> Iterator[TimedFrame]:
        """Yield the same frames with their maps, a few frames late, because a flow stack reaches ahead."""
        for frame, found in map_frames(frames, self.model.stack_length, self.compute_maps):
            yield replace(frame, class_maps=found)

    @torch.no_grad()
    def compute_maps(self, context: list[TimedFrame], which: range) -> Tensor:
        """(n, streams, h, w) maps of the frames `which` of `context`, which supplies the flow around them.

        A map is ReLU(sum over k of alpha_k A_k), eq. (2). alpha_k, eq. (1), is the mean over positions of the gradient
        of the class's logit, averaged over the outputs in use, with respect to the features A_k.
        """
        network, device = self.model.network, self.model.device
        inputs = frame_inputs(self.model, context, which)
        at = PARTS.index(self.part) + 1
        with exact_float32(), device.autocast():
            before = network.run_parts(network.run_stems(*inputs), PARTS[:at], 1)
            features = [x.out.detach().clone().requires_grad_() for x in before]
            with torch.enable_grad():
                # the next unit may read the sum before the ReLU; the gradient is with respect to the maps after it
                x = [
                    Activation(x if one.pre is one.out else one.pre, x) for x, one in zip(features, before, strict=True)
                ]
                last = network.run_parts(x, PARTS[at:], 1)
                outputs = dict(zip(network.outputs, network.classify([y.out for y in last], 1), strict=True))
                used = [rows for name, rows in outputs.items() if self.model.stream in (None, name)]
                logits = torch.stack([rows.float().mean(dim=1) for rows in used]).mean(dim=0)
                score = logits[:, self.model.classes.index(self.class_name)].sum()  # videos are independent
                gradients = torch.autograd.grad(score, features, allow_unused=True)
        maps = [
            (g.float().mean(dim=(2, 3), keepdim=True) * a.float()).sum(dim=1).relu()
            if g is not None
            else torch.zeros_like(a[:, 0], dtype=torch.float32)
            for g, a in zip(gradients, features, strict=True)
        ]
        named = dict(zip(network.names, maps, strict=True))
        return torch.stack([named[name] for name in self.streams], dim=1).detach().cpu()
