"""The overlay: each frame with the running prediction, the flow, and where motion gates appearance."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import call, errors_of
from helpers.films import film, moving
from helpers.predicting import model_of
from numpy.typing import NDArray

import stmn
from stmn.nets.checkpoint import load_checkpoint, save_checkpoint
from stmn.prediction.gate_map import GateMap, find_gate_map
from stmn.prediction.panels import BAR, GAP, LINE, draw_heat_map
from stmn.prediction.windows import read_frames
from stmn.video.decode import decode_video, iter_frames, probe_video

#: pixels of a panel for frames of 64 x 48
HEIGHT, WIDTH = 336, 448


def overlay(workspace, name: str, video: Path, path: Path, *flags: object):
    result = call("predict", model_of(workspace, name), video, "--overlay", path, *flags)
    assert result.exit_code == 0, result.stderr
    return result


def panel(page: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    left, top = GAP + number * (WIDTH + GAP), GAP + LINE
    return page[top : top + HEIGHT, left : left + WIDTH]


def foot(page: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    left, top = GAP + number * (WIDTH + GAP), GAP + LINE + HEIGHT + GAP // 2
    return page[top : top + 5 * LINE, left : left + WIDTH]


def bars(page: NDArray[np.uint8]) -> int:
    """Pixels of the best class's bar."""
    return int((np.abs(foot(page, 0).astype(int) - BAR).max(axis=2) < 40).sum())


@pytest.fixture(scope="module")
def seen(trained, tmp_path_factory) -> tuple[Path, Path, str]:
    """A video, its overlay by the fused model, and the output of the command."""
    folder = tmp_path_factory.mktemp("seen")
    video = film(folder / "a.avi", moving(30) + moving(30, dx=-3, seed=1))
    result = overlay(trained, "fused", video, folder / "seen.mp4", "--window", 1, "--step", 0.5)
    return video, folder / "seen.mp4", result.stdout


def test_overlay_shows_frames_flow_and_gate_at_video_rate(seen):
    video, path, printed = seen
    assert printed.startswith(f"{video}: ") and len(printed.splitlines()) == 1
    pages, frames = list(decode_video(path)), list(decode_video(video))
    assert probe_video(path).fps == probe_video(video).fps == 25
    assert len(pages) == len(frames) == 60
    assert [f.seconds for f in iter_frames(path)] == pytest.approx([f.seconds for f in iter_frames(video)])
    for page, frame in zip(pages[::10], frames[::10], strict=True):
        assert page.shape[1] >= 3 * WIDTH and not (page.shape[0] % 2 or page.shape[1] % 2)
        shown = panel(page, 0)[3::7, 3::7].astype(int)
        assert np.abs(shown - frame[: shown.shape[0], : shown.shape[1]]).mean() < 12
        assert np.ptp(panel(page, 2).astype(int), axis=2).mean() > 20, "heat is coloured"
    # the texture moves to the right, then to the left: red and cyan on the colour wheel
    right, left = (panel(pages[t], 1)[100:200, 100:300].reshape(-1, 3).mean(axis=0) for t in (10, 50))
    assert right[0] > right[2] and left[2] > left[0]


def test_bars_change_only_with_the_window(seen):
    pages = list(decode_video(seen[1]))
    # windows of 1 s every 0.5 s: their middles are 0.5, 1, 1.5 and 1.9 s
    within = [foot(pages[t], 0).astype(int) for t in (2, 16)]
    assert np.abs(within[0] - within[1]).mean() < 1
    assert len({round(bars(pages[t]), -1) for t in (5, 25, 38, 55)}) > 1
    assert all(bars(page) > 100 for page in pages[::15])


