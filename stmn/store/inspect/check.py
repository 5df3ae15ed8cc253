"""Check a prepared set: its shards, pictures and splits, and whether its flow matches its frames."""

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from stmn.errors import DataError, count_of
from stmn.flow.fit import Fit
from stmn.runtime.progress import Progress
from stmn.store.format.read import Store
from stmn.store.format.shard import CHECKSUMMED, DAMAGE, REMEDY, check_rows, journal_path, open_read_only, shard_paths
from stmn.store.inspect.check_video import VideoFindings, check_video
from stmn.store.inspect.copies import find_copies
from stmn.store.inspect.lookup import quote_id
from stmn.store.inspect.near_copies import find_near_copies

#: a mistake in more videos than this is reported once, with their number
_MOST_LINES = 3


@dataclass
class CheckResult:
    """What `check_set` counted, and a line per problem.

    `judged` counts the videos with enough motion to say whether flow matches the frames.
    """

    videos: int = 0
    skipped: int = 0
    frames: int = 0
    fields: int = 0
    judged: int = 0
    problems: list[str] = field(default_factory=list)


def check_set(folder: Path, progress: Progress, workers: int = 1) -> CheckResult:
    """Check a prepared set. If a shard is damaged, the videos are not checked.

    Args:
        folder: The prepared set.
        progress: Where each video is reported.
        workers: Videos to check at a time.

    Raises:
        DataError: The header can't be read.
    """
    result = CheckResult(problems=list(_check_shards(folder)))
    if result.problems:
        return result
    with Store(folder) as store:
        result.problems += [*_check_rows(store), *_check_splits(store), *find_copies(store)]
        found = _check_videos(store, progress, workers, len(result.problems))
        looks = {video.id: video.look for video in found if video.look is not None}
        result.problems += find_near_copies(store, looks)
    result.videos, result.skipped = len(found), len(store.videos) - len(found)
    for video in found:
        result.frames += video.frames
        result.fields += video.fields
        result.problems += video.problems
    result.judged = sum(video.fit.judged for video in found)
    result.problems += _flow_problems(found)
    return result


def _check_shards(folder: Path) -> Iterator[str]:
    """Yield a line per shard that is damaged or half written, or for a set without shards."""
    paths = shard_paths(folder)
    if not paths:
        yield f"{folder / 'shards'}: no shards; prepare the set again"
    for journal in sorted((folder / "shards").glob("*-journal")):
        yield f"{journal}: left by an interrupted prepare; run prepare again to finish it"
    for path in paths:
        if journal_path(path).exists():
            continue
        try:
            with closing(open_read_only(path)) as connection:
                words = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                connection.execute("SELECT 1 FROM pictures LIMIT 1").fetchone()
                for table in CHECKSUMMED if words == "ok" else ():
                    check_rows(connection, table, path)
        except DataError as error:
            yield str(error)
            continue
        except DAMAGE as error:
            words = str(error)
        if words != "ok":
            words = " ".join(words.replace("*** in database main ***", "").split())
            yield f"{path}: is damaged: {words}; {REMEDY}"


def _check_rows(store: Store) -> Iterator[str]:
    """Yield a line per video that is stored twice or contradicts the header, and for pictures without a video."""
    seen: dict[str, int] = {}
    set_bound = store.header.preparation.bound
    for shard, path in enumerate(store.shards):
        try:
            videos = store.query(shard, "SELECT id, status, class, bound FROM videos ORDER BY id")
            for video_id, status, class_name, bound in videos:
                if video_id in seen:
                    yield f"video {quote_id(video_id)}: is in {store.shards[seen[video_id]].name} and in {path.name}"
                seen[video_id] = shard
                if video_id in store.header.gone:
                    continue
                if class_name not in store.header.classes:
                    yield f"video {quote_id(video_id)}: its class {quote_id(class_name)} is not in the header's list"
                if status == "ok" and bound != set_bound:
                    yield f"video {quote_id(video_id)}: flow of bound {bound:g} px in a set of bound {set_bound:g} px"
            [(orphans,)] = store.query(
                shard,
                "SELECT COUNT(*) FROM pictures WHERE (key >> 33) NOT IN "
                "(SELECT number FROM videos WHERE status = 'ok')",
            )
        except DataError as error:
            yield str(error)
            continue
        if orphans:
            yield f"{path}: {count_of(orphans, 'picture belongs', 'pictures belong')} to no video"


