"""Is a prepared set whole and right? Its shards, pictures and splits, and whether flow fits the frames."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from stmn.errors import DataError
from stmn.runtime.progress import Progress
from stmn.store.format.reader import Store
from stmn.store.format.writer import shard_paths
from stmn.store.inspect.check_video import VideoFindings, check_video
from stmn.store.inspect.lookup import quoted

#: a trouble that more videos than this share is told once, with their number
SINGLY = 3


@dataclass
class Checked:
    """What `check_set` looked at, and a line for every problem.

    `judged`: videos in which enough moves to say whether flow fits the frames.
    """

    videos: int = 0
    skipped: int = 0
    frames: int = 0
    fields: int = 0
    judged: int = 0
    problems: list[str] = field(default_factory=list)


def check_set(folder: Path, progress: Progress, workers: int = 1) -> Checked:
    """Check a prepared set, `workers` videos at a time.

    Raises `DataError` when its header can't be read. With a damaged shard the videos are not looked at.
    """
    result = Checked(problems=list(shard_problems(folder)))
    if result.problems:
        return result
    with Store(folder) as store:
        result.problems += [*row_problems(store), *split_problems(store)]
        found = check_videos(store, progress, workers, len(result.problems))
    result.videos, result.skipped = len(found), len(store.videos) - len(found)
    for one in found:
        result.frames += one.frames
        result.fields += one.fields
        result.problems += one.problems
    result.judged = sum(one.fit.judged for one in found)
    result.problems += fit_problems(found)
    return result


def check_videos(store: Store, progress: Progress, workers: int, problems: int) -> list[VideoFindings]:
    """What is found in every readable video, in the order of their ids."""
    ids = sorted(video.id for video in store.videos.values() if video.status == "ok")
    found: dict[str, VideoFindings] = {}
    frames = 0
    # decoding and SQLite let other threads run meanwhile
    with progress.task("checking", len(ids), "videos") as task, ThreadPoolExecutor(max(workers, 1)) as threads:
        jobs = {threads.submit(check_video, store, video_id): video_id for video_id in ids}
        try:
            for job in as_completed(jobs):
                one = found[jobs[job]] = job.result()
                frames += one.frames
                problems += len(one.problems) + bool(one.fit.mistake)
                task.advance(frames=frames, problems=problems)
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    return [found[video_id] for video_id in ids]


def shard_problems(folder: Path) -> Iterator[str]:
    """Shards that SQLite finds damaged, that are half-written, or that are not there."""
    paths = shard_paths(folder)
    if not paths:
        yield f"{folder / 'shards'}: no shards; prepare the set again"
    for journal in sorted((folder / "shards").glob("*-journal")):
        yield f"{journal}: left by an interrupted prepare; run prepare again to finish it"
    for path in paths:
        if path.with_name(path.name + "-journal").exists():
            continue
        try:
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
            try:
                words = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                connection.execute("SELECT 1 FROM videos, pictures LIMIT 1").fetchone()
            finally:
                connection.close()
        except sqlite3.DatabaseError as error:
            words = str(error)
        if words != "ok":
            words = " ".join(words.replace("*** in database main ***", "").split())
            yield f"{path}: damaged shard: {words}; delete the file and prepare again"


def row_problems(store: Store) -> Iterator[str]:
    """Videos that are there twice or don't fit the header, and pictures of no video."""
    seen: dict[str, int] = {}
    bound = store.header.preparation.bound
    for shard, path in enumerate(store.shards):
        try:
            for video_id, status, class_name, its_bound in store.query(
                shard, "SELECT id, status, class, bound FROM videos ORDER BY id"
            ):
                if video_id in seen:
                    yield f"video {quoted(video_id)}: is in {store.shards[seen[video_id]].name} and in {path.name}"
                seen[video_id] = shard
                if class_name not in store.header.classes:
                    yield f"video {quoted(video_id)}: its class {quoted(class_name)} is not in the header's list"
                if status == "ok" and its_bound != bound:
                    yield f"video {quoted(video_id)}: flow of bound {its_bound:g} px in a set of bound {bound:g} px"
            [(orphans,)] = store.query(
                shard,
                "SELECT COUNT(*) FROM pictures WHERE (key >> 33) NOT IN "
                "(SELECT number FROM videos WHERE status = 'ok')",
            )
        except DataError as error:
            yield str(error)
            continue
        if orphans:
            yield f"{path}: {orphans} pictures belong to no video"


def split_problems(store: Store) -> Iterator[str]:
    """Lists that name videos which are not there, and parts that share videos or groups.

    A video that was skipped is there: prepare said so, with the reason.
    """
    for split, parts in store.header.splits.items():
        for part, ids in parts.items():
            missing = [i for i in ids if i not in store.videos]
            if missing:
                yield (
                    f"split {split}, {part}: {len(missing)} of {len(ids)} listed videos are not in the set, "
                    f"the first: {quoted(missing[0])}"
                )
            twice = sorted(i for i, times in Counter(ids).items() if times > 1)
            if twice:
                yield f"split {split}, {part}: lists {len(twice)} videos twice, the first: {quoted(twice[0])}"
        for (one, its), (other, others) in combinations(parts.items(), 2):
            common = sorted(set(its) & set(others))
            if common:
                yield f"split {split}: {len(common)} videos are in {one} and in {other}, the first: {quoted(common[0])}"
            here, there = by_group(store, its), by_group(store, others)
            shared = sorted(group for group in here.keys() & there.keys() if here[group] != there[group])
            if shared:
                first = shared[0]
                yield (
                    f"split {split}: {len(shared)} groups are in {one} and in {other}, the first: {quoted(first)} "
                    f"({quoted(here[first])}, {quoted(there[first])})"
                )


def by_group(store: Store, ids: Iterable[str]) -> dict[str, str]:
    """Group -> its first video among `ids`; videos without a group are left out."""
    found: dict[str, str] = {}
    for video_id in ids:
        video = store.videos.get(video_id)
        if video is not None and video.group:
            found.setdefault(video.group, video_id)
    return found


def fit_problems(found: list[VideoFindings]) -> Iterator[str]:
    """Mistakes in flow: video by video where few have one, else once with their number; or of the set as a whole."""
    judged = [one for one in found if one.fit.judged]
    by_mistake: dict[str, list[VideoFindings]] = {}
    for one in judged:
        if one.fit.mistake:
            by_mistake.setdefault(one.fit.words, []).append(one)
    for words, those in by_mistake.items():
        if len(those) <= SINGLY:
            for one in those:
                yield f"video {quoted(one.id)}: {words} ({one.fit.evidence})"
        else:
            first = those[0]
            yield (
                f"{words} in {len(those)} of {len(judged)} videos, the first: {quoted(first.id)} ({first.fit.evidence})"
            )
    if judged and not by_mistake:
        whole = judged[0].fit
        for one in judged[1:]:
            whole = whole + one.fit
        if whole.mistake:
            yield f"taken together: {whole.words} ({whole.evidence})"
