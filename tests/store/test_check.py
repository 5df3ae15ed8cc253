"""`stmn data check`: what it finds in a set that was damaged, mixed up or imported wrongly, and what it accepts."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import call
from helpers.films import moving
from helpers.made_sets import MadeVideo, make_set
from helpers.shards import change_shard
from torch import Tensor

from stmn.flow.quantise import quantise
from stmn.runtime.json_files import read_record, write_record
from stmn.store.format.jpeg import encode_field, encode_frame
from stmn.store.format.read import Store
from stmn.store.format.shard import FLOW, RGB, picture_key

FRAMES = 24


def wander(seed: int) -> tuple[Tensor, Tensor]:
    """(FRAMES, 48, 64, 3) pictures of a texture whose motion changes with every frame, and the flow in pixels."""
    rng = np.random.default_rng(seed)
    steps = np.stack([rng.integers(1, 6, FRAMES - 1), rng.integers(-3, 1, FRAMES - 1)], axis=1)
    places = np.concatenate([[[0, 0]], steps.cumsum(axis=0)])
    [picture] = moving(1, seed=seed)
    frames = np.stack([np.roll(picture, (y, x), axis=(0, 1)) for x, y in places])
    flow = torch.from_numpy(steps).float()[:, :, None, None].expand(-1, -1, 48, 64)
    return torch.from_numpy(frames), flow


def videos(wrong: int = 0, mistake: Callable[[Tensor], Tensor] = lambda flow: flow) -> list[MadeVideo]:
    """Five videos; the flow of the first `wrong` has the mistake."""
    found = []
    for number in range(5):
        frames, flow = wander(number)
        flow = mistake(flow) if number < wrong else flow
        part = "test" if number == 4 else "train"
        found.append(MadeVideo(f"wave/{number}.mp4", "wave", frames, quantise(flow, 20.0), part))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A set without problems."""
    return make_set(tmp_path / "mine", videos())


def problems(folder: Path) -> list[str]:
    """The lines of problems, once the exit code has been checked."""
    result = call("data", "check", f"{folder}/", "--workers", "1")
    lines = result.stdout.splitlines()
    if result.exit_code == 0:
        [line] = lines
        assert line.endswith("no problems")
        return []
    assert result.exit_code == 1, result.stderr
    assert lines
    assert f"{len(lines)} problem{'s' if len(lines) > 1 else ''}" in result.stderr
    return lines


def change(folder: Path, statement: str, *values: object) -> None:
    """Run SQL on the set's shard."""
    change_shard(folder / "shards" / "000.sqlite", statement, *values)


def change_header(folder: Path, edit: Callable[[dict], None]) -> None:
    header = read_record(folder / "dataset.json")
    edit(header)
    write_record(folder / "dataset.json", header)


def key(folder: Path, video_id: str, kind: int, t: int) -> int:
    with Store(folder) as store:
        return picture_key(store.video(video_id).number, kind, t)


def test_good_set_has_no_problems(folder):
    result = call("data", "check", f"{folder}/")
    assert (result.exit_code, result.stdout) == (
        0,
        f"{folder}: 5 videos, 120 frames, 115 flow fields; flow compared with the frames of 5 videos; no problems\n",
    )
    assert "checking: 5/5 videos" in result.stderr


def test_result_as_json(folder):
    change(folder, "DELETE FROM pictures WHERE key = ?", key(folder, "wave/1.mp4", RGB, 7))
    result = call("data", "check", f"{folder}/", "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    assert json.loads(result.stdout) == {
        "path": str(folder), "videos": 5, "skipped": 0, "frames": 119, "fields": 115, "judged": 5,
        "problems": ["video 'wave/1.mp4': lacks 1 of 24 frames, the first: 7"],
    }  # fmt: skip


# flow and frames

