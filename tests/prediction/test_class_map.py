"""`stmn predict --overlay --explain CLASS`: where each stream sees what speaks for a class (Grad-CAM)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import call, errors_of
from helpers.films import film, moving
from helpers.networks import randomize_norms
from helpers.predicting import model_of

import stmn
from stmn.prediction.api import Model
from stmn.prediction.class_map import ClassMap
from stmn.prediction.frame_maps import frame_inputs
from stmn.prediction.windows import read_frames
from stmn.video.decode import decode_video, iter_frames, probe_video


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return film(tmp_path_factory.mktemp("videos") / "a.mkv", moving(12), "ffv1", "yuv444p")


def load(trained, name: str, stream: str | None = None) -> Model:
    """A model with statistics and gains that a short training leaves at 1 and 0."""
    model = stmn.load(model_of(trained, name), stream=stream)
    randomize_norms(model.network)
    return model


@pytest.mark.parametrize(("name", "stream", "streams"), [
    ("fused", None, ["appearance", "motion"]),
    ("fused", "motion", ["motion"]),
    ("appearance", None, ["appearance"]),
])  # fmt: skip
def test_maps_at_conv5_are_those_of_the_classifiers_weights(name, stream, streams, trained, video):
    """A mean over places and a linear layer follow conv5, so alpha_k (eq. 1) is the class's weight over places."""
    model = load(trained, name, stream)
    frames = list(read_frames(model, iter_frames(video)))
    with torch.no_grad():
        last = model.network.feature_maps(*frame_inputs(model, frames, range(3, 7)))
    maps, strongest = dict(zip(model.network.names, last, strict=True)), 0.0
    for row, class_name in enumerate(model.classes):
        explained = ClassMap(model, class_name, "conv5")
        found = explained.compute_maps(frames, range(3, 7))
        strongest = max(strongest, float(found.max()))
        assert explained.streams == streams and found.shape[:2] == (4, len(streams))
        for number, one in enumerate(streams):
            weights = model.network.stream(one).fc.weight[row]
            places = maps[one].shape[-1] * maps[one].shape[-2] * len(streams)
            expected = torch.einsum("k,nkhw->nhw", weights, maps[one]).relu() / places
            torch.testing.assert_close(found[:, number], expected, rtol=1e-4, atol=1e-7)
    assert strongest > 0


def test_maps_of_earlier_parts_tell_what_changes_the_logit(trained, video):
    """alpha_k is how fast the logit grows with all places of A_k, measured by growing them."""
    model, part = load(trained, "fused"), "conv3"
    network = model.network.double()
    frames = list(read_frames(model, iter_frames(video)))
    inputs = [x.double() for x in frame_inputs(model, frames, range(5, 6))]
    with torch.no_grad():
        before = network.run_parts(network.run_stems(*inputs), ("conv2", "conv3"), 1)

        def logits(appearance: torch.Tensor) -> torch.Tensor:
            states = [before[0]._replace(out=appearance), before[1]]
            last = network.run_parts(states, ("conv4", "conv5"), 1)
            return torch.stack(network.classify([x.out for x in last], 1)).mean(dim=0)[0, 0]

        a, step = before[0].out, 1e-6
        alpha = []  # for each channel, of all classes
        for k in range(a.shape[1]):
            grown = a.clone()
            grown[:, k] += step
            alpha.append((logits(grown) - logits(a)) / step / a[0, 0].numel())
        expected = torch.einsum("kc,nkhw->cnhw", torch.stack(alpha).to(a.dtype), a).relu()[:, 0]
    network.float()
    assert float(expected.max()) > 0
    for name, wanted in zip(model.classes, expected, strict=True):  # nothing may speak for some
        found = ClassMap(model, name, part).compute_maps(frames, range(5, 6))[0, 0]
        torch.testing.assert_close(found.double(), wanted, rtol=1e-2, atol=1e-3 * float(expected.max()))


def test_overlay_has_a_panel_for_each_stream(trained, video, tmp_path):
    plain, explained = tmp_path / "plain.mp4", tmp_path / "explained.mp4"
    for path, flags in ((plain, ()), (explained, ("--explain", "right"))):
        made = call("predict", model_of(trained, "fused"), video, "--overlay", path, *flags)
        assert made.exit_code == 0, made.stderr
    column = (probe_video(explained).width - probe_video(plain).width) // 2
    assert 300 <= column <= 480 + 12
    few, many = (next(decode_video(path)).astype(int) for path in (plain, explained))
    assert np.abs(few[:, : few.shape[1] - 12] - many[:, : few.shape[1] - 12]).mean() < 2, "the rest is as it was"
    assert len(list(decode_video(explained))) == 12


@pytest.mark.parametrize(("flags", "words"), [
    (("--overlay", "o.mp4", "--explain", "Left"),
     "--explain Left: the model has no such class (did you mean 'left'?); it has: down, left, right, up"),
    (("--explain", "left"), "--explain needs an overlay: add --overlay OUT.mp4"),
])  # fmt: skip
def test_wrong_explanations_are_one_line(flags, words, trained, video, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = call("predict", model_of(trained, "fused"), video, *flags)
    assert (refused.exit_code, errors_of(refused)) == (2, [words]) and not list(tmp_path.iterdir())
