"""Interlaced frames, two fields of different times each, as a player shows them: FFmpeg's bwdif fills in the lines."""

from collections.abc import Iterable, Iterator

import av
from av.filter import Graph


def deinterlace(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Yield as many frames, at the same times, none of them interlaced.

    Frames pass as they are until the first one that says that it is interlaced. From there on they come one frame
    later, because the filter looks at the next frame too.
    """
    graph: Graph | None = None
    layout: tuple[int, int, str] | None = None
    for frame in frames:
        found = (frame.width, frame.height, frame.format.name)
        if graph is not None and found != layout:  # a filter can't change its size
            yield from _finish(graph)
            graph = None
        if graph is None and frame.interlaced_frame and frame.time_base:
            graph, layout = _make_graph(frame), found
        if graph is None:
            yield frame
            continue
        graph.vpush(frame)
        yield from _pull(graph)
    if graph is not None:
        yield from _finish(graph)


def _make_graph(frame: av.VideoFrame) -> Graph:
    """A filter for frames of this size and format. It leaves frames alone that are not interlaced."""
    graph = Graph()
    graph.threads = 1  # videos run in parallel instead
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )  # fmt: skip
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph


def _pull(graph: Graph) -> Iterator[av.VideoFrame]:
    """The frames that are ready."""
    while True:
        try:
            yield graph.vpull()
        except (BlockingIOError, EOFError):
            return


def _finish(graph: Graph) -> Iterator[av.VideoFrame]:
    """The frame that the filter still holds."""
    graph.vpush(None)
    yield from _pull(graph)