def test_unknown_windows_have_no_best_class(trained, seen, tmp_path):
    windows = stmn.load(model_of(trained, "fused")).windows(seen[0])
    most = max(float(window.logits.softmax(dim=0).max()) for window in windows)
    overlay(trained, "fused", seen[0], tmp_path / "sure.mp4", "--unknown", 0.01)
    overlay(trained, "fused", seen[0], tmp_path / "unsure.mp4", "--unknown", (1 + most) / 2)
    sure, unsure = (next(iter(decode_video(tmp_path / name))) for name in ("sure.mp4", "unsure.mp4"))
    assert bars(sure) > 100 and bars(unsure) < 10
    first = foot(unsure, 0)[:LINE]
    assert first[:, : WIDTH // 3].max() > 150, "the word `unknown` is there"


def test_gate_map_is_what_the_parts_gate_receives(trained, seen):
    """The mean over channels of |f(x_m)|, from each frame's own flow stack."""
    model = stmn.load(model_of(trained, "fused"))
    maps = {}
    for part, side in (("conv2", 8), ("conv3", 4), ("conv4", 2), ("conv5", 1)):
        gate = find_gate_map(model, part)
        assert isinstance(gate, GateMap) and gate.part == part
        assert gate.legend == (f"what motion sends at {part}, mean |f(x_m)|:", "it multiplies appearance there")
        found = list(gate.add_maps(read_frames(model, iter_frames(seen[0]))))
        assert len(found) == 60 and [m.seconds for m in found] == sorted(m.seconds for m in found)
        maps[part] = torch.stack([m.gate_map for m in found])
        assert maps[part].shape[-2] == side and bool((maps[part] >= 0).all())
    # in one pass over all frames, so that no stack is cut by a batch
    gate, context = find_gate_map(model, "conv2"), list(read_frames(model, iter_frames(seen[0])))
    torch.testing.assert_close(gate.compute_maps(context, range(60)), maps["conv2"], rtol=1e-4, atol=1e-6)


def test_heat_map_lies_over_its_frame():
    picture = np.full((60, 80, 3), 128, np.uint8)
    values = np.zeros((3, 4))
    values[0, 3] = 1
    drawn = np.asarray(draw_heat_map(picture, values)).astype(int).sum(axis=2)
    assert drawn[:15, 65:].mean() > 2 * drawn[40:, :40].mean()


def test_default_gate_part_is_deepest_that_is_fine_enough(trained):
    """conv2 with 8 x 8 positions for the tests' 32 pixels; conv5 for the paper's 256."""
    model = stmn.load(model_of(trained, "fused"))
    assert find_gate_map(model, None).part == "conv2"
    network = model.description.network.model_copy(update={"size": 224})
    model.description = type(model.description)(**(vars(model.description) | {"network": network, "keeps": ["crop"]}))
    assert find_gate_map(model, None).part == "conv5"


@pytest.mark.parametrize(("name", "panels", "said"), [
    ("motion", 2, ["this model is the motion stream alone: without gates the overlay has no gate map"]),
    ("appearance", 1, [
        "this model is the appearance stream alone: without gates the overlay has no gate map",
        "this model reads no flow, so the overlay shows none",
    ]),
])  # fmt: skip
def test_single_stream_has_fewer_panels_with_notice(name, panels, said, trained, tmp_path):
    video = film(tmp_path / "a.avi", moving(20))
    result = overlay(trained, name, video, tmp_path / "o.mp4")
    assert [line for line in result.stderr.splitlines() if "windows" not in line] == [
        *said,
        f"overlay: {tmp_path / 'o.mp4'}",
    ]
    assert probe_video(tmp_path / "o.mp4").width == GAP + panels * (WIDTH + GAP)


def test_overlay_of_tall_videos_and_single_frames(trained, tmp_path):
    tall = film(tmp_path / "tall.avi", moving(12, 96, 40))
    overlay(trained, "fused", tall, tmp_path / "tall.mp4")
    one = film(tmp_path / "one.avi", moving(1))
    overlay(trained, "appearance", one, tmp_path / "one.mp4")
    assert len(list(decode_video(tmp_path / "tall.mp4"))) == 12 and len(list(decode_video(tmp_path / "one.mp4"))) == 1


@pytest.mark.parametrize(("path", "words"), [
    ("/proc/no/o.mp4", "/proc/no/o.mp4: can't be written: "),
    ("o.gif", "--overlay o.gif: the name must end in .mp4"),
    ("folder.mp4", "folder.mp4: this is a folder; name a file"),
    ("a.mp4", "a.mp4: this is one of the videos and would be overwritten"),
])  # fmt: skip
def test_unusable_overlay_path_is_one_line(path, words, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.mp4").mkdir()
    video = film(tmp_path / "a.mp4", moving(12), "libx264")
    before = video.read_bytes()
    refused = call("predict", model_of(trained, "fused"), video, "--overlay", path)
    assert refused.exit_code != 0
    [line] = errors_of(refused)
    assert words in line and video.read_bytes() == before
    two = call("predict", model_of(trained, "fused"), video, video, "--overlay", "o.mp4")
    assert errors_of(two) == ["--overlay o.mp4: one file for 2 videos; pass one video at a time"]


def test_broken_video_leaves_no_overlay(trained, tmp_path):
    video = film(tmp_path / "a.avi", moving(100))
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 3 // 4])
    out = tmp_path / "out"
    failed = call("predict", model_of(trained, "fused"), video, "--overlay", out / "o.mp4", "--timeline", out / "t.csv")
    assert failed.exit_code == 1 and len(errors_of(failed)) == 1
    assert list(out.iterdir()) == []


def test_overlay_keeps_rate_and_length_of_real_clips(trained, shared_data, tmp_path):
    [clip] = shared_data.glob("clips/TrumanShow*")
    overlay(trained, "fused", clip, tmp_path / "o.mp4", "--gate-part", "conv3")
    assert (probe_video(tmp_path / "o.mp4").fps, len(list(decode_video(tmp_path / "o.mp4")))) == (30, 48)


def test_font_with_the_letters_can_be_named(own, tmp_path):
    """Class names in letters that no font of this machine has, and a font made here that has them."""
    builders = pytest.importorskip("fontTools.fontBuilder")
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    path = model_of(own, "appearance")
    network, description = load_checkpoint(path)
    names = [
        "\U00100123\U00100124",
        *description.network.classes[1:],
    ]  # for private use, as 中文 where no font has Chinese
    changed = description.network.model_copy(update={"classes": names})
    network.classes = names
    save_checkpoint(path, network, type(description)(**(vars(description) | {"network": changed})))
    font, glyphs = builders.FontBuilder(1000), {".notdef": 400, "one": 700, "two": 900}
    drawn = {}
    for name, width in glyphs.items():
        pen = TTGlyphPen(None)
        pen.moveTo((50, 0)), pen.lineTo((50, width - 100)), pen.lineTo((width - 50, 0)), pen.closePath()
        drawn[name] = pen.glyph()
    font.setupGlyphOrder(list(glyphs))
    font.setupCharacterMap({0x100123: "one", 0x100124: "two"})
    font.setupGlyf(drawn)
    font.setupHorizontalMetrics({name: (width, 0) for name, width in glyphs.items()})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Made", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(tmp_path / "made.ttf")
    video = film(tmp_path / "a.avi", moving(12))
    line = ["predict", path, video, "--overlay"]
    lacking = call(*line, tmp_path / "a.mp4")
    words = f"no font here has all letters of 1 class name, such as {names[0]!r}; name one with --font"
    assert words in lacking.stderr.splitlines()
    given = call(*line, tmp_path / "b.mp4", "--font", tmp_path / "made.ttf")
    assert given.exit_code == 0 and "no font" not in given.stderr
    one, other = (next(decode_video(tmp_path / name)).astype(int) for name in ("a.mp4", "b.mp4"))
    assert np.abs(one - other).max() > 50
