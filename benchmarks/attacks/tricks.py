"""What was made to do harm: descriptions of models and scores, recipes, settings, names, videos, pictures."""

import csv
import itertools
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.numpy import load_file, save_file

from benchmarks.attacks.arena import Arena
from stmn.runtime.tensor_files import read_metadata

#: what no field of a description expects, as JSON
VALUES = (
    "-1", "0", "1e9", "100000000", "NaN", "Infinity", "-1e-300", '""', '"x"', "[]", "{}", "null", "true", "[[1]]",
    '"\\ud800"', '"\\u001b[2J\\u001b]0;x\\u0007"', '"[/oops]"', '"../../outside/x"', '"' + "y" * 100_000 + '"',
    "1" + "0" * 5000, "[" * 3000 + "]" * 3000, json.dumps(["c"] * 2_000_000), '{"a": NaN}',
)  # fmt: skip
#: class and file names
NAMES = (
    "\x1b]0;x\x07", "\x1b[2J", "\x9b31m", "a\u202eb", "a\nb", "a\rb", "a\tb", "[/oops]", "[red]x[/red]", "[bold",
    "=1+1", "+1", "-1", "@x", "a,b", 'a"b', "a'b", "a;b", "a|b", "a*b", "a?b", "a%sb", "{0}", "$HOME", "`id`",
    "<script>alert(1)</script>", "CON", "a b ", "a.", "~", "-w", "--help", "x" * 200, "\u0416" * 60, "\udcff\udcfe",
    "\u2028", "a\\b", "&amp;", "0", "None",
)  # fmt: skip
#: where nothing may be written, as the arena's recipes and flags see it
PLACES = (
    "../outside/run.json", "../../outside/x", "{root}/outside/x", "{root}/outside/model.safetensors", "..", ".", "/",
    "{root}/outside", "a/../../../outside/x", "", "link/x", "\x00", "x" * 300,
)  # fmt: skip


#: a network that trains at once
TINY = "--arch resnet18 --width 0.125 --size 32 --weights none --batch 2 --validation 0 --schedule cosine"
#: texts of settings files that must be refused
SETTINGS = (
    "a = " + "[" * 5000 + "]" * 5000, "workspace = 1" + "0" * 5000, "\udcff = 1", "[defaults]\n" * 2, "a" * 1_000_000,
    "\x00", "workspace = nan", "[defaults.train-stream]\nsteps = 1979-05-27",
)  # fmt: skip


class Trick(NamedTuple):
    """Something hostile.

    Attributes:
        name: what it is.
        lay: puts it into the arena.
        commands: what is run then, in this order.
        refused: True if the last command must refuse it.
    """

    name: str
    lay: Callable[[Arena], None]
    commands: tuple[str | list[str], ...]
    refused: bool = False


def all_tricks(whole: Arena) -> list[list[Trick]]:
    """Every trick, by kind."""
    return [
        list(kind)
        for kind in (descriptions(whole), recipes(), settings(), names(), playlists(), specials(), pictures())
    ]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values in JSON; of long lists the first two."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from leaves(value[key], (*path, key))
    elif isinstance(value, list):
        for number in range(min(2, len(value))):
            yield from leaves(value[number], (*path, number))


def with_value(value: Any, path: tuple[Any, ...], text: str) -> str:
    """JSON with the value at a place replaced by another text."""
    mark = "a place for another value"
    if not path:
        return text
    value = json.loads(json.dumps(value))
    inner = value
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = mark
    return json.dumps(value).replace(json.dumps(mark), text)


def descriptions(whole: Arena) -> Iterator[Trick]:
    """Models and scores with one field of their description replaced; without digests, as a stranger's file may be."""
    for pattern, commands in (
        ("work/runs/fused-multiply*/model.safetensors", ("nets show {}", "predict {} videos/test/left/3.mp4 --json")),
        ("work/runs/test-late*/scores.safetensors", ("scores show {} --json", "scores convert {} out.csv")),
    ):
        path = sorted(whole.root.glob(pattern))[0]
        for place, text in itertools.product(leaves(read_metadata(path)), VALUES):
            if len(place) > 1 and place[0] in ("trained_on", "training") and zlib.crc32(repr(place).encode()) % 8:
                continue  # these have many fields that nothing reads

            def lay(arena: Arena, place: tuple[Any, ...] = place, text: str = text, pattern: str = pattern) -> None:
                source = sorted(arena.root.glob(pattern))[0]
                metadata = {"stmn": with_value(read_metadata(source), place, text)}
                save_file(load_file(source), arena.root / "stranger.safetensors", metadata=metadata)

            name = f"{path.stem}: {'.'.join(map(str, place))} = {text[:40]}"
            yield Trick(name, lay, tuple(command.format("stranger.safetensors") for command in commands))


def recipes() -> Iterator[Trick]:
    """The chain with an option that leads elsewhere or makes no sense."""
    keys = ("data", "copy_to", "out", "name", "id", "videos", "weights", "scores", "page", "workspace")
    for key, place in itertools.product(keys, PLACES):

        def lay(arena: Arena, key: str = key, place: str = place) -> None:
            (arena.work / "link").symlink_to(arena.outside)
            value = json.dumps(place.format(root=arena.root))
            lines = arena.chain.read_text().splitlines()
            new = [f"{key} = {value}" if line.startswith(f"{key} = ") else line for line in lines]
            if new == lines:
                new.insert(lines.index('id = "onnx"') + 1, f"{key} = {value}")
            arena.chain.write_text("\n".join(new))

        yield Trick(f"recipe: {key} = {place[:40]!r}", lay, ("run recipe/chain.toml -w work",))