MISTAKES = {
    "u and v are swapped": lambda f: f.flip(1),
    "u and v have the wrong sign": lambda f: -f,
    "u has the wrong sign": lambda f: f * torch.tensor([-1.0, 1.0])[:, None, None],
    "v has the wrong sign": lambda f: f * torch.tensor([1.0, -1.0])[:, None, None],
    "flow is numbered one too high": lambda f: f.roll(1, dims=0),
    "flow is numbered one too low": lambda f: f.roll(-1, dims=0),
    "flow fits the frames worse than no flow": lambda f: 4 * f + 7,
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistake_in_the_flow_of_a_video_is_found(words, tmp_path):
    [line] = problems(make_set(tmp_path / "mine", videos(1, MISTAKES[words])))
    assert line.startswith(f"video 'wave/0.mp4': {words} (where it moves, frame t + 1 seen along the flow differs")


def test_mistake_of_all_videos_is_reported_once(tmp_path):
    [line] = problems(make_set(tmp_path / "mine", videos(5, MISTAKES["u and v are swapped"])))
    assert line.startswith("u and v are swapped in 5 of 5 videos, the first: 'wave/0.mp4' (")


@pytest.mark.parametrize("level", [128, 0])
def test_constant_flow_of_changing_frames_is_found(level, tmp_path):
    made = videos()
    made[2] = MadeVideo(made[2].id, "wave", made[2].frames, torch.full_like(made[2].levels, level))
    assert problems(make_set(tmp_path / "mine", made)) == [
        f"video 'wave/2.mp4': flow is constant (level {level} for u, {level} for v) although the frames change"
    ]


def test_still_video_is_fine(tmp_path):
    made = videos()
    still = torch.from_numpy(np.stack(moving(1) * FRAMES))
    made[0] = MadeVideo(made[0].id, "wave", still, torch.full((FRAMES - 1, 2, 48, 64), 128, dtype=torch.uint8))
    folder = make_set(tmp_path / "mine", made)
    assert problems(folder) == []
    assert "compared with the frames of 4 videos" in call("data", "check", f"{folder}/").stdout


def test_videos_too_short_to_judge_are_fine(tmp_path):
    made = [
        MadeVideo(v.id, "wave", v.frames[:3], v.levels[:2], v.part) for v in videos(5, MISTAKES["u and v are swapped"])
    ]
    assert problems(make_set(tmp_path / "mine", made)) == []


def test_subtracted_camera_motion_is_not_a_mistake(tmp_path):
    # what is left is the motion of a few objects, which does not lead from one frame to the next
    rest = torch.zeros(FRAMES - 1, 2, 48, 64)
    rest[:, :, 10:20, 10:20] = 3
    folder = make_set(tmp_path / "mine", videos(5, lambda flow: rest))
    assert problems(folder) != []
    change_header(folder, lambda header: header["preparation"].update(camera_motion="subtract"))
    assert problems(folder) == []


@pytest.mark.parametrize("flow", ["farneback", "tvl1"])
def test_real_clips_and_their_mistakes(flow, tmp_path, shared_data):
    for name in ("kick", "hug", "push"):
        (tmp_path / "v" / name).mkdir(parents=True)
        shutil.copy(shared_data / "ut_interaction" / "videos" / name / f"v_{name}_g01_c01.avi", tmp_path / "v" / name)
    result = call("prepare", tmp_path / "v", "mine", "-w", tmp_path, "--short-side", "64", "--flow", flow)
    assert result.exit_code == 0, result.stderr
    folder = tmp_path / "data" / "mine"
    assert problems(folder) == []

    with Store(folder) as store:
        video = store.video("kick/v_kick_g01_c01.avi")
        fields = store.fields(video.id, range(video.frames - 1))
        path = store.shards[video.shard]
    connection = sqlite3.connect(path)
    for t, field in enumerate(fields):
        # the previous frame's field, as an import that counts from both 0 and 1 would store it
        statement = "UPDATE pictures SET jpeg = ? WHERE key = ?"
        late = picture_key(video.number, FLOW, (t + 1) % len(fields))
        connection.execute(statement, (encode_field(field, 95), late))
    connection.commit()
    connection.close()
    changed, line = problems(folder)
    assert changed == "video 'kick/v_kick_g01_c01.avi': its pictures are not the ones that prepare wrote (checksum)"
    assert line.startswith("video 'kick/v_kick_g01_c01.avi': flow is numbered one too high (")


# records


@pytest.mark.parametrize(("kind", "what", "count"), [(RGB, "frame", 24), (FLOW, "flow field", 23)])
def test_missing_and_extra_pictures_are_found(kind, what, count, folder):
    for t in (3, 9):
        change(folder, "DELETE FROM pictures WHERE key = ?", key(folder, "wave/1.mp4", kind, t))
    change(
        folder, "INSERT INTO pictures SELECT ?, jpeg, NULL FROM pictures LIMIT 1", key(folder, "wave/3.mp4", kind, 99)
    )
    found = problems(folder)
    assert f"video 'wave/1.mp4': lacks 2 of {count} {what}s, the first: 3" in found
    assert f"video 'wave/3.mp4': has 1 {what}s beyond its {count}, the first: 99" in found


@pytest.mark.parametrize(("kind", "what"), [(RGB, "frame"), (FLOW, "flow field")])
@pytest.mark.parametrize("damage", [lambda b: b"no JPEG", lambda b: b"", lambda b: b[: len(b) // 2]])
def test_damaged_picture_is_found(kind, what, damage, folder):
    there = key(folder, "wave/1.mp4", kind, 5)
    with Store(folder) as store:
        [blob] = store.jpegs("wave/1.mp4", kind, [5])
    change(folder, "UPDATE pictures SET jpeg = ? WHERE key = ?", damage(blob), there)
    assert problems(folder) == [f"video 'wave/1.mp4': 1 {what} can't be read as JPEG, the first: 5"]


@pytest.mark.parametrize("kind", [RGB, FLOW])
def test_readable_but_changed_picture_is_found(kind, folder):
    """Bits that flipped where JPEG does not notice, or two pictures that were exchanged."""
    there = key(folder, "wave/1.mp4", kind, 5)
    with Store(folder) as store:
        [blob] = store.jpegs("wave/1.mp4", kind, [5])
    marker = blob.index(b"JFIF") + 7  # in the header, not in the picture
    change(folder, "UPDATE pictures SET jpeg = ? WHERE key = ?",
           blob[:marker] + bytes([blob[marker] ^ 2]) + blob[marker + 1 :], there)  # fmt: skip
    change(folder, "UPDATE pictures SET key = ? WHERE key = ?", -1, key(folder, "wave/2.mp4", kind, 5))
    change(folder, "UPDATE pictures SET key = key - 1 WHERE key = ?", key(folder, "wave/2.mp4", kind, 6))
    change(folder, "UPDATE pictures SET key = ? WHERE key = -1", key(folder, "wave/2.mp4", kind, 6))
    assert problems(folder) == [
        f"video 'wave/{n}.mp4': its pictures are not the ones that prepare wrote (checksum)" for n in (1, 2)
    ]


def test_picture_of_another_size_is_found(folder):
    for kind, blob in ((RGB, encode_frame(torch.zeros(50, 64, 3, dtype=torch.uint8), 90)),
                       (FLOW, encode_field(torch.zeros(2, 48, 60, dtype=torch.uint8), 90))):  # fmt: skip
        change(folder, "UPDATE pictures SET jpeg = ? WHERE key = ?", blob, key(folder, "wave/1.mp4", kind, 5))
    assert problems(folder) == [
        "video 'wave/1.mp4': 1 frame is not 64 x 48, the first: 5 (64 x 50)",
        "video 'wave/1.mp4': 1 flow field is not 64 x 48, the first: 5 (60 x 48)",
    ]


def test_rows_that_contradict_the_header_are_found(folder):
    change(folder, "INSERT INTO pictures SELECT (99 << 33), jpeg, NULL FROM pictures LIMIT 1")
    change(folder, "UPDATE videos SET bound = 10 WHERE id = 'wave/1.mp4'")
    change(folder, "UPDATE videos SET class = 'clap' WHERE id = 'wave/2.mp4'")
    assert problems(folder) == [
        "video 'wave/1.mp4': flow of bound 10 px in a set of bound 20 px",
        "video 'wave/2.mp4': its class 'clap' is not in the header's list",
        f"{folder}/shards/000.sqlite: 1 picture belongs to no video",
    ]


def test_video_stored_twice_is_found(folder):
    shutil.copy(folder / "shards" / "000.sqlite", folder / "shards" / "001.sqlite")
    assert "video 'wave/0.mp4': is in 000.sqlite and in 001.sqlite" in problems(folder)


# shards and splits


def test_journal_of_an_interrupted_prepare_is_found(folder):
    journal = folder / "shards" / "000.sqlite-journal"
    journal.write_bytes(b"")
    assert problems(folder) == [f"{journal}: left by an interrupted prepare; run prepare again to finish it"]


@pytest.mark.parametrize("damage", [
    lambda p: p.write_bytes(b"\0" * 40000), lambda p: p.write_bytes(b""),
    lambda p: p.write_bytes(p.read_bytes()[:20000] + bytes(20000) + p.read_bytes()[40000:]),
], ids=["zeros", "empty", "middle"])  # fmt: skip
def test_damaged_shard_is_found(damage, folder):
    damage(folder / "shards" / "000.sqlite")
    [line] = problems(folder)
    assert line.startswith(f"{folder}/shards/000.sqlite: is damaged: ")
    assert line.endswith("; delete that file and run the command that wrote it again")


def test_set_without_shards_is_found(folder):
    shutil.rmtree(folder / "shards")
    assert problems(folder) == [f"{folder}/shards: no shards; prepare the set again"]


def test_damaged_header_is_one_line(folder):
    (folder / "dataset.json").write_text("{")
    result = call("data", "check", f"{folder}/")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {folder}/dataset.json: is damaged: ")


def test_problems_of_splits_are_found(folder):
    def edit(header: dict) -> None:
        train, test = header["splits"]["1"]["train"], header["splits"]["1"]["test"]
        test += [train[0], "wave/none.mp4", "wave/nobody.mp4", "wave/4.mp4"]

    change_header(folder, edit)
    change(folder, "UPDATE videos SET grp = 'anna' WHERE id IN ('wave/2.mp4', 'wave/3.mp4', 'wave/4.mp4')")
    assert problems(folder) == [
        "split 1, test: 2 of 5 listed videos are not in the set, the first: 'wave/none.mp4'",
        "split 1, test: lists 1 video twice, the first: 'wave/4.mp4'",
        "split 1: 1 video is in train and in test, the first: 'wave/0.mp4'",
        "split 1: 1 group is in train and in test, the first: 'anna' ('wave/2.mp4', 'wave/4.mp4')",
    ]


def test_same_file_in_both_parts_under_two_names_is_found(folder):
    change(folder, "UPDATE videos SET source_hash = 'abc' WHERE id IN ('wave/1.mp4', 'wave/2.mp4', 'wave/4.mp4')")
    line = "split 1: 1 video of test is in train under another name, the first: 'wave/4.mp4' (as 'wave/1.mp4')"
    assert problems(folder) == [line]
    assert line in call("data", "info", f"{folder}/").stdout


def test_skipped_video_is_not_a_problem(folder):
    change(folder, "UPDATE videos SET status = 'skipped', reason = 'holds no frames' WHERE id = 'wave/1.mp4'")
    change(folder, "DELETE FROM pictures WHERE key >> 33 = (SELECT number FROM videos WHERE id = 'wave/1.mp4')")
    assert problems(folder) == []
    assert "4 videos (1 skipped by prepare)" in call("data", "check", f"{folder}/").stdout


# the same recording on both sides of a split


def test_recording_encoded_again_or_mirrored_is_named(tmp_path):
    frames, flow = wander(0)
    darker = (frames.float() * 0.8 + torch.randn(frames.shape) * 3 + 8).clamp(0, 255).to(torch.uint8)
    mirrored = quantise(flow * torch.tensor([-1.0, 1.0])[:, None, None], 20.0)
    copies = [
        MadeVideo("wave/dark.mp4", "wave", darker, quantise(flow, 20.0), "test"),
        MadeVideo("wave/mirror.mp4", "wave", frames.flip(2), mirrored, "test"),
    ]
    made = make_set(tmp_path / "mine", [*videos(), *copies])
    assert problems(made) == [
        "split 1: 2 videos of test look like videos of train, the first: 'wave/dark.mp4' (like 'wave/0.mp4')"
    ]


def test_two_videos_of_a_fixed_camera_are_no_copies(tmp_path):
    """The pictures are nearly the same: one small square moves over them, elsewhere in each video."""
    [background] = moving(1, seed=1)
    made = []
    for number, (x, y) in enumerate([(4, 4), (24, 30)]):
        frames = torch.from_numpy(np.stack([background] * FRAMES))
        flow = torch.zeros(FRAMES - 1, 2, 48, 64)
        for t in range(FRAMES):
            frames[t, y : y + 8, x + t : x + t + 8] = 255
            flow[t - 1 : t, 0, y : y + 8, x + t - 1 : x + t + 7] = 1
        part = "test" if number else "train"
        made.append(MadeVideo(f"wave/{number}.mp4", "wave", frames, quantise(flow, 20.0), part))
    assert [line for line in problems(make_set(tmp_path / "mine", made)) if "look like" in line] == []


def test_copies_in_folds_are_one_line(folder):
    """Each fold would tell the same story."""
    change(folder, "UPDATE videos SET source_hash = 'same' WHERE id IN ('wave/0.mp4', 'wave/4.mp4', 'wave/2.mp4')")
    ids = [f"wave/{n}.mp4" for n in range(5)]

    def edit(header: dict) -> None:
        header["splits"] = {str(n + 1): {"train": ids[:n] + ids[n + 1 :], "test": [ids[n]]} for n in range(5)}

    change_header(folder, edit)
    [line] = problems(folder)
    assert line == (
        "split 1: 1 video of test is in train under another name, the first: 'wave/0.mp4' (as 'wave/2.mp4'); "
        "3 of 5 splits have such videos"
    )


def test_same_file_in_two_classes_is_found(tmp_path):
    frames, flow = wander(0)
    made = [
        MadeVideo(f"{name}/a.mp4", name, frames, quantise(flow, 20.0), "train", content="same")
        for name in ("wave", "clap")
    ]
    assert problems(make_set(tmp_path / "mine", made)) == [
        "1 pair of videos is the same file in two classes, the first: 'clap/a.mp4' and 'wave/a.mp4'"
    ]
