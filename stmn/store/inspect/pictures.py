"""Pictures of a prepared set for a browser: frames as JPEG, flow in colours as PNG."""

from io import BytesIO
from threading import Lock

from PIL import Image

from stmn.errors import DataError, count_of
from stmn.flow.colour import paint_flow
from stmn.flow.quantise import dequantise_for_display
from stmn.store.format.read import Store

#: speed that is shown in full colour, as a fraction of the set's bound
_FULL = 0.5


class Pictures:
    """The pictures of a set. Several threads may use it at once.

    Args:
        store: the prepared set, open.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, Lock()

    def frame(self, video_id: str, time: int) -> bytes:
        """Return a frame as JPEG.

        Raises:
            DataError: the set has no such video, or the video no such frame.
        """
        self._check(video_id, "frame", time, 0)
        with self._lock:
            [picture] = self._store.frames(video_id, [time])
        file = BytesIO()
        Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(file, "JPEG", quality=90)
        return file.getvalue()

    def flow(self, video_id: str, time: int) -> bytes:
        """Return the flow from a frame to the next one, in colours, as PNG. All fields of a set have one scale.

        Raises:
            DataError: the set has no such video, or the video no such field.
        """
        self._check(video_id, "flow field", time, 1)
        bound = self._store.header.preparation.bound
        with self._lock:
            field = dequantise_for_display(self._store.fields(video_id, [time]), bound)
        [picture] = paint_flow(field, _FULL * bound)
        file = BytesIO()
        Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(file, "PNG")
        return file.getvalue()

    def _check(self, video_id: str, what: str, time: int, less: int) -> None:
        """Raise `DataError` if a video has no picture at this time."""
        count = self._store.video(video_id).frames - less
        if not 0 <= time < count:
            raise DataError(f"video '{video_id}' has no {what} {time}; it has {count_of(max(count, 0), what)}")
