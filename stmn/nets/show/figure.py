"""A network as an SVG picture like the paper's Figures 2 and 3: one lane per stream, with the gates between."""

from dataclasses import dataclass
from xml.etree import ElementTree

from stmn.errors import count_of
from stmn.nets.network import Network
from stmn.nets.show.outline import StreamOutline, group_units, outline_network
from stmn.nets.two_stream import TwoStream

_UNIT, _GAP = 164, 26  # width of a unit, and of the space between units
_LANE, _TOP = 250, 120  # distance between lanes, and from the top to the first lane's main path
_LEFT = 150.0  # middle of conv1
_COLOURS = {
    "appearance": "#2563a8",
    "motion": "#1f7a4d",
    "gate": "#c0263a",
    "temporal": "#d97706",
    "line": "#4b5563",
    "text": "#111827",
    "muted": "#6b7280",
}
#: fusion -> its sign in the picture, and its text in the legend
_SIGNS = {"multiply": ".", "blended_multiply": ".", "add": "+"}
_GATES = {
    "multiply": "gate: element-wise product",
    "blended_multiply": "gate: element-wise product, blended in",
    "add": "gate: sum",
}


class _Canvas:
    """An SVG under construction; lengths are in pixels."""

    def __init__(self) -> None:
        self.root = ElementTree.Element("svg", xmlns="http://www.w3.org/2000/svg")
        self.root.set("font-family", "Helvetica, Arial, sans-serif")
        self.wires = ElementTree.SubElement(self.root, "g")  # drawn first, so that boxes and signs cover their ends
        self.shapes = ElementTree.SubElement(self.root, "g")

    def add(self, tag: str, text: str = "", **attributes: object) -> None:
        """Add an element; `stroke_width` becomes `stroke-width`."""
        element = ElementTree.SubElement(
            self.wires if tag == "polyline" else self.shapes,
            tag,
            {name.replace("_", "-"): str(value) for name, value in attributes.items()},
        )
        element.text = text or None

    def text(
        self, x: float, y: float, words: str, size: int = 12, colour: str = "text", anchor: str = "middle"
    ) -> None:
        """Write one line of text."""
        self.add("text", words, x=x, y=y, font_size=size, fill=_COLOURS[colour], text_anchor=anchor)

    def line(
        self, points: list[tuple[float, float]], colour: str = "line", arrow: bool = False, width: float = 1.4
    ) -> None:
        """Draw a line through points, optionally with an arrowhead at its end."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.add("polyline", points=path, fill="none", stroke=_COLOURS[colour], stroke_width=width)
        if arrow:
            (x0, y0), (x, y) = points[-2:]
            length = max(abs(x - x0) + abs(y - y0), 1e-9)
            dx, dy = (x - x0) / length * 6, (y - y0) / length * 6
            head = (
                f"{x:g},{y:g} {x - dx - dy * 0.6:g},{y - dy + dx * 0.6:g} {x - dx + dy * 0.6:g},{y - dy - dx * 0.6:g}"
            )
            self.add("polygon", points=head, fill=_COLOURS[colour])

    def box(
        self, x: float, y: float, width: float, height: float, words: str, colour: str, filled: bool = True
    ) -> None:
        """Draw a rounded box centred at (x, y)."""
        self.add(
            "rect", x=x - width / 2, y=y - height / 2, width=width, height=height, rx=4,
            fill=_COLOURS[colour] if filled else "#ffffff", stroke=_COLOURS[colour], stroke_width=1.2,
        )  # fmt: skip
        self.add(
            "text", words, x=x, y=y + 4, font_size=10, text_anchor="middle",
            fill="#ffffff" if filled else _COLOURS[colour],
        )  # fmt: skip

    def circle(self, x: float, y: float, sign: str, colour: str) -> None:
        """Draw an operation: `+` for a sum, `.` for a product, a letter for any other."""
        self.add("circle", cx=x, cy=y, r=8, fill="#ffffff", stroke=_COLOURS[colour], stroke_width=1.6)
        if sign == "+":
            self.add("path", d=f"M{x - 4.5:g} {y:g}h9M{x:g} {y - 4.5:g}v9", stroke=_COLOURS[colour], stroke_width=1.6)
        elif sign == ".":
            self.add("circle", cx=x, cy=y, r=2.2, fill=_COLOURS[colour])
        else:
            self.add("text", sign, x=x, y=y + 4, font_size=11, text_anchor="middle", fill=_COLOURS[colour])


@dataclass
class _Lane:
    """A stream's lane: `y` of its main path, and the side of its residual branches (1 below, -1 above)."""

    stream: StreamOutline
    y: float
    side: int

    @property
    def branch(self) -> float:
        """The y coordinate of the residual branches."""
        return self.y + self.side * 44


