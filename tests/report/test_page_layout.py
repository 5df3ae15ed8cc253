"""Pages lose nothing on a narrow screen or on paper, with many evaluations and long names."""

import shutil
from pathlib import Path

import pytest
from conftest import made_once
from helpers.browser import Browser, chromium
from helpers.commands import call
from helpers.paper_sized import CLASSES, named_scores, paper_sized

NAMES = [
    "gated-multiply-residual-motion-to-appearance-resnet50-resnet152-hmdb51-split1-average-filters-in-conv5",
    "plain",
    "x" * 90,
    "gated_add_direct_both_every_unit_resnet50_resnet50_window_of_five_seed_0123456789",
    "spatiotemporal multiplier network with residual and skip filters on whole frames of 25 chunks and their mirrors",
    "gated-multiply-residual-motion-to-appearance-resnet50-resnet152-hmdb51-split1-average-filters-in-conv4",
]
LONG_CLASSES = ["PlayingTheViolinInAnOrchestraWhileStandingOnOneLegBeforeAnAudienceOfThousands", "a b <&> c"]
SETS = {"2 classes": LONG_CLASSES, "101 classes": CLASSES}


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def big(tmp_path_factory) -> Path:
    """For each set of classes a workspace and made-up scores."""

    def make(root: Path) -> None:
        for name, classes in SETS.items():
            paper_sized(root / name / "work", classes=classes)
            named_scores(root / name / "scores", NAMES, classes)

    return made_once(tmp_path_factory, "layouts", make)


def make_page(folder: Path, kind: str, count: int, out: Path) -> Path:
    """A report or a comparison of so many evaluations of a set of classes."""
    files = [folder / "scores" / name / "scores.safetensors" for name in NAMES[:count]]
    assert all(file.is_file() for file in files)
    shutil.copytree(folder / "work", out / "work")
    if kind == "compare":
        made = call("compare", *files, "-w", out / "work", "--page", out / "page.html")
        assert made.exit_code == 0, made.stderr
        return out / "page.html"
    given = ",".join(map(str, files))
    made = call("report", "-w", out / "work", "--data", "big", "--samples", 2, "--evaluations", given)
    assert made.exit_code == 0, made.stderr
    return Path(made.stdout.splitlines()[-1].removeprefix("report: "))


@pytest.fixture(scope="module")
def trained_report(trained, tmp_path_factory) -> Path:
    """The report of models that were trained: with curves, and with the stages that led to them."""
    workspace = tmp_path_factory.mktemp("layout") / "workspace"
    shutil.copytree(trained.root, workspace)
    result = call("report", "-w", workspace, "--samples", 3)
    assert result.exit_code == 0, result.stderr
    return Path(result.stdout.splitlines()[-1].removeprefix("report: "))


def check_layout(browser: Browser, page: Path) -> None:
    """A page is complete and legible on a screen, on a telephone, and on paper."""
    for width, scheme in ((1200, "light"), (400, "dark")):
        shown = browser.open(page, width, scheme)
        assert (shown.layout["cut"], shown.layout["overlaps"], shown.layout["hidden"]) == ([], [], []), width
        assert shown.seen["width"] <= width
    shown = browser.open(page, scheme="dark", paper=True)
    layout = shown.layout
    assert (layout["cut"], layout["overlaps"], layout["hidden"], layout["tall"]) == ([], [], [], []), "on paper"
    assert not shown.is_dark  # nobody prints a black page


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("compare", 6), ("report", 6),
        *(pytest.param(*few, marks=pytest.mark.slow) for few in (("compare", 2), ("compare", 4), ("report", 2))),
    ],
)  # fmt: skip
def test_nothing_is_cut_or_overprinted(browser: Browser, big, kind, count, name, tmp_path):
    check_layout(browser, make_page(big / name, kind, count, tmp_path))


def test_report_of_trainings_keeps_its_layout(browser: Browser, trained_report):
    check_layout(browser, trained_report)


@pytest.mark.parametrize("kind", ["compare", "report"])
def test_tables_fit_a_desktop_window(browser: Browser, paper_pages, kind):
    """With names of usual length no table needs to be scrolled."""
    shown = browser.open(paper_pages[kind], 1200)
    assert shown.layout["scrolled"] == []
