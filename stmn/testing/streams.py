"""The checks of injectors and backbones."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from stmn.errors import count_of
from stmn.nets.backbones import PARTS, Backbone, resnet18, resnet50
from stmn.nets.temporal import TemporalFilter
from stmn.nets.units import Activation, Unit
from stmn.testing.checklist import Checklist
from stmn.testing.modules import check_devices, check_precisions, export

_WIDTH = 0.125


class _Maps(nn.Module):
    """Computes the last maps of a backbone, as a stream does."""

    def __init__(self, backbone: Backbone, chunks: int) -> None:
        super().__init__()
        self.backbone, self.chunks = backbone, chunks

    def forward(self, x: Tensor) -> Tensor:
        """(videos * chunks, channels, H, W) to the last part's maps."""
        x = self.backbone.stem(x)
        at = Activation(x, x)
        for part, units in self.backbone.parts.items():
            for unit in units:
                pre = unit.join(unit.shortcut(at.out), unit.residual(at.out, self.chunks))
                at = Activation(pre, unit.activate(pre))
            if part in self.backbone.skip_temporal:
                out = self.backbone.skip_temporal[part](at.out, self.chunks)
                at = Activation(out, out)
        return at.out


class _OneFilter(nn.Module):
    """A temporal filter with a fixed number of chunks."""

    def __init__(self, temporal: nn.Module, chunks: int) -> None:
        super().__init__()
        self.temporal, self.chunks = temporal, chunks

    def forward(self, x: Tensor) -> Tensor:
        """The filter's output."""
        found: Tensor = self.temporal(x, self.chunks)
        return found


def check_injector(injector: Callable[..., None], **options: Any) -> None:
    """Check that an injector keeps its contract, and print what passed.

    It is tried on ResNets with basic and with bottleneck units. Checked are: with "centre" the stream's output stays
    bit-identical; each filter keeps the shape of its maps, for any number of chunks; videos don't affect each other;
    gradients reach all weights of the filters; precisions; devices; `torch.export`.

    Args:
        injector: the plugin.
        options: the plugin's options.

    Raises:
        PluginError: the contract is broken; the message says what its author must change.
    """
    checks = Checklist("injector", injector)
    checks.check_options(injector)
    must = "it must take (backbone, length, init), and everything else by keyword with a default"
    for factory in (resnet18, resnet50):
        torch.manual_seed(0)
        plain = _trained(factory(in_channels=3, width=_WIDTH))
        backbone = copy.deepcopy(plain)
        checks.build(must, injector, backbone, 3, "centre", **options)
        with checks.part("identity at the start", 'with init = "centre" a filter must return what it is given'):
            for chunks in (1, 3, 5):
                x = torch.randn(2 * chunks, 3, 32, 32, generator=torch.Generator().manual_seed(chunks))
                checks.require(
                    torch.equal(_Maps(plain, chunks)(x), _Maps(backbone, chunks)(x)),
                    f'with init = "centre" the output changes, {count_of(chunks, "chunk")} a video',
                    "initialise the filters so that they return what they are given, to the bit",
                )
    averaging = _trained(resnet18(in_channels=3, width=_WIDTH))
    checks.build(must, injector, averaging, 3, "average", **options)
    filters = _find_filters(averaging)
    maps = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with checks.part("determinism", "a filter must keep nothing between calls, and see one video at a time"):
        both, alone = _Maps(averaging, 3)(maps), _Maps(averaging, 3)(maps[:3])
        checks.require(torch.equal(_Maps(averaging, 3)(maps), both), "gave another output the second time",
                       "a filter must keep nothing between calls")  # fmt: skip
        checks.require(
            torch.allclose(both[:3], alone, atol=1e-5),
            "a video's output depends on the other videos of its batch",
            "x is (videos * chunks, C, H, W): divide it with torch.unflatten(x, 0, (-1, chunks))",
        )
    with checks.part("gradient", "use all weights of the filters, without detaching them"):
        weights = {name: w for temporal in filters for name, w in temporal.named_parameters()}
        every = [w for temporal in filters for w in temporal.parameters() if w.requires_grad]
        grads = torch.autograd.grad(_Maps(averaging, 3)(maps).square().sum(), every, allow_unused=True) if every else ()
        checks.require(
            all(grad is not None and bool(torch.isfinite(grad).all()) for grad in grads),
            f"no finite gradient reaches some of the weights {', '.join(weights)}",
            "use all weights of the filters, without detaching them",
        )
    for temporal, channels in _find_places(averaging):
        x = torch.randn(6, channels, 5, 7, generator=torch.Generator().manual_seed(0))
        one = _OneFilter(temporal, 3)
        with checks.part("shape", "a filter must return the shape that it is given"):
            checks.require(one(x).shape == x.shape, f"a filter gave {tuple(one(x).shape)} for {tuple(x.shape)}",
                           "a filter must return the shape that it is given")  # fmt: skip
        check_precisions(checks, one, [x])
        check_devices(checks, one, [x])
    if filters:
        places = _find_places(averaging)
        sizes = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
        shapes = [(6, places[-1][1], 5, 7), (6, places[-1][1], 4, 3)]
        export(checks, _OneFilter(places[-1][0], 3), [torch.randn(shapes[0])], (sizes,), [torch.randn(shapes[1])])
    checks.finish()


