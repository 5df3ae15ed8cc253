"""`make docs` makes a site of the pages, with the Python reference, and no link of it is broken."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import make_site


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    make_site.write_pages(folder)
    return folder


def test_site_builds_without_a_warning(site, capfd):
    assert make_site.build(site) == 0, capfd.readouterr()
    html = site / "html"
    for page in make_site.INDEX.parent.glob("guides/*.md"):
        assert (html / "docs" / "guides" / f"{page.stem}.html").exists()
    assert "multiplicative gates" in (html / "index.html").read_text()
    contracts = (html / "python" / "stmn.plugins.html").read_text()
    assert 'id="stmn.plugins.Fusion"' in contracts and "(B,T,C,H,W)" in contracts.replace(", ", ",")


@pytest.mark.slow
@pytest.mark.parametrize(("link", "words"), [
    ("docs/guides/nowhere.md", "page does not exist"),
    ("docs/guides/training.md#nowhere", "anchor does not exist"),
])  # fmt: skip
def test_broken_link_ends_the_build(site, link, words, capfd):
    page = site / "pages" / "README.md"
    text = page.read_text()
    page.write_text(f"{text}\n[a page]({link})\n")
    try:
        assert make_site.build(site) == 1
    finally:
        page.write_text(text)
    assert words in capfd.readouterr().err
