"""Scores files: what they hold, what is refused, and late fusion."""

import json

import pytest
import torch
from safetensors.torch import save_file

from stmn.errors import CheckpointError, DataError
from stmn.evaluation.scores import Scores, fuse_late, load_scores


def scores(ids: str, seed: int = 0, streams: tuple[str, ...] = ("appearance",), classes: str = "pqr") -> Scores:
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(len(ids), len(classes), generator=generator) for name in streams}
    return Scores(list(ids), list(classes), [n % len(classes) for n in range(len(ids))], tensors, {"chunks": 25})


def reordered(part: Scores, ids: str) -> Scores:
    rows = [part.ids.index(i) for i in ids]
    labels = [part.labels[row] for row in rows]
    return Scores(list(ids), part.classes, labels, {k: v[rows] for k, v in part.streams.items()}, part.protocol)


def test_scores_file_round_trip(tmp_path):
    saved = scores("abcd", streams=("appearance", "motion"))
    saved.save(tmp_path / "scores.safetensors")
    loaded = load_scores(tmp_path / "scores.safetensors")
    for name in ("ids", "classes", "labels", "protocol"):
        assert getattr(loaded, name) == getattr(saved, name)
    assert all(torch.equal(loaded.streams[name], saved.streams[name]) for name in saved.streams)


def test_old_scores_files_that_call_chunks_frames_load(tmp_path):
    old = {"words": "25 frames, no mirrors, whole frames, one mean over places", "frames": 25, "flips": False}
    new = {"words": "25 chunks, no mirrors, whole frames, global average", "chunks": 25, "flips": False}
    for protocol, expected in (
        (old, new),
        (old | {"parts": [old, old], "idt": old}, new | {"parts": [new, new], "idt": new}),
    ):
        part = scores("abc")
        Scores(part.ids, part.classes, part.labels, part.streams, protocol).save(tmp_path / "old.safetensors")
        assert load_scores(tmp_path / "old.safetensors").protocol == expected


def test_stream_mean_is_equal_or_weighted():
    part = scores("ab", streams=("appearance", "motion"))
    appearance, motion = part.streams.values()
    torch.testing.assert_close(part.mean(), (appearance + motion) / 2)
    torch.testing.assert_close(part.mean([1, 3]), (appearance + 3 * motion) / 4)


BROKEN = {
    "fewer ids than rows": {"ids": ["a", "b"]},
    "fewer labels than rows": {"labels": [0]},
    "a label that is no class": {"labels": [0, 1, 3]},
    "fewer classes than columns": {"classes": ["p", "q"]},
    "no protocol": {"protocol": None},
    "a protocol whose words are none": {"protocol": {"words": ["a"]}},
    "a protocol of parts that are no tables": {"protocol": {"parts": "x"}},
    "a protocol that counts in words": {"protocol": {"seen_in_training": "some"}},
    "no ids": {"ids": None},
    "two rows of one video": {"ids": ["a", "b", "a"]},
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_contradictory_scores_file_is_refused(change, tmp_path):
    about = {"ids": ["a", "b", "c"], "classes": ["p", "q", "r"], "labels": [0, 1, 2], "protocol": {}} | change
    about = {key: value for key, value in about.items() if value is not None}
    path = tmp_path / "scores.safetensors"
    save_file({"svm": torch.zeros(3, 3)}, path, metadata={"stmn": json.dumps({"scores": about})})
    with pytest.raises(DataError, match=r"scores\.safetensors: ") as error:
        load_scores(path)
    assert "\n" not in str(error.value)


def test_scores_of_no_video_or_that_are_no_numbers_are_refused(tmp_path):
    path = tmp_path / "scores.safetensors"
    part = scores("abc")
    Scores([], part.classes, [], {"svm": torch.zeros(0, 3)}, {}).save(path)
    with pytest.raises(DataError, match=r"scores\.safetensors: it scores no video"):
        load_scores(path)
    for value in (float("nan"), float("inf")):
        part.streams["appearance"][1, 2] = value
        part.save(path)
        with pytest.raises(DataError, match=r"scores\.safetensors: appearance has scores that are NaN or infinite"):
            load_scores(path)


def test_file_without_scores_is_refused(trained, tmp_path):
    with pytest.raises(DataError, match="holds no scores"):
        load_scores(trained.newest("model").output("model"))
    scores("abc").save(tmp_path / "cut.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "cut.safetensors").read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="is damaged"):
        load_scores(tmp_path / "cut.safetensors")


def test_late_fusion_matches_rows_by_id():
    appearance, motion = scores("abcde", 1, ("appearance",)), scores("abcde", 2, ("motion",))
    fused = fuse_late([appearance, reordered(motion, "ecadb")], None, ["first", "second"])
    assert fused.ids == appearance.ids and fused.labels == appearance.labels
    expected = (appearance.streams["appearance"] + motion.streams["motion"]) / 2
    torch.testing.assert_close(fused.mean(), expected)
    assert list(fused.streams) == ["appearance", "motion"]


def test_late_fusion_weights_the_mean_of_each_parts_streams():
    fused_net, motion = scores("abc", 1, ("appearance", "motion")), scores("abc", 2, ("motion",))
    result = fuse_late([fused_net, motion], [1, 3], ["first", "second"])  # motion x 3, as the paper for HMDB51
    torch.testing.assert_close(result.mean(), (fused_net.mean() + 3 * motion.mean()) / 4)
    assert result.protocol["late_fusion_weights"] == [1, 3]


def test_late_fusion_of_two_models_of_one_modality_keeps_both():
    parts = [scores("abc", 1), scores("abc", 2)]
    result = fuse_late(parts, None, ["first", "second"])
    torch.testing.assert_close(result.mean(), (parts[0].mean() + parts[1].mean()) / 2)


@pytest.mark.parametrize(
    ("second", "what"),
    [
        (scores("abd"), "second: does not score the same videos: no scores of 'c'"),
        (scores("ab"), "no scores of 'c'"),
        (scores("abcd"), "4 rows for 3 videos"),
        (scores("abcc"), "4 rows for 3 videos"),
        (scores("abc", classes="pqs"), "second: scores of other classes"),
        (scores("abc", classes="prq"), "second: scores of other classes"),
    ],
    ids=["another video", "a video fewer", "a video more", "a video twice", "another class", "another order"],
)
def test_late_fusion_of_unlike_scores_is_refused(second, what):
    with pytest.raises(DataError, match=what):
        fuse_late([scores("abc"), second], None, ["first", "second"])


def test_late_fusion_refuses_duplicates_and_wrong_weights():
    with pytest.raises(DataError, match="first: does not score the same videos"):
        fuse_late([scores("aab"), scores("abc")], None, ["first", "second"])
    for weights in ([1.0], [1.0, 2.0, 3.0]):
        with pytest.raises(DataError, match=rf"late fusion of 2 scores with {len(weights)} weight"):
            fuse_late([scores("abc"), scores("abc")], weights, ["first", "second"])
    for weights in ([0.0, 0.0], [1.0, -1.0]):
        with pytest.raises(DataError, match="weights"):
            fuse_late([scores("abc"), scores("abc")], weights, ["first", "second"])