def draw_network(network: Network, title: str) -> str:
    """Draw a network and return the SVG text."""
    canvas = _Canvas()
    streams = outline_network(network)
    # residual branches face the other stream, so that the gates are between the lanes
    sides = (1, -1) if len(streams) == 2 else (1,)
    lanes = [_Lane(stream, _TOP + n * _LANE, side) for n, (stream, side) in enumerate(zip(streams, sides, strict=True))]
    x = _LEFT
    for lane in lanes:
        _draw_stem(canvas, lane, x)
    x += 110
    for part in range(4):
        x = _draw_part(canvas, network, lanes, part, x)
    _draw_heads(canvas, network, lanes, x)
    width, height = x + 330, lanes[-1].y + 150
    canvas.root.set("viewBox", f"0 0 {width:g} {height:g}")
    canvas.root.set("width", f"{width:g}")
    canvas.root.set("height", f"{height:g}")
    canvas.root.insert(0, ElementTree.Element("rect", width="100%", height="100%", fill="#ffffff"))
    canvas.text(24, 34, title, 17, anchor="start")
    _draw_legend(canvas, network, width, height)
    return ElementTree.tostring(canvas.root, encoding="unicode")


def _draw_stem(canvas: _Canvas, lane: _Lane, x: float) -> None:
    """Draw the input, conv1 and pool1, up to x + 110."""
    stream = lane.stream
    canvas.text(24, lane.y - 8, stream.name, 15, stream.name, "start")
    canvas.text(24, lane.y + 10, stream.arch, 12, "muted", "start")
    canvas.text(24, lane.y + 26, f"{stream.in_channels} channels", 12, "muted", "start")
    canvas.box(x, lane.y, 54, 34, "conv1", stream.name)
    canvas.text(x, lane.y - lane.side * 30 + 4, stream.stem, 10, "muted")
    canvas.box(x + 62, lane.y, 46, 34, "pool1", stream.name, filled=False)


def _draw_part(canvas: _Canvas, network: Network, lanes: list[_Lane], part: int, x: float) -> float:
    """Draw a part of all lanes, starting at `x`, and return where it ends."""
    end = x
    places: list[dict[int, float]] = []
    for lane in lanes:
        at, shown = x, {}
        for number, unit, count in group_units(lane.stream.parts[part].units):
            if unit is None:
                _draw_omission(canvas, lane, part, at, count)
                at += 84
            else:
                shown[number] = at
                _draw_unit(canvas, lane, part, number, at)
                at += _UNIT + _GAP
        if length := lane.stream.parts[part].skip_filter:
            canvas.box(at, lane.y, 28, 30, f"T{length}", "temporal")
            at += 28
        places.append(shown)
        end = max(end, at)
    for lane in lanes:
        described = lane.stream.parts[part]
        words = f"{described.name} · {count_of(len(described.units), 'unit')}, {described.channels} channels"
        canvas.text(x, lane.y - lane.side * 34 + (4 if lane.side > 0 else 8), words, 12, "muted", "start")
    if isinstance(network, TwoStream):
        for number in sorted(places[0].keys() & places[1].keys()):
            _draw_gates(canvas, network, lanes, part, number, [place[number] for place in places])
    return end + 8


def _draw_unit(canvas: _Canvas, lane: _Lane, part: int, number: int, x: float) -> None:
    """Draw the skip path, the residual branch, and their sum."""
    unit, name = lane.stream.parts[part].units[number - 1], lane.stream.name
    canvas.line(
        [(x, lane.y), (x, lane.branch), (x + _UNIT - 20, lane.branch), (x + _UNIT - 20, lane.y + lane.side * 8)],
        arrow=True,
    )
    if unit.projected:
        canvas.box(x + _UNIT / 2 - 8, lane.y, 30, 18, "1x1", name, filled=False)
    widths = [22 if layer.startswith("T") else 30 for layer in unit.layers]
    at = x + 22 + (_UNIT - 46 - sum(widths) - 4 * len(widths)) / 2
    for layer, width in zip(unit.layers, widths, strict=True):
        temporal = layer.startswith("T")
        canvas.box(at + width / 2, lane.branch, width, 30, layer, "temporal" if temporal else name)
        at += width + 4
    canvas.circle(x + _UNIT - 20, lane.y, "+", "line")


