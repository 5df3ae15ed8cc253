"""Pages as a browser shows them: headless Chromium, if it is installed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
#: an A4 sheet of paper without the pages' margins, in CSS pixels of 1/96 inch
SHEET = (round((210 - 2 * 12) / 25.4 * 96), round((297 - 2 * 14) / 25.4 * 96))

#: what a page shows: size of each figure, its texts and how far down they are, whether all pictures loaded, colours,
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

#: a page's layout: `cut`: what lies outside the window (and, on paper, outside a box that would scroll on a screen);
#: `overlaps`: texts printed over each other; `hidden`: texts that a reader can't get at; `tall`: what does not fit on a
#: sheet of paper; `scrolled`: tables that are wider than their place
LAYOUT = """([onPaper, sheetHeight]) => {
  const wide = document.documentElement.clientWidth, found = {cut: [], overlaps: [], hidden: [], tall: [], scrolled: []};
  const scrolls = e => ['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(e).overflowX);
  const box = e => e.getBoundingClientRect();
  const clips = e => { const all = []; for (; e && e !== document.body; e = e.parentElement) if (scrolls(e)) all.push(e);
                       return all; };
  const check = (what, rect, parent) => {  // the part that is seen, or null
    let [left, right] = [rect.left, rect.right];
    for (const scroller of clips(parent)) {
      const room = box(scroller);
      if ((onPaper || scroller.tagName === 'svg') && (left < room.left - 1 || right > room.right + 1)) found.cut.push(what);
      [left, right] = [Math.max(left, room.left), Math.min(right, room.right)];
    }
    if (right > left && (left < -1 || right > wide + 1)) found.cut.push(what);
    return right > left ? {what, left, right, top: rect.top, bottom: rect.bottom} : null;
  };
  const texts = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement, what = node.textContent.trim();
    if (!what) continue;
    if (!parent.checkVisibility()) {
      if (!parent.closest('nav') && (onPaper || !parent.closest('details:not([open])'))) found.hidden.push(what);
      continue;
    }
    const range = document.createRange();
    range.selectNodeContents(node);
    const rects = parent.closest('svg') ? [box(parent)] : [...range.getClientRects()];
    for (const rect of rects) if (rect.width) texts.push(check(what, rect, parent));
  }
  for (const e of document.querySelectorAll('svg, img, table, td, th, .key')) check(e.tagName, box(e), e.parentElement);
  const seen = texts.filter(text => text).sort((one, other) => one.top - other.top);
  for (let i = 0; i < seen.length; i++) {
    const one = seen[i], high = one.bottom - one.top;
    for (let j = i + 1; j < seen.length && seen[j].top < one.bottom; j++) {
      const other = seen[j], down = Math.min(one.bottom, other.bottom) - other.top;
      const across = Math.min(one.right, other.right) - Math.max(one.left, other.left);
      if (across > 1.5 && down > 0.35 * Math.min(high, other.bottom - other.top))
        found.overlaps.push([one.what, other.what]);
    }
  }
  for (const e of document.querySelectorAll('svg, img, tr, .sample'))
    if (box(e).height > sheetHeight) found.tall.push([e.tagName, box(e).height]);
  for (const e of document.querySelectorAll('table'))
    if (clips(e).some(s => s.scrollWidth > s.clientWidth)) found.scrolled.push(e.innerText);
  return found;
}"""


@dataclass
class Shown:
    """What was seen of a page, what its console said, and what it asked for besides itself."""

    seen: dict[str, Any]
    layout: dict[str, Any] = field(default_factory=dict)
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def figures(self, start: str) -> list[dict[str, Any]]:
        """The figures whose descriptions start so."""
        return [figure for figure in self.seen["figures"] if figure["name"].startswith(start)]

    @property
    def is_dark(self) -> bool:
        """True for light text on a dark page."""
        page, ink = (sum(map(int, self.seen[key][4:-1].split(",")[:3])) for key in ("page", "ink"))
        assert abs(page - ink) > 450  # there is contrast
        return page < ink


class Browser:
    """Opens files."""

    def __init__(self, chromium: Any) -> None:
        self.chromium = chromium

    def open(self, path: Path, width: int = 1200, scheme: str = "light", paper: bool = False) -> Shown:
        """The page, after everything in it was loaded; `paper`: as it is printed, on sheets of A4."""
        size = {"width": SHEET[0], "height": SHEET[1]} if paper else {"width": width, "height": 900}
        page = self.chromium.new_page(viewport=size, color_scheme=scheme)
        if paper:
            page.emulate_media(media="print", color_scheme=scheme)
        shown = Shown({})
        page.on("console", lambda message: shown.console.append(message.text))
        page.on("pageerror", lambda error: shown.console.append(str(error)))
        page.on("request", lambda request: shown.requests.append(request.url.split(",")[0]))
        page.goto(path.resolve().as_uri())
        shown.seen = page.evaluate(LOOK)
        shown.layout = page.evaluate(LAYOUT, [paper, SHEET[1]])
        page.close()
        return shown


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; skips the test, and says why, if there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no Chromium here (looked for {', '.join(NAMES)}): pages were not opened in a browser")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser was opened")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield Browser(started)
        started.close()
