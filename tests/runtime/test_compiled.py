"""Kernels are those that came with the package for this CPU, or compiled ones in a folder that this user alone can write."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stmn.runtime.compiled import Kernel, KernelUnavailableError, load_once
from stmn.runtime.kernel_files import LEVELS, find_machine, list_levels
from stmn.runtime.notices import notices_to
from stmn.runtime.private import SharedFolderError, make_private_folder

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")

NUMBER = "int number(void) { return 7; }"
SECTION = '[seven]\nflags = ["-O1"]\nwithout = "counting takes 7 times as long without its C kernel"\n'
PLANTED = 'static __attribute__((constructor)) void run(void) { FILE *f = fopen("MARK", "w"); if (f) fclose(f); }'
STRANGER = 12345


@pytest.fixture
def kernel(tmp_path, monkeypatch) -> Kernel:
    """A kernel of one function, and a cache of this test's own."""
    folder = tmp_path / "code" / f"package_of_{tmp_path.name}" / "kernel"
    folder.mkdir(parents=True)
    (folder / "seven.c").write_text(NUMBER)
    (folder / "kernels.toml").write_text(SECTION)
    monkeypatch.syspath_prepend(tmp_path / "code")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))
    monkeypatch.delenv("CC", raising=False)
    return Kernel("seven", folder.parent.name)


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    """A library of a stranger that leaves a mark when it is loaded."""
    folder = tmp_path_factory.mktemp("planted")
    source = folder / "a.c"
    source.write_text(f"#include <stdio.h>\n{NUMBER}\n{PLANTED.replace('MARK', str(folder / 'mark'))}")
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(folder / "a.so")], check=True)
    return folder / "a.so"


def number(kernel: Kernel) -> int:
    return int(kernel.load().number())


def test_kernels_are_compiled_once_and_kept_private(kernel, monkeypatch):
    before = os.umask(0o002)
    try:
        assert number(kernel) == 7
    finally:
        os.umask(before)
    library = kernel.target(["cc"])
    assert [path.stat().st_mode & 0o777 for path in (library, library.parent)] == [0o700, 0o700]
    made = library.stat().st_mtime_ns
    assert number(kernel) == 7 and library.stat().st_mtime_ns == made


def plant(kind: str, library: Path, planted: Path) -> None:
    """Put a stranger's library in the place of a kernel, or the folder in a stranger's hands."""
    shutil.copy(planted, library)
    library.chmod(0o700)
    if kind == "link":
        library.unlink()
        library.symlink_to(planted)
    elif kind == "hanging link":
        library.unlink()
        library.symlink_to(planted.with_name("nothing"))
    elif kind == "writable file":
        library.chmod(0o777)
    elif kind == "file of another user":
        os.chown(library, STRANGER, STRANGER)
    elif kind == "folder of another user":
        os.chown(library.parent, STRANGER, STRANGER)
    elif kind == "folder above of another user":
        os.chown(library.parents[2], STRANGER, STRANGER)
    elif kind == "writable folder above":
        library.parents[1].chmod(0o777)
    elif kind == "link to a folder of another user":
        real = library.parents[2] / "elsewhere"
        library.parent.rename(real)
        os.chown(real, STRANGER, STRANGER)
        library.parent.symlink_to(real)


@pytest.mark.parametrize(("kind", "said"), [
    ("link", ""), ("hanging link", ""), ("writable file", ""), ("file of another user", ""),
    ("folder of another user", "belongs to another user"), ("folder above of another user", "belongs to another user"),
    ("writable folder above", "can be written by others"), ("link to a folder of another user", "belongs to another user"),
])  # fmt: skip
def test_planted_libraries_are_not_loaded(kind, said, kernel, planted):
    if "another user" in kind and os.geteuid():
        pytest.skip("only the superuser can give files away")
    plant(kind, kernel.target(["cc"]), planted)
    lines: list[str] = []
    with notices_to(lines.append):
        assert number(kernel) == number(kernel) == 7
    assert not planted.with_name("mark").exists()
    assert len(lines) == bool(said) and said in "".join(lines)


