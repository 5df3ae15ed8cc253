"""Deinterlace frames as a player does: FFmpeg's bwdif replaces one of the two fields, which differ in time."""

from collections.abc import Iterable, Iterator

import av
from av.filter import Graph


def deinterlace(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Yield the same number of frames at the same times, none of them interlaced.

    Frames pass unchanged until the first that is marked as interlaced. From there on they are delayed by one frame,
    because the filter also needs the next frame.
    """
    graph: Graph | None = None
    layout: tuple[int, int, str] | None = None
    for frame in frames:
        found = (frame.width, frame.height, frame.format.name)
        if graph is not None and found != layout:  # a filter's size is fixed
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
    """Make a filter for frames of this size and format. It doesn't change frames that are not interlaced."""
    graph = Graph()
    graph.threads = 1  # videos are processed in parallel instead
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )  # fmt: skip
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph


def _pull(graph: Graph) -> Iterator[av.VideoFrame]:
    """Yield the frames that are ready."""
    while True:
        try:
            yield graph.vpull()
        except (BlockingIOError, EOFError):
            return


def _finish(graph: Graph) -> Iterator[av.VideoFrame]:
    """Yield the frame that the filter still holds."""
    graph.vpush(None)
    yield from _pull(graph)
