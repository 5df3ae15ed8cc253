"""Convert colours of other spaces to BT.709, the space of prepared sets and models.

Sources: ITU-R BT.2100-2, tables 4 and 5 (PQ and HLG); BT.2390-10, section 5.4.1 (tone mapping); BT.2408-7 (203 cd/m2
for reference white); BT.1886 (the display of BT.709); BT.2087-0 (from BT.2020 to BT.709).
"""

from functools import cache
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorTrc
from numpy.typing import NDArray

Floats = NDArray[np.float32]

#: cd/m2 of reference white, which becomes 255
_WHITE = 203.0
#: cd/m2 of the brightest point of an HDR video: HLG is defined for it, and most PQ is mastered at it
_PEAK = 1000.0
#: exponent of BT.709's display
_GAMMA = 2.4
#: entries of the tone mapping table
_STEPS = 4096

#: FFmpeg's name of the primaries -> chromaticities (x, y) of red, green, blue; the white point is D65
_CHROMATICITIES: dict[int, tuple[tuple[float, float], ...]] = {
    ColorPrimaries.BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    ColorPrimaries.BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    ColorPrimaries.SMPTE432: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_D65 = (0.3127, 0.3290)
#: transfer functions of HDR: PQ and HLG
_HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
#: FFmpeg's numbers of colour matrices: not stated, BT.601, BT.709, BT.2020, and BT.2020 with constant luminance
_UNKNOWN, _BT601, _BT709, _BT2020, _BT2020_CONSTANT = 2, 6, 1, 9, 10
#: matrices that FFmpeg can invert: RGB, BT.709, FCC, BT.601 (two), SMPTE 240M, BT.2020
_KNOWN = frozenset({0, 1, 4, 5, 6, 7, 9})
#: if the matrix is not stated, larger pictures get that of BT.709, others that of BT.601, as in players
_SD_WIDTH, _SD_HEIGHT = 1279, 576


def has_wide_colours(frame: av.VideoFrame) -> bool:
    """True if a frame's colours are not those of BT.709: HDR (PQ or HLG), BT.2020, or Display P3."""
    return frame.color_trc in _HDR or frame.color_primaries in (ColorPrimaries.BT2020, ColorPrimaries.SMPTE432)


def name_matrix(frame: av.VideoFrame) -> None:
    """Set a frame's colour matrix to the one that players assume, if its header states none that FFmpeg can invert."""
    if frame.colorspace not in _KNOWN:
        large = frame.width > _SD_WIDTH or frame.height > _SD_HEIGHT
        wide = frame.color_trc in _HDR or frame.colorspace == _BT2020_CONSTANT
        frame.colorspace = _BT2020 if wide else _BT709 if large else _BT601


def describe_colours(frame: av.VideoFrame) -> str:
    """Describe colours that can only be guessed; "" for others."""
    if frame.colorspace in _KNOWN | {_UNKNOWN}:
        return ""
    return f"its colour matrix (number {frame.colorspace} of ITU-T H.273) can't be undone: its colours are a guess"


def convert_to_bt709(picture: NDArray[np.uint16], transfer: int, primaries: int) -> NDArray[np.uint8]:
    """Convert a picture with wider or brighter colours to what a BT.709 display shows of it.

    Args:
        picture: (H, W, 3) RGB, 0..65535, of any transfer function and primaries.
        transfer: FFmpeg's number of the transfer function (`ColorTrc`).
        primaries: FFmpeg's number of the primaries (`ColorPrimaries`).

    Returns:
        (H, W, 3) RGB.
    """
    light = _light_of_codes(transfer)[picture]
    if transfer in _HDR and primaries not in _CHROMATICITIES:
        primaries = ColorPrimaries.BT2020
    if transfer == ColorTrc.ARIB_STD_B67:  # the system gamma of 1.2, BT.2100 table 5: F = L E Y^(1.2 - 1)
        light *= (light @ _luminance(primaries))[..., None] ** np.float32(0.2)
    if transfer in _HDR:
        light = _tone_map()[(np.sqrt(np.sqrt(np.minimum(light, 1))) * (_STEPS - 1) + 0.5).astype(np.int32)]
    light = np.clip(light @ _to_bt709(primaries).T, 0, 1)
    codes: NDArray[np.uint8] = (255 * light ** np.float32(1 / _GAMMA) + 0.5).astype(np.uint8)
    return codes


def blend(picture: NDArray[Any]) -> NDArray[Any]:
    """Blend an RGBA picture (H, W, 4), uint8 or uint16, with black: (H, W, 3). Alpha that is all 0 counts as unused."""
    colour, alpha = picture[..., :3], picture[..., 3:]
    if not alpha.any():
        return np.ascontiguousarray(colour)
    most = np.iinfo(picture.dtype).max
    double = np.uint16 if picture.dtype == np.uint8 else np.uint32  # the largest product, rounded up, fits
    mixed: NDArray[Any] = ((colour.astype(double) * alpha + double(most // 2)) // double(most)).astype(picture.dtype)
    return mixed


@cache
def _light_of_codes(transfer: int) -> Floats:
    """Return (65536,) light of each code, as a share of the maximum: scene light for HLG, display light for others."""
    code = np.arange(65536) / 65535
    if transfer == ColorTrc.SMPTE2084:
        light = _pq_to_nits(code) / _PEAK
    elif transfer == ColorTrc.ARIB_STD_B67:  # BT.2100 table 5, the inverse OETF
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    else:
        light = code**_GAMMA
    return np.asarray(light, np.float32)


def _pq_to_nits(code: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the light of PQ codes in 0..1, in cd/m2: BT.2100 table 4, the EOTF."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = code ** (1 / m2)
    return np.asarray(10000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1))


def _nits_to_pq(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the PQ codes, 0..1, of light in cd/m2."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = (nits / 10000) ** m1
    return np.asarray(((c1 + c2 * power) / (1 + c3 * power)) ** m2)


@cache
def _tone_map() -> Floats:
    """Return (_STEPS,) display light, 0..1, for HDR light; entry i is for (i / (_STEPS - 1))^4 of the peak.

    It is BT.2390's curve: the identity up to a knee, then a spline that maps the peak to the display's white.
    """
    nits = _PEAK * np.linspace(0, 1, _STEPS) ** 4
    peak, white = _nits_to_pq(np.array([_PEAK, _WHITE]))
    e1, most = _nits_to_pq(nits) / peak, white / peak
    knee = 1.5 * most - 0.5
    t = np.maximum(e1 - knee, 0) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    return np.asarray(_pq_to_nits(np.where(e1 < knee, e1, spline) * peak) / _WHITE, np.float32)


def _xyz_of_rgb(primaries: int) -> NDArray[np.float64]:
    """Return the (3, 3) matrix from linear RGB to XYZ. Unknown primaries count as BT.709's."""
    corners = _CHROMATICITIES.get(primaries, _CHROMATICITIES[ColorPrimaries.BT709])
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in corners]).T
    x, y = _D65
    return np.asarray(columns * np.linalg.solve(columns, np.array([x / y, 1, (1 - x - y) / y])))


@cache
def _to_bt709(primaries: int) -> Floats:
    """Return the (3, 3) matrix from linear RGB of some primaries to that of BT.709."""
    return np.asarray(np.linalg.solve(_xyz_of_rgb(ColorPrimaries.BT709), _xyz_of_rgb(primaries)), np.float32)


@cache
def _luminance(primaries: int) -> Floats:
    """Return the (3,) weights of linear red, green and blue in the luminance."""
    return np.asarray(_xyz_of_rgb(primaries)[1], np.float32)
