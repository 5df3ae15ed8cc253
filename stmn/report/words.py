"""Format numbers, names and times for pages."""

import re
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("stmn", "torch", "timm")


def describe_protocol(metrics: dict[str, Any]) -> str:
    """Words for the protocol in an evaluation's metrics."""
    return str((metrics.get("protocol") or {}).get("words") or "protocol not recorded")


def describe_splits(splits: Sequence[str]) -> str:
    """`split 1`, `splits 1, 2`; `all splits` for none or "all"."""
    if not splits or list(splits) == ["all"]:
        return "all splits"
    return f"split{'s' if len(splits) > 1 else ''} {', '.join(splits)}"


def list_versions() -> dict[str, str]:
    """Package -> installed version, for the packages that a page names."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def strip_fingerprint(name: str) -> str:
    """A run's name without its fingerprint, or a file's without its folders: "fused-multiply"."""
    path = Path(name)
    if path.suffix in (".safetensors", ".pth"):
        name = path.parent.name if path.stem in ("model", "scores") and path.parent.name else path.stem
    return re.sub(r"-[0-9a-f]{8}$", "", name)


def shorten_path(name: str) -> str:
    """A file's name with its folder, which names the run. Other names stay as they are."""
    return "/".join(Path(name).parts[-2:])


def replace_unprintable(value: Any) -> Any:
    """Replace control characters and lone surrogates (from names that are not UTF-8) in text; leave other values."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", value)


def format_percent(share: float) -> str:
    """Format 0.942 as "94.2"."""
    return f"{100 * share:.1f}"


def format_points(difference: float) -> str:
    """A difference in percentage points: "+2.5" for 0.025, "−2.5" for -0.025."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def format_p_value(p_value: float) -> str:
    """Format a p-value, such as "0.031" or "< 0.001"."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}" if p_value < 0.1 else f"{p_value:.2f}"


def describe_p_value(p_value: float) -> str:
    """A p-value with its sign: "p = 0.031" or "p < 0.001"."""
    return f"p {'' if p_value < 0.001 else '= '}{format_p_value(p_value)}"


def format_time(seconds: float | None) -> str:
    """Date and time in this machine's time zone, from seconds since the epoch."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M %Z") if seconds else "unknown"


def format_duration(seconds: float | None) -> str:
    """Format seconds, such as "3 min 6 s"; None is "unknown"."""
    if seconds is None:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60) if seconds >= 3600 else int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60} min" if seconds >= 3600 else f"{minutes} min {int(seconds % 60)} s"
