"""Numbers, names and times as the report's pages write them."""

import re
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("stmn", "torch", "timm")


def protocol_words(metrics: dict[str, Any]) -> str:
    """How a number was measured."""
    return str((metrics.get("protocol") or {}).get("words", "not recorded"))


def versions() -> dict[str, str]:
    """The versions that made this page."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def bare(name: str) -> str:
    """A run's name without its fingerprint, a file's without its folders: "fused-multiply"."""
    path = Path(name)
    if path.suffix in (".safetensors", ".pth"):
        name = path.parent.name if path.stem in ("model", "scores") and path.parent.name else path.stem
    return re.sub(r"-[0-9a-f]{8}$", "", name)


def printable(value: Any) -> Any:
    """Text without what no page can show: control characters and halves of characters (names that are not UTF-8)."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", value)


def percent(share: float) -> str:
    """ "94.2" for 0.942."""
    return f"{100 * share:.1f}"


def points(share: float) -> str:
    """ "+2.5" for 0.025, "−2.5" for -0.025: a difference in percentage points."""
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def chances(p_value: float) -> str:
    """A p value: "0.031", "< 0.001"."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}" if p_value < 0.1 else f"{p_value:.2f}"


def moment(seconds: float | None) -> str:
    """A date and time of this machine's zone, from seconds since the epoch."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M %Z") if seconds else "unknown"


def duration(seconds: float | None) -> str:
    """ "3 min 6 s"."""
    if seconds is None:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60) if seconds >= 3600 else int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60} min" if seconds >= 3600 else f"{minutes} min {int(seconds % 60)} s"
