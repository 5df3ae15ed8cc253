"""Pages as a browser shows them: Chromium without a window, where it is installed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")

#: what a page shows: size of each figure, its texts and how far down they stand, whether all pictures loaded, colours,
#: and its width
LOOK = """() => ({
  figures: [...document.querySelectorAll('svg')].map(
    s => ({name: s.getAttribute('aria-label'), ...s.getBoundingClientRect().toJSON(),
           texts: [...s.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect().y])})),
  pictures: [...document.images].map(i => i.complete && i.naturalWidth > 0),
  page: getComputedStyle(document.body).backgroundColor,
  ink: getComputedStyle(document.body).color,
  bars: [...document.querySelectorAll('svg path')].map(p => getComputedStyle(p).fill),
  width: document.documentElement.scrollWidth,
  text: document.body.innerText,
})"""


@dataclass
class Shown:
    """What was seen of a page, what its console said, and what it asked for beside itself."""

    seen: dict[str, Any]
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def figures(self, start: str) -> list[dict[str, Any]]:
        """The figures whose descriptions start so."""
        return [figure for figure in self.seen["figures"] if figure["name"].startswith(start)]

    @property
    def is_dark(self) -> bool:
        """True for light text on a dark page."""
        page, ink = (sum(map(int, self.seen[key][4:-1].split(",")[:3])) for key in ("page", "ink"))
        assert abs(page - ink) > 450  # they can be told apart
        return page < ink


class Browser:
    """Opens files."""

    def __init__(self, chromium: Any) -> None:
        self.chromium = chromium

    def open(self, path: Path, width: int = 1200, scheme: str = "light") -> Shown:
        """The page, after everything in it was loaded."""
        page = self.chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        shown = Shown({})
        page.on("console", lambda message: shown.console.append(message.text))
        page.on("pageerror", lambda error: shown.console.append(str(error)))
        page.on("request", lambda request: shown.requests.append(request.url.split(",")[0]))
        page.goto(path.resolve().as_uri())
        shown.seen = page.evaluate(LOOK)
        page.close()
        return shown


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; skips the test, and says why, where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no Chromium here (looked for {', '.join(NAMES)}): pages were not opened in a browser")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser was opened")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield Browser(started)
        started.close()
