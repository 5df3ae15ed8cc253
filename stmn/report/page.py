"""Write a page: one HTML file that opens offline. Needs matplotlib and jinja2 (the extra `report`)."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmn.errors import MissingExtra, count_of
from stmn.evaluation.metrics import describe_units
from stmn.report import words
from stmn.report.figures import SERIES_COLOURS
from stmn.report.inside import format_estimate, format_signed
from stmn.report.sweep_table import describe_caption, list_cells
from stmn.runtime.files import atomic_write

if TYPE_CHECKING:
    from jinja2 import Environment

_FILTERS = {
    "percent": words.format_percent,
    "points": words.format_points,
    "p_value": words.format_p_value,
    "p": words.describe_p_value,
    "time": words.format_time,
    "duration": words.format_duration,
    "protocol": words.describe_protocol,
    "units": describe_units,
    "counted": count_of,
    "estimate": format_estimate,
    "estimate_number": format_signed,
    "cells": list_cells,
    "caption": describe_caption,
}


def check_extra() -> None:
    """Check that pages can be written.

    Raises:
        MissingExtra: matplotlib or jinja2 is not installed.
    """
    for package in ("matplotlib", "jinja2"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingExtra("the report", package, "report") from error


def write_page(path: Path, template: str, **values: Any) -> None:
    """Write a page, complete or not at all.

    Args:
        path: the HTML file.
        template: name of the template in `templates/`.
        values: the template's variables. Figures are <svg> elements; all other text is escaped.
    """
    html = _make_environment().get_template(template).render(**values)
    with atomic_write(path) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="replace")


def _make_environment() -> "Environment":
    """Jinja's environment. It escapes every name: classes, videos and runs may have any name."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("stmn.report", "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=words.replace_unprintable,
    )  # fmt: skip
    environment.filters |= _FILTERS
    environment.globals |= {
        "versions": words.list_versions(), "made": time.time(), "colours": SERIES_COLOURS,
    }  # fmt: skip
    return environment