def _check_splits(store: Store) -> Iterator[str]:
    """Yield a line per part with unknown or duplicate videos, and per pair of parts that share videos or groups.

    Skipped videos are not unknown: prepare reported them, with the reason.
    """
    for split, parts in store.header.splits.items():
        for part, ids in parts.items():
            missing = [i for i in ids if i not in store.videos]
            if missing:
                yield (
                    f"split {split}, {part}: {len(missing):,} of {count_of(len(ids), 'listed video')} "
                    f"{'is' if len(missing) == 1 else 'are'} not in the set, "
                    f"the first: {quote_id(missing[0])}"
                )
            twice = sorted(i for i, times in Counter(ids).items() if times > 1)
            if twice:
                count = count_of(len(twice), "video")
                yield f"split {split}, {part}: lists {count} twice, the first: {quote_id(twice[0])}"
        for (one, ids), (other, other_ids) in combinations(parts.items(), 2):
            common = sorted(set(ids) & set(other_ids))
            if common:
                yield (
                    f"split {split}: {count_of(len(common), 'video is', 'videos are')} in {one} and in {other}, "
                    f"the first: {quote_id(common[0])}"
                )
            here, there = _first_by_group(store, ids), _first_by_group(store, other_ids)
            shared = sorted(group for group in here.keys() & there.keys() if here[group] != there[group])
            if shared:
                first = shared[0]
                yield (
                    f"split {split}: {count_of(len(shared), 'group is', 'groups are')} in {one} and in {other}, "
                    f"the first: {quote_id(first)} "
                    f"({quote_id(here[first])}, {quote_id(there[first])})"
                )


def _first_by_group(store: Store, ids: Iterable[str]) -> dict[str, str]:
    """Group -> its first video among `ids`; videos without a group are left out."""
    found: dict[str, str] = {}
    for video_id in ids:
        video = store.videos.get(video_id)
        if video is not None and video.group:
            found.setdefault(video.group, video_id)
    return found


def _check_videos(store: Store, progress: Progress, workers: int, problems: int) -> list[VideoFindings]:
    """Check every readable video, in the order of their ids; `problems` is the number found before."""
    ids = sorted(video.id for video in store.videos.values() if video.status == "ok")
    found: dict[str, VideoFindings] = {}
    frames = 0
    # threads: decoders and SQLite release the GIL
    with progress.task("checking", len(ids), "videos") as task, ThreadPoolExecutor(max(workers, 1)) as threads:
        jobs = {threads.submit(check_video, store, video_id): video_id for video_id in ids}
        try:
            for job in as_completed(jobs):
                video = found[jobs[job]] = job.result()
                frames += video.frames
                problems += len(video.problems) + bool(video.fit.mistake)
                task.advance(frames=frames, problems=problems)
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    return [found[video_id] for video_id in ids]


def _flow_problems(found: list[VideoFindings]) -> Iterator[str]:
    """Yield mistakes in flow: a line per video if few share one, else a line with their number, or one for the set."""
    judged = [video for video in found if video.fit.judged]
    by_mistake: dict[str, list[VideoFindings]] = {}
    for video in judged:
        if video.fit.mistake:
            by_mistake.setdefault(video.fit.words, []).append(video)
    for words, videos in by_mistake.items():
        if len(videos) <= _MOST_LINES:
            for video in videos:
                yield f"video {quote_id(video.id)}: {words} ({video.fit.evidence})"
        else:
            first = videos[0]
            yield (
                f"{words} in {len(videos):,} of {count_of(len(judged), 'video')}, the first: {quote_id(first.id)} "
                f"({first.fit.evidence})"
            )
    if judged and not by_mistake:
        whole = sum((video.fit for video in judged), Fit())
        if whole.mistake:
            yield f"taken together: {whole.words} ({whole.evidence})"
