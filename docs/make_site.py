"""Build the site of the docs: `build/site/html/index.html`, for a browser or any web server.

    python docs/make_site.py

The pages are README.md, CHANGELOG.md, CONTRIBUTING.md, docs/ and the READMEs of plugins/, in the order in which
docs/README.md lists them; the files that they link to come along. Pages about Python are made from the docstrings of
the public modules. A warning, such as a link to a page or heading that isn't there, ends the build.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SITE = ROOT / "build" / "site"
INDEX = ROOT / "docs" / "README.md"
#: the public modules: title of the page, and what is shown of each
PYTHON = {
    "stmn": "Models and stages",
    "stmn.prediction.api": "Loaded models",
    "stmn.plugins": "Plugin contracts",
    "stmn.testing": "Checks for plugins",
    "stmn.errors": "Errors",
}


def main() -> int:
    """Write the pages and build; the exit code is that of the build."""
    shutil.rmtree(SITE, ignore_errors=True)
    write_pages(SITE)
    code = build(SITE)
    if code == 0:
        print(f"wrote {(SITE / 'html' / 'index.html').relative_to(ROOT)}")
    return code


def write_pages(site: Path) -> None:
    """Fill a folder with the configuration and the pages."""
    pages = site / "pages"
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("plugins/*/README.md"),
                 *ROOT.glob("docs/**/*.md")]:  # fmt: skip
        _copy(page, pages)
        for target in list_targets(page):
            _copy(target, pages)
    for name, title in PYTHON.items():
        path = pages / "python" / f"{name}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"# {title}\n\n::: {name}\n", encoding="utf-8")
    config = (ROOT / "docs" / "site" / "zensical.toml").read_text(encoding="utf-8")
    config = config.replace("docs_dir =", f"nav = {write_nav()}\ndocs_dir =", 1).replace(
        'paths = ["."]', f'paths = ["{ROOT}"]'
    )
    (site / "zensical.toml").write_text(config, encoding="utf-8")


def build(site: Path) -> int:
    """Make `html/` of such a folder; the exit code is 1 if there was a warning."""
    return subprocess.run([sys.executable, "-m", "zensical", "build", "--strict", "--clean"], cwd=site).returncode


def list_targets(page: Path) -> list[Path]:
    """The files that a page links to, except pages."""
    found = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    targets = [(page.parent / target).resolve() for target in found if "://" not in target]
    return [target for target in targets if target.is_file() and target.suffix != ".md"]


def write_nav() -> str:
    """The list of pages as TOML: README.md, then the lists of docs/README.md below their titles, then Python's."""
    parts = re.split(r"(?m)^## (.+)\n", INDEX.read_text(encoding="utf-8"))
    sections = {
        title: [(name, _place(path)) for name, path in re.findall(r"(?m)^- \[([^\]]+)\]\(([^)#]+)\)", text)]
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    sections["Python"] = [(title, f"python/{name}.md") for name, title in PYTHON.items()]
    lines = ['  { "stmn" = "README.md" },']
    for title, pages in sections.items():
        entries = ", ".join(f'{{ "{name}" = "{path}" }}' for name, path in pages)
        lines.append(f'  {{ "{title}" = [{entries}] }},')
    return "\n".join(["[", *lines, "]"])


def _place(link: str) -> str:
    """Where the target of a link in docs/README.md is in the checkout."""
    return (INDEX.parent / link).resolve().relative_to(ROOT).as_posix()


def _copy(path: Path, pages: Path) -> None:
    """Copy a file of the checkout to the same place below the folder of pages."""
    target = pages / path.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


if __name__ == "__main__":
    sys.exit(main())