def _draw_omission(canvas: _Canvas, lane: _Lane, part: int, x: float, count: int) -> None:
    """Draw the sign for units left out: `33 more`."""
    middle = lane.stream.parts[part].units[2:-1]
    canvas.add("rect", x=x - 14, y=lane.y - 12, width=62, height=24, rx=12, fill="#ffffff", stroke=_COLOURS["muted"])
    canvas.text(x + 17, lane.y + 4, f"{count} more", 11, "muted")
    if any(unit.gated for unit in middle):
        canvas.text(x + 17, lane.y + lane.side * 28, "gated too", 10, "gate")


def _draw_gates(
    canvas: _Canvas, network: TwoStream, lanes: list[_Lane], part: int, number: int, places: list[float]
) -> None:
    """Draw the gates of a unit that both lanes show, from the other stream's main path to the operation."""
    sign = _SIGNS.get(network.gate.fusion, "f")
    for receiving, sending in ((0, 1), (1, 0)):
        lane, other = lanes[receiving], lanes[sending]
        if not lane.stream.parts[part].units[number - 1].gated:
            continue
        # side by side if both streams send; the unit may be further left in the sending lane
        on_branch = network.gate.site == "residual"
        left = min(places) - _GAP / 2 - (6 if receiving else 0)
        y = lane.y + lane.side * 24 if on_branch else lane.y
        at = places[receiving] if on_branch else left
        path = [(left, other.y), (left, y), (at - 8, y)] if on_branch else [(at, other.y), (at, y + lane.side * 8)]
        canvas.line(path, "gate", arrow=True, width=1.8)
        canvas.add("circle", cx=left, cy=other.y, r=2.6, fill=_COLOURS["gate"])
        canvas.circle(at, y, sign, "gate")


def _draw_heads(canvas: _Canvas, network: Network, lanes: list[_Lane], x: float) -> None:
    """Draw pooling over time and space, dropout, classifiers, and their combination."""
    temporal = network.config.temporal
    pool = {"none": "each chunk", "max": "max over T", "average": "mean over T"}[temporal.pool]
    if temporal.window:
        pool = f"{'max' if temporal.pool == 'max' else 'mean'} over {temporal.window}"
    classes = len(network.config.classes)
    for lane in lanes:
        # the main path, once from end to end; later shapes cover it
        canvas.line([(_LEFT - 35, lane.y), (x + 236, lane.y)], arrow=len(network.outputs) == len(lanes))
        canvas.box(x + 46, lane.y, 80, 34, pool, "temporal", filled=False)
        canvas.box(x + 122, lane.y, 56, 34, "average", lane.stream.name, filled=False)
        canvas.box(x + 186, lane.y, 56, 34, f"fc {classes}", lane.stream.name)
        if lane.stream.dropout:
            canvas.text(x + 186, lane.y - lane.side * 24 + 4, f"dropout {lane.stream.dropout:g}", 10, "muted")
    if len(network.outputs) == len(lanes):
        for lane in lanes:
            canvas.text(x + 242, lane.y + 4, "loss", 12, "text", "start")
        return
    middle = (lanes[0].y + lanes[1].y) / 2
    for lane in lanes:
        canvas.line([(x + 236, lane.y), (x + 236, middle - lane.side * 17)], arrow=True)
    canvas.box(x + 236, middle, 92, 34, "mean" if network.config.prediction == "averaged" else f"fc {classes}", "line")
    canvas.text(x + 290, middle + 4, "loss", 12, "text", "start")


def _draw_legend(canvas: _Canvas, network: Network, width: float, height: float) -> None:
    """Explain the signs that occur in the picture."""
    y, x = height - 26, 24.0
    entries = [("+", "line", "sum, then ReLU")]
    if isinstance(network, TwoStream) and network.tied:
        gate = network.gate
        words = _GATES.get(gate.fusion, f"gate: {gate.fusion}")
        taken = (
            ""
            if gate.site == "direct"
            else f" with the {gate.operand.replace('_', '-').replace('relu', 'ReLU')} signal"
        )
        entries.append((_SIGNS.get(gate.fusion, "f"), "gate", words + taken))
    for sign, colour, words in entries:
        canvas.circle(x + 8, y - 4, sign, colour)
        canvas.text(x + 24, y, words, 12, "muted", "start")
        x += 52 + 6.4 * len(words)
    temporal = network.config.temporal
    if temporal.injector != "none" or (temporal.motion_injector or "none") != "none":
        canvas.box(x + 12, y - 4, 24, 20, f"T{temporal.length}", "temporal")
        start = {"centre": "the identity", "average": "the mean"}[temporal.init]
        words = f"temporal filter over {count_of(temporal.length, 'chunk')}, starts as {start}"
        canvas.text(x + 32, y, words, 12, "muted", "start")