def settings() -> Iterator[Trick]:
    """A `stmn.toml` that leads elsewhere, or is hardly TOML."""
    for key, place in itertools.product(("defaults.export.copy_to", "workspace", "defaults.train-stream.data"), PLACES):

        def lay(arena: Arena, key: str = key, place: str = place) -> None:
            for folder in arena.work.glob("runs/export-*"):
                shutil.rmtree(folder)
            (arena.root / "stmn.toml").write_text(f"{key} = {json.dumps(place.format(root=arena.root))}\n")

        command = "run recipe/chain.toml -w work" if key != "workspace" else "data info"
        yield Trick(f"settings: {key} = {place[:40]!r}", lay, (command,))
    for number, text in enumerate(SETTINGS):

        def write(arena: Arena, text: str = text) -> None:
            (arena.root / "stmn.toml").write_text(text, errors="surrogateescape")

        yield Trick(f"settings: text {number}", write, ("doctor",), refused=True)


def names() -> Iterator[Trick]:
    """Videos whose classes and files have hostile names, in folders and in a list."""
    for name in NAMES:

        def folders(arena: Arena, name: str = name) -> None:
            films = sorted((arena.root / "videos").rglob("*.mp4"))
            pairs = ((name, "1"), (name, name[:100]), ("plain", name[:100]), ("plain", "2"))
            for film, (label, file) in zip(films, pairs, strict=False):
                folder = arena.root / "named" / encoded(label)
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(film, folder / encoded(f"{file}.mp4"))

        def table(arena: Arena, name: str = name) -> None:
            films = sorted((arena.root / "videos").rglob("*.mp4"))[:6]
            with (arena.root / "named.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
                writer = csv.writer(file)
                writer.writerow(("path", "class", "id", "group"))
                for number, film in enumerate(films):
                    writer.writerow((film, name if number % 2 else "plain", f"{name}{number}", f"{name}{number % 3}"))

        for kind, lay, source, clips in (("folder", folders, "named", "named"), ("list", table, "named.csv", "videos")):
            commands = (
                f"prepare {source} named --short-side 32 --split-by video --folds 2 -w work",
                "data info named --json -w work", "data info named -w work", "data check named -w work",
                "data extract named extracted -w work",
                f"predict work/runs/motion-*/model.safetensors {clips} --json --window 0.4 --timeline out2.csv",
                f"train-stream --modality flow --data named --steps 1 {TINY} -w work",
                "evaluate --model motion-resnet18 --data named -w work",
                "scores convert test out.csv -w work", "report --data named -w work",
            )  # fmt: skip
            yield Trick(f"name: {kind} {name[:20]!r}", lay, commands)


def encoded(name: str) -> str:
    """A name as a file's: UTF-8, without the separator."""
    return os.fsdecode(name.replace("/", "\u2215").encode("utf-8", "surrogateescape"))


def playlists() -> Iterator[Trick]:
    """Text that FFmpeg takes for a list of other files."""
    for ending in ("avi", "mp4", "mkv", "m3u8", "ffconcat", "txt"):
        playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:1,\n{film}\n#EXT-X-ENDLIST\n"
        concat = "ffconcat version 1.0\nfile {film}\n"
        for kind, text in (("playlist", playlist), ("concat", concat)):

            def lay(arena: Arena, ending: str = ending, text: str = text) -> None:
                film = arena.root / "videos/test/left/3.mp4"
                (arena.root / f"trick.{ending}").write_text(text.format(film=film))

            yield Trick(f"file: {kind} named .{ending}", lay, (_predict(f"trick.{ending}"),), refused=True)


def specials() -> Iterator[Trick]:
    """What never ends, in place of a file."""
    links: dict[str, Callable[[Path], object]] = {
        "fifo": os.mkfifo,
        "zeros": lambda path: path.symlink_to("/dev/zero"),
        "random": lambda path: path.symlink_to("/dev/urandom"),
        "itself": lambda path: path.symlink_to(path),
        "terminal": lambda path: path.symlink_to("/dev/tty"),
    }
    for (name, make), command in itertools.product(
        links.items(),
        (
            _predict("folder"), "predict trick.mp4 videos/test/left/3.mp4", "scores show trick.mp4", "run trick.mp4",
            "prepare trick.mp4 trick -w work", "nets show trick.mp4", "data info trick.mp4",
        ),
    ):  # fmt: skip

        def special(arena: Arena, make: Callable[[Path], object] = make) -> None:
            (arena.root / "folder").mkdir()
            for path in (arena.root / "trick.mp4", arena.root / "folder" / "trick.mp4"):
                make(path)

        yield Trick(f"file: {name}, {command}", special, (command,), refused=True)


def pictures() -> Iterator[Trick]:
    """Small files of huge pictures."""
    for side, name in ((30000, "png"), (65000, "png"), (30000, "gif")):

        def picture(arena: Arena, side: int = side, name: str = name) -> None:
            folder = arena.root / "frames" / "a" / "video"
            folder.mkdir(parents=True)
            for number in range(1, 4):
                (folder / f"{number:05d}.{name}").write_bytes(huge(side, name))

        yield Trick(f"file: {side} x {side} {name}", picture, ("prepare frames huge -w work",), refused=True)


def _predict(name: str) -> str:
    """The command that classifies a video."""
    return f"predict work/runs/motion-*/model.safetensors {name} --json"


def huge(side: int, kind: str) -> bytes:
    """A small file that states a huge picture."""
    if kind == "gif":
        return b"GIF89a" + side.to_bytes(2, "little") * 2 + bytes([0x80, 0, 0]) + bytes(6) + b"\x3b"

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    rows = zlib.compress(bytes(10_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
