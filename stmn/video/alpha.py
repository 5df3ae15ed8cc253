"""The alpha channel of VP8 and VP9 in WebM: FFmpeg's own decoders ignore it, libvpx's don't."""

import av
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from stmn.video.limits import MAX_PIXELS

#: FFmpeg's name of a codec -> the decoder that supports its alpha
_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def has_hidden_alpha(stream: VideoStream) -> bool:
    """True if a video has an alpha channel that its stream's decoder ignores."""
    return stream.codec_context.name in _DECODERS and stream.metadata.get("alpha_mode") == "1"


def open_alpha_decoder(stream: VideoStream) -> VideoCodecContext | None:
    """Return a decoder for a video with hidden alpha; None if this FFmpeg has none."""
    try:
        decoder = av.CodecContext.create(_DECODERS[stream.codec_context.name], "r")
    except (ValueError, KeyError):
        return None
    assert isinstance(decoder, VideoCodecContext)
    decoder.extradata = stream.codec_context.extradata
    decoder.thread_count = 1
    decoder.options = {"max_pixels": str(MAX_PIXELS)}
    return decoder
