"""What a file of a stranger can't do: open other files and addresses, wait for ever, fill the memory."""

import gc
import http.server
import os
import resource
import socket
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.films import film, moving
from PIL import Image

from stmn.errors import DataError, StmnError, UsageError
from stmn.runtime.files import check_regular, open_regular, read_regular, read_text
from stmn.video.content import holds_video
from stmn.video.decode import count_frames, decode_video, probe_video
from stmn.video.source import Source, parse_source

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="48"><image href="other.png"/></svg>'


@pytest.fixture(scope="module")
def private(tmp_path_factory) -> Path:
    """Films that a playlist must not lead to."""
    folder = tmp_path_factory.mktemp("private")
    film(folder / "secret.ts", moving(4), "mpeg2video")
    film(folder / "secret.mp4", moving(4), "libx264")
    return folder


@pytest.fixture
def little_memory():
    """Let this process have 512 MB more than now, so that a large allocation fails instead of going unseen."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**29, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


PLAYLISTS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{ts}\n#EXT-X-ENDLIST\n",
    "m3u8 of a MOV": '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-MAP:URI="{mp4}"\n#EXTINF:1,\n{mp4}\n#EXT-X-ENDLIST\n',
    "ffconcat": "ffconcat version 1.0\nfile '{ts}'\n",
    "ffconcat of a sibling": "ffconcat version 1.0\nfile secret.ts\n",
    "ffconcat of a protocol": "ffconcat version 1.0\nfile 'subfile,,start,0,end,0,,:{ts}'\n",
    "ffconcat of a descriptor": "ffconcat version 1.0\nfile 'fd:'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 33\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{mp4}</BaseURL></MPD>',
    "svg": SVG,
}


@pytest.mark.parametrize("ending", [".avi", ".mp4", ".m3u8", ""])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_playlists_open_nothing(kind, ending, private):
    path = private / f"film{ending}"
    path.write_text(PLAYLISTS[kind].format(ts=private / "secret.ts", mp4=private / "secret.mp4"))
    assert not holds_video(path)
    with pytest.raises(DataError, match=f"^{path}: "):
        count_frames(path)


@pytest.mark.parametrize(
    "name", ["a%05d.avi", "a:b.avi", "file:a.avi", "pipe:0.avi", "*{?}.avi", "concat:a|b.avi", "-.avi", "a%d.gif"]
)
def test_names_are_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(name.replace("%05d", "00001").replace("%d", "1")).write_bytes(b"another file")
    film(tmp_path / "made.mkv", moving(3)).rename(name)
    assert count_frames(Path(name)) == count_frames(name) == 3 and holds_video(Path(name))


def test_referenced_tracks_stay_closed(private, tmp_path):
    data = film(tmp_path / "made.mov", moving(3), "mpeg4").read_bytes()
    alias = b"\x61lis" + struct.pack(">I", 0) + str(private / "secret.mp4").encode()
    reference = struct.pack(">I", 8 + len(alias)) + alias
    place = data.index(b"url \0\0\0\1") - 4
    path = tmp_path / "a.mov"
    path.write_bytes(data[:place] + reference + data[place + 12 :])
    with pytest.raises(DataError):
        count_frames(path)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "link to a device", "folder"])
def test_only_files_are_opened(kind, tmp_path):
    path, unix = tmp_path / "a.avi", socket.socket(socket.AF_UNIX)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        unix.bind(str(path))
    elif kind == "folder":
        path.mkdir()
    else:
        path = path if kind != "device" else Path("/dev/zero")
        if kind != "device":
            path.symlink_to("/dev/zero")
    unix.close()
    for reader in (check_regular, open_regular, read_regular):
        with pytest.raises(OSError, match="not a file"):
            reader(path)
    for reader in (read_text, count_frames, probe_video):
        with pytest.raises(DataError, match=r"not a file|holds no numbered pictures"):
            reader(path)


def test_text_of_any_length_is_not_read(tmp_path):
    path = tmp_path / "list.csv"
    path.touch()
    os.truncate(path, 2**40)
    with pytest.raises(DataError, match="can't be read: is larger than 512 MiB"):
        read_text(path)


def png(path: Path, width: int, height: int) -> None:
    """A PNG of any size, all black, of a few bytes."""

    def part(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(bytes(1000))) + part(b"IEND", b"")
    )


def bomb(folder: Path, kind: str) -> Path:
    """A picture of 30000x30000, or what is as large."""
    path = folder / f"a.{kind}"
    if kind == "folder":
        path.mkdir()
        png(path / "1.png", 64, 48)
        png(path / "2.png", 30000, 30000)
    elif kind == "png":
        png(path, 30000, 30000)
    elif kind == "jpg":
        Image.new("L", (64, 48)).save(path)
        data = path.read_bytes()
        place = data.index(b"\xff\xc0") + 5
        path.write_bytes(data[:place] + struct.pack(">HH", 30000, 30000) + data[place + 4 :] + bytes(2**22))
    elif kind == "gif":
        Image.new("P", (64, 48)).save(path, save_all=True, append_images=[Image.new("P", (64, 48), 1)])
        data = path.read_bytes()
        path.write_bytes(data[:6] + struct.pack("<HH", 60000, 60000) + data[10:])
    elif kind == "mjpeg":
        whole = bomb(folder, "jpg").read_bytes()
        path.write_bytes(whole * 2)
    elif kind == "webp":
        Image.new("RGB", (64, 48)).save(path, save_all=True, append_images=[Image.new("RGB", (64, 48), "red")])
        data = path.read_bytes()
        place = data.index(b"VP8X") + 12
        path.write_bytes(data[:place] + (16383).to_bytes(3, "little") * 2 + data[place + 6 :])
    return path


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "mjpeg", "webp", "folder"])
def test_pictures_are_bounded(kind, tmp_path, little_memory):
    path = bomb(tmp_path, kind)
    with pytest.raises(DataError, match="8192x8192") as raised:
        count_frames(path)
    assert "\n" not in str(raised.value)


def test_needles_are_not_enlarged(tmp_path, little_memory):
    path = film(tmp_path / "a.avi", [np.zeros((2, 8000, 3), np.uint8)] * 3, "ffv1")
    assert count_frames(path) == 3
    with pytest.raises(DataError, match="8192x8192"):
        list(decode_video(path, 256))


@pytest.fixture(scope="module")
def animation(tmp_path_factory) -> Path:
    """70 pictures of 9 MB each, in a small file."""
    path = tmp_path_factory.mktemp("animation") / "a.webp"
    still = (Image.new("RGB", (1500, 1500), (shade, 0, 0)) for shade in range(70))
    next(still).save(path, save_all=True, append_images=still, lossless=True, method=0, quality=0, duration=40)
    return path


def test_animations_are_decoded_one_by_one(animation, little_memory):
    gc.disable()  # nothing waits for it
    assert count_frames(animation) == 70
    gc.enable()


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_an_animation_may_be_left_half_read(animation):
    frames = decode_video(animation, 32)
    assert next(frames).shape == (32, 32, 3)
    frames.close()
    gc.collect()
    assert probe_video(animation).width == 1500


def test_line_breaks_name_no_other_file(private, tmp_path):
    folder = tmp_path / f"x\nfile '{private}' #"
    folder.mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (64, 48)).save(folder / f"{number}.png")
    with pytest.raises(DataError, match="line break"):
        count_frames(folder)


@pytest.mark.parametrize(
    "parts", [struct.pack(">I4s", 8, b"free") * 2**18, struct.pack(">I4sQ", 1, b"free", 2**63 + 8) * 2]
)
def test_headers_end(parts, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(film(tmp_path / "made.mp4", moving(3)).read_bytes() + parts)
    assert count_frames(path, allow_damage=1.0) == 3


class Site(http.server.BaseHTTPRequestHandler):
    """Answers with a film, a playlist, or a redirection to a file."""

    folder: Path

    def do_GET(self) -> None:
        name = self.path[1:]
        if name == "redirect":
            self.send_response(302)
            self.send_header("Location", f"file://{self.folder / 'secret.ts'}")
            self.end_headers()
            return
        target = str(self.folder / "secret.ts") if name == "thief.m3u8" else "secret.ts"
        content = (
            PLAYLISTS["m3u8"].format(ts=target).encode() if name.endswith("m3u8") else (self.folder / name).read_bytes()
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def site(private):
    """An address with the files of `private`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Site,), {"folder": private}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize("name", ["secret.mp4", "secret.ts", "film.m3u8"])
def test_addresses_and_what_they_lead_to(name, site):
    assert count_frames(parse_source(f"{site}/{name}")) == 4


@pytest.mark.parametrize("name", ["redirect", "thief.m3u8"])
def test_addresses_lead_to_no_file(name, site):
    with pytest.raises(DataError):
        count_frames(parse_source(f"{site}/{name}"))


def test_what_an_argument_means(private, tmp_path):
    path = private / "secret.mp4"
    assert count_frames(parse_source(f"file://{path}")) == 4
    for text in ("concat://a", f"subfile,,start,0,end,0,,://{path}", "pipe://0", "data://x", "lavfi://testsrc"):
        with pytest.raises(UsageError, match="neither a file nor an address"):
            parse_source(text)
    with pytest.raises(StmnError):
        count_frames(Source("file", f"file:{path}", "x"))
