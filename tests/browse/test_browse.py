"""`stmn browse` as a person uses it: a real server, a real browser, clicks."""

import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import psutil
import pytest
from helpers.browser import chromium
from helpers.commands import call, errors_of, start

from stmn.browse.clips import Clips
from stmn.browse.rows import list_rows
from stmn.errors import DataError
from stmn.evaluation.scores import load_scores
from stmn.store.format.header import read_header
from stmn.store.format.read import Store

pytest.importorskip("starlette", reason="starlette is not installed: stmn browse can't run")


@pytest.fixture(scope="module")
def served(trained) -> Iterator[tuple[str, subprocess.Popen]]:
    """The address of a server that shows the trained workspace, with its fused network to try, and its process."""
    process = start("browse", "--model", "fused", "--no-open", "--port", 0, "-w", trained.root)
    address = process.stdout.readline().strip()
    assert address, process.communicate()[1]
    yield address, process
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert "Traceback" not in error, error


@pytest.fixture(scope="module")
def page(served) -> Iterator[Any]:
    """A tab of the browser. Anything that a page's script complains of fails the test."""
    with chromium() as browser:
        tab = browser.chromium.new_page(viewport={"width": 1200, "height": 900})
        wrong: list[str] = []
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        yield tab
        assert not wrong


@pytest.fixture(scope="module")
def scores(trained):
    """The newest test's."""
    return load_scores(trained.newest("scores").output("scores"))


def count(page) -> int:
    return int(page.inner_text("#count").split()[0])


def test_mistakes_are_found_by_clicking(served, page, scores):
    address, _ = served
    page.goto(address)
    assert count(page) == 36
    page.select_option("select[name=part]", "test")
    page.select_option("select[name=result]", "wrong")
    page.select_option("select[name=order]", "error")
    page.click("button:has-text('Show')")
    predicted = scores.mean().argmax(dim=1).tolist()
    wrong = {video for video, p, label in zip(scores.ids, predicted, scores.labels, strict=True) if p != label}
    assert count(page) == len(wrong) > 0
    assert set(page.locator(".videos .name").all_inner_texts()) == wrong
    shares = [float(text.split()[-2]) for text in page.locator(".videos .wrong").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)  # the most confident first
    page.wait_for_function("() => document.images[0].naturalWidth === 40")


def test_class_and_name_choose_too(served, page):
    address, _ = served
    page.goto(address)
    name = page.locator(".videos .name").first.inner_text()
    page.fill("input[name=text]", name)
    page.press("input[name=text]", "Enter")
    assert count(page) == 1
    page.goto(f"{address}?class=right")
    assert 0 < count(page) < 36
    page.goto(f"{address}?class=nothing&order=nonsense&page=999&result=maybe")
    assert count(page) == 0


def test_video_plays_with_its_flow(served, page):
    address, _ = served
    page.goto(f"{address}?part=test")
    page.locator(".videos a").first.click()
    page.wait_for_load_state("load")
    assert page.locator("#at").inner_text() == "0"
    page.fill("#time", "5")
    page.wait_for_selector("#at:has-text('5 (')")
    page.click("#play")
    page.wait_for_selector("#at:has-text('8 (')")
    page.click("#play")
    for picture in ("frame", "flow"):
        assert f"/{picture}?" in page.get_attribute(f"#{picture}", "src")
        page.wait_for_function(f"() => document.getElementById('{picture}').naturalWidth === 40")
    assert page.locator("meter").count() == 4  # classes
    assert "appearance alone: " in page.inner_text("main")


def test_a_clip_is_classified_along_time(served, page, trained):
    address, _ = served
    clip = next((trained.root / "data" / "synthetic" / "videos" / "test").glob("*.mp4"))
    page.goto(f"{address}try")
    page.wait_for_load_state("load")
    page.set_input_files("#file", clip)
    page.wait_for_selector("#result:not([hidden])", timeout=120_000)
    shares = [float(text.split()[0]) for text in page.locator("#classes td").all_inner_texts()]
    assert len(shares) == 4 and 99 < sum(shares) < 101
    assert page.locator("#windows tbody tr").count() >= 1
    page.wait_for_function("() => document.getElementById('overlay').videoWidth > 0")
    whole = call("predict", "fused", clip, "--window", 1, "--step", 0.25, "-w", trained.root).stdout
    assert page.inner_text("#state").split(": ")[1].split(",")[0] in whole


