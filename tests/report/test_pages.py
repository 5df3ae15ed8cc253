"""The report and the comparison as Chromium shows them, of a set as large as UCF101."""

import pytest
from helpers.browser import Browser, chromium


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


FIGURES = {
    "report": {
        "accuracy of each evaluation": 1, "confusion matrix": 4, "accuracy of each class": 2, "calibration": 1,
    },
    "compare": {"accuracy of each evaluation": 1, "difference of each class": 2, "accuracy of each class": 2},
}  # fmt: skip


@pytest.mark.parametrize("name", ["report", "compare"])
@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 500)])
def test_every_figure_is_shown_without_warnings(browser: Browser, paper_pages, name, scheme, width):
    shown = browser.open(paper_pages[name], width, scheme)
    assert shown.console == []
    assert all(url.startswith("data:") or url == paper_pages[name].as_uri() for url in shown.requests)  # offline
    for start, count in FIGURES[name].items():
        figures = shown.figures(start)
        assert len(figures) == count
        assert all(figure["width"] > 300 and figure["height"] > 60 and figure["texts"] for figure in figures)
    assert all(shown.seen["pictures"])
    assert shown.seen["width"] <= width  # wide figures scroll by themselves, not the page
    assert shown.is_dark == (scheme == "dark")


def test_a_hundred_classes_are_legible(browser: Browser, paper_pages):
    """Each class has its own line, sorted from the largest gain of gates to the largest loss."""
    shown = browser.open(paper_pages["report"])
    figures = shown.figures("accuracy of each class")
    assert sum(figure["height"] for figure in figures) > 101 * 12  # pixels per class
    names, gains = [], []
    for figure in figures:
        texts = sorted(figure["texts"], key=lambda text: text[1])
        rows = {y: text for text, y in texts if text.startswith(("Class", "BalanceBeam", "Handstand"))}
        names += rows.values()
        beside = [text.replace("−", "-") for text, y in texts if min(rows) - 3 < y < max(rows) + 3 and text[0] in "+−"]
        gains += map(int, beside)
    assert len(names) == 101 and "HandstandPushups <&>" in names
    assert len(gains) > 5 and gains == sorted(gains, reverse=True) and gains[0] > 0 > gains[-1]


def test_colours_follow_the_scheme(browser: Browser, paper_pages):
    unpainted = {"none", "rgb(0, 0, 0)"}  # lines have no filling
    light, dark = (
        set(browser.open(paper_pages["report"], scheme=scheme).seen["bars"]) - unpainted for scheme in ("light", "dark")
    )
    assert len(light) > 5 and not light & dark


def test_most_confident_mistake_has_a_filmstrip(browser: Browser, paper_pages):
    shown = browser.open(paper_pages["report"])
    first = shown.seen["text"].split("Most confident mistakes")[1].split("%")[0]
    assert "Class000" in first and "64 × 48, 8 frames" in first
    assert len(shown.seen["pictures"]) == 1 + 2 * 5  # the wheel; five frames with their flow