def test_a_folder_of_before_is_made_private(tmp_path):
    folder = tmp_path / "stmn"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    assert make_private_folder(folder) == folder and folder.stat().st_mode & 0o777 == 0o755


def test_a_folder_in_a_folder_of_many_is_refused(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    with pytest.raises(SharedFolderError, match="can be written by others"):
        make_private_folder(tmp_path / "shared" / "stmn")
    (tmp_path / "shared").chmod(0o1777)  # as /tmp: others can't replace what is this user's
    assert make_private_folder(tmp_path / "shared" / "stmn").is_dir()


@pytest.mark.slow
def test_several_processes_compile_at_once(kernel):
    code = f"from stmn.runtime.compiled import *; print(Kernel('seven', {kernel.package!r}).load().number())"
    paths = os.pathsep.join(sys.path)
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": paths})
        for _ in range(4)
    ]
    assert [process.communicate()[0] for process in started] == [b"7\n"] * 4
    assert len(list(kernel.target(["cc"]).parent.iterdir())) == 1


def test_a_broken_kernel_is_one_error(kernel, tmp_path):
    [source] = (tmp_path / "code").rglob("seven.c")
    source.write_text("nonsense")
    with pytest.raises(KernelUnavailableError):
        kernel.load()


def build_for_a_wheel(kernel: Kernel, march: str, result: int) -> Path:
    """What a wheel would bring for a CPU, here with a number of its own to tell which one is loaded."""
    files = kernel.files()
    source = files.folder / "seven.c"
    source.write_text(NUMBER.replace("7", str(result)))
    built = kernel.files().built(march)
    built.parent.mkdir(exist_ok=True)
    subprocess.run(kernel.files().make_command(["cc"], march, built), check=True)
    source.write_text(NUMBER)
    return Path(shutil.move(built, files.built(march)))


@pytest.mark.skipif(not list_levels(), reason="no wheel brings kernels for this CPU")
def test_kernels_of_the_wheel_need_no_compiler(kernel, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    for result, march in enumerate(reversed(LEVELS[find_machine()]), 1):
        build_for_a_wheel(kernel, march, result)
        expected = result if march in list_levels() else result - 1
        assert number(kernel) == expected  # the best that this CPU can run


@pytest.mark.slow
@pytest.mark.skipif(len(list_levels()) < 2, reason="needs AVX-512")
def test_a_cpu_gets_the_kernels_that_it_can_run(kernel):
    for result, march in enumerate(list_levels(), 1):
        build_for_a_wheel(kernel, march, result)
    code = f"from stmn.runtime.compiled import *; print(Kernel('seven', {kernel.package!r}).load().number())"
    for capability, said in (("avx512", "1"), ("avx2", "2"), ("default", "7")):
        environment = {"PYTHONPATH": os.pathsep.join(sys.path), "ATEN_CPU_CAPABILITY": capability}
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment)
        assert run.stdout == f"{said}\n", (capability, run.stderr)


@pytest.mark.skipif(not list_levels(), reason="no wheel brings kernels for this CPU")
@pytest.mark.parametrize("damage", ["of another source", "cut short"])
def test_kernels_that_do_not_fit_are_compiled_instead(kernel, damage):
    built = build_for_a_wheel(kernel, list_levels()[0], 1)
    if damage == "cut short":
        built.write_bytes(built.read_bytes()[:500])
    else:
        source = kernel.files().folder / "seven.c"
        source.write_text(NUMBER.replace("7", "8"))
    assert number(kernel) == (7 if damage == "cut short" else 8)


def test_without_a_compiler_a_line_says_what_is_slower(kernel, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    lines: list[str] = []
    with notices_to(lines.append):
        library, problem = load_once(kernel)(lambda library: None)()
    assert library is None and problem == "no C compiler 'no-such-compiler' on the path"
    assert lines == [f"counting takes 7 times as long without its C kernel: {problem}"]