def test_a_clip_that_is_none_is_one_line(served, page):
    address, _ = served
    page.goto(f"{address}try")
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no video"})
    page.wait_for_selector("#state.wrong", timeout=60_000)
    assert page.inner_text("#state").startswith("notes.txt: not a readable video")
    assert page.is_hidden("#result")


def test_only_this_machine_is_served(served):
    _, process = served
    listening = [c.laddr.ip for c in psutil.Process(process.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert listening == ["127.0.0.1"]


@pytest.mark.parametrize(("path", "headers", "body", "status"), [
    ("", {"Host": "attacker.example"}, None, 400),  # a page elsewhere whose name was pointed at this machine
    ("classify", {"Origin": "http://attacker.example"}, b"x", 403),
    ("classify", {}, b"x", 403),
    ("video?id=../../etc/passwd", {}, None, 404),
    ("frame?id=/etc/passwd&t=0", {}, None, 404),
    ("frame?id=nothing&t=1e9", {}, None, 404),
    ("static/..%2fserver.py", {}, None, 404),
    ("static/templates", {}, None, 404),
    ("overlay/..%2f..%2fetc%2fpasswd", {}, None, 404),
])  # fmt: skip
def test_nothing_else_is_given_out(served, path, headers, body, status):
    address, _ = served
    asked = urllib.request.Request(address + path, data=body, headers=headers)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked, timeout=60)
    assert refused.value.code == status
    assert b"root:" not in refused.value.read()


def test_times_that_a_video_does_not_have(served):
    address, _ = served
    page = urllib.request.urlopen(address, timeout=60).read().decode()
    name = re.search(r"/frame\?id=([^&]+)&amp;t=", page)[1]
    for time in ("-1", "14", "nonsense"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{address}frame?id={name}&t={time}", timeout=60)
        assert refused.value.code == 404


def test_mistakes_of_a_person_are_one_line(trained, tmp_path):
    assert "prepared sets: synthetic" in errors_of(call("browse", "nothing", "-w", trained.root))[0]
    assert "no prepared data" in errors_of(call("browse", "-w", tmp_path))[0]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start("browse", "--no-open", "--port", port, "-w", trained.root)
        error = process.communicate(timeout=60)[1]
    assert (process.returncode, f"port {port} is taken" in error, "Traceback" in error) == (1, True, False)


def test_a_model_alone_needs_no_prepared_set(trained, tmp_path):
    process = start("browse", "--model", trained.find_model("motion"), "--no-open", "--port", 0, "-w", tmp_path)
    address = process.stdout.readline().strip()
    assert address, process.communicate()[1]
    page = urllib.request.urlopen(address, timeout=60).read().decode()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert "Drop a clip here" in page and "It knows 4 classes" in page


def test_parts_are_those_of_the_split_that_was_tested(own):
    """Of another split than 1, and none for scores of all folds."""
    header = read_header(own.data_dir("synthetic"))
    parts = header.splits["1"]
    turned = {"train": parts["test"], "test": parts["train"]}
    header.model_copy(update={"splits": {"1": parts, "2": turned}}).write(own.data_dir("synthetic"))
    scores = load_scores(own.newest("scores").output("scores"))
    with Store(own.data_dir("synthetic")) as store:
        for split, expected in (("1", "test"), ("2", "train"), ("all", "")):
            rows = list_rows(store, split, scores)
            assert {row.part for row in rows if row.prediction} == {expected}
    assert errors_of(call("browse", "--split", 3, "-w", own.root)) == [
        "data set synthetic has no split '3'; it has: 1, 2"
    ]


def test_a_clip_can_come_while_another_is_classified(monkeypatch):
    """Its upload would stop the server for everybody else."""
    begun, go_on = Event(), Event()

    def classify_slowly(*_: object, **__: object) -> Iterator[None]:
        begun.set()
        go_on.wait(60)
        raise DataError("too short")

    monkeypatch.setattr("stmn.browse.clips.follow_windows", classify_slowly)
    with Clips(None) as clips, ThreadPoolExecutor(2) as pool:
        first = pool.submit(clips.classify, clips.new_file())
        begun.wait(60)
        try:
            assert pool.submit(clips.new_file).result(timeout=60) != clips.new_file()
        finally:
            go_on.set()
        with pytest.raises(DataError, match="too short"):
            first.result()


def test_missing_extra_is_named(trained):
    code = "import sys; sys.modules['starlette'] = None; from stmn.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "browse", "-w", trained.root], capture_output=True, text=True, timeout=60
    )
    assert "pip install 'stmn[browse]'" in done.stderr and "Traceback" not in done.stderr