def check_backbone(backbone: Callable[..., Backbone], width: float = _WIDTH, **options: Any) -> None:
    """Check that a backbone keeps its contract, and print what passed.

    It is built narrower than usual, for RGB and for flow. Checked are: stem, parts and units have the channels that
    they declare; units don't change their input, keep the sum before the last activation on request, and take temporal
    filters; gradients reach all weights; precisions; devices; weights can be loaded into a second instance.

    Args:
        backbone: the plugin.
        width: factor on its channels; narrow backbones are checked faster.
        options: the plugin's options.

    Raises:
        PluginError: the contract is broken; the message says what its author must change.
    """
    checks = Checklist("backbone", backbone)
    checks.check_options(backbone)
    must = "it must take in_channels and width by keyword, and everything else with a default"
    torch.manual_seed(0)
    net = checks.build(must, backbone, in_channels=20, width=width, **options)
    for name in ("stem", "parts", "channels", "num_features", "skip_temporal", "stride", "layout"):
        checks.require(hasattr(net, name), f"what it builds has no {name}", "see stmn.plugins.Backbone")
    checks.require(isinstance(net, nn.Module), f"gave {type(net).__name__}", "it must give a torch.nn.Module")
    checks.require(tuple(net.parts) == PARTS, f"its parts are {tuple(net.parts)}", f"they must be {PARTS}")
    _trained(net)
    with checks.part("shape", "units must give the maps that their in_channels and out_channels say"):
        _check_units(checks, net)
    with checks.part("temporal filters", "residual must pass maps of `middle` channels through unit.temporal"):
        _check_filters(checks, net)
    video = torch.randn(2, 20, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = _Maps(net, 1)
    with checks.part("determinism", "in evaluation it must draw nothing and keep nothing"):
        checks.require(torch.equal(maps(video), maps(video)), "gave another output the second time",
                       "in evaluation it must draw nothing and keep nothing")  # fmt: skip
    with checks.part("gradient", "use all weights in stem and units, or remove them"):
        named = dict(net.named_parameters())
        grads = torch.autograd.grad(maps(video).square().sum(), list(named.values()), allow_unused=True)
        unused = [name for name, grad in zip(named, grads, strict=True) if grad is None or not grad.isfinite().all()]
        checks.require(not unused, f"no finite gradient reaches {', '.join(unused[:3])}", "use it, or remove it")
    check_precisions(checks, maps, [video])
    check_devices(checks, maps, [video])
    with checks.part("weights", "keep everything that decides the output in parameters and buffers"):
        second = backbone(in_channels=20, width=width, **options)
        second.load_state_dict(net.state_dict())
        checks.require(torch.equal(_Maps(second.eval(), 1)(video), maps(video)),
                       "a second one with its weights gives another output",
                       "keep everything that decides the output in parameters and buffers")  # fmt: skip
    rgb = checks.build(must, backbone, in_channels=3, width=width, **options)
    with checks.part("channels of the input", "read in_channels channels"):
        _Maps(rgb.eval(), 1)(video[:, :3])
    checks.finish()


def _trained(net: Any) -> Any:
    """A network in evaluation mode, with 0.1 in place of weights that are all 0, because zeros hide mistakes."""
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.fill_(0.1)
    return net.eval()


def _check_units(checks: Checklist, net: Any) -> None:
    """Check channels, shapes, and that units don't change their input."""
    x = net.stem(torch.randn(2, 20, 64, 64, generator=torch.Generator().manual_seed(0)))
    for part, units in net.parts.items():
        checks.require(bool(units), f"{part} has no units", "a part needs at least one; two to be gated")
        for number, unit in enumerate(units, 1):
            where = f"unit {number} of {part}"
            checks.require(
                x.shape[1] == unit.in_channels, f"{where} is given {x.shape[1]} channels and says {unit.in_channels}",
                "in_channels must be what the unit before it gives",
            )  # fmt: skip
            before = x.clone()
            shortcut, residual = unit.shortcut(x), unit.residual(x, 1)
            checks.require(torch.equal(x, before), f"{where} changes its input", "residual must not work in place on x")
            checks.require(
                shortcut.shape == residual.shape,
                f"{where}: shortcut gives {tuple(shortcut.shape)} and residual {tuple(residual.shape)}",
                "both must have one shape: they are added",
            )
            unit.keep_sum()
            pre = unit.join(shortcut, residual)
            kept = pre.clone()
            x = unit.activate(pre)
            checks.require(torch.equal(pre, kept), f"{where} overwrites the sum after keep_sum()",
                           "activate must give a new tensor then: a gate reads the sum")  # fmt: skip
            checks.require(x.shape[1] == unit.out_channels, f"{where} gives {x.shape[1]} channels",
                           f"its out_channels say {unit.out_channels}")  # fmt: skip
        checks.require(net.channels[part] == x.shape[1], f"channels['{part}'] is {net.channels[part]}",
                       f"it must be {x.shape[1]}, as its last unit gives")  # fmt: skip
    checks.require(net.num_features == x.shape[1], f"num_features is {net.num_features}", f"it must be {x.shape[1]}")
    checks.require(
        x.shape[-1] * net.stride == 64, f"stride is {net.stride}, and 64 pixels become {x.shape[-1]}",
        "the last maps must be smaller by stride",
    )  # fmt: skip


def _check_filters(checks: Checklist, net: Any) -> None:
    """Check that a filter at each unit is called with maps of `middle` channels, and at first changes nothing."""
    filtered = copy.deepcopy(net)
    x = torch.randn(6, 20, 64, 64, generator=torch.Generator().manual_seed(0))
    called: list[nn.Module] = []
    units: list[Unit] = [unit for part in filtered.parts.values() for unit in part]
    for unit in units:
        unit.temporal = TemporalFilter(unit.middle)
        unit.temporal.register_forward_hook(lambda module, given, output: called.append(module))
    same = torch.equal(_Maps(filtered.eval(), 3)(x), _Maps(net, 3)(x))
    checks.require(len(called) == len(units), f"{len(units) - len(called)} units don't call their temporal filter",
                   "residual must pass its maps through unit.temporal if that is not None")  # fmt: skip
    checks.require(same, "filters that start as the identity change the output", "call unit.temporal(x, chunks) once")


def _find_filters(backbone: Backbone) -> list[nn.Module]:
    """The temporal filters of a backbone."""
    return [temporal for temporal, _ in _find_places(backbone)]


def _find_places(backbone: Backbone) -> list[tuple[nn.Module, int]]:
    """The temporal filters, each with the channels of its maps."""
    units = [unit for part in backbone.parts.values() for unit in part]
    inside = [(unit.temporal, unit.middle) for unit in units if unit.temporal is not None]
    return inside + [(backbone.skip_temporal[part], backbone.channels[part]) for part in backbone.skip_temporal]
