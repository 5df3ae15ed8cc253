"""A folder that anyone can run with only onnxruntime, numpy and PyAV: the ONNX file and a program that uses it."""

from importlib import resources
from pathlib import Path

from stmn.runtime.files import atomic_write, copy_file, holds_same, is_temporary, remove_leftovers

#: the name of the copy of the ONNX file
MODEL = "model.onnx"
#: import in a program of this package -> its import in the folder
_IMPORTS = {
    "from stmn.flow._pyramid import": "from pyramid import",
    "from stmn.exporting.example.flow import": "from flow import",
}
_README = """\
model.onnx says in its metadata (key "stmn") how frames and flow are made, and which classes it knows.
run.py classifies a video with it:

    pip install onnxruntime numpy av
    python run.py VIDEO

Videos that are rotated, interlaced, or have pixels that are not square are read as they are stored.
"""


def write_example(model: Path, folder: Path, reads_flow: bool) -> None:
    """Write the folder.

    Args:
        model: The ONNX file.
        folder: Where to write; it is made if it doesn't exist.
        reads_flow: The network has a motion stream, so the program needs optical flow.

    Raises:
        StmnError: The folder can't be written.
    """
    for name, text in _texts(reads_flow).items():
        remove_leftovers(folder, name)
        if not _says(folder / name, text):
            with atomic_write(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
    remove_leftovers(folder, MODEL)
    copy_file(model, folder / MODEL)


def is_example(model: Path, folder: Path, reads_flow: bool) -> bool:
    """True if a folder holds all or part of what `write_example` would write, and nothing else."""
    texts = _texts(reads_flow)
    names = [path.name for path in folder.iterdir() if not is_temporary(path.name)] if folder.is_dir() else []
    return bool(names) and all(
        holds_same(folder / name, model) if name == MODEL else name in texts and _says(folder / name, texts[name])
        for name in names
    )


def _says(path: Path, text: str) -> bool:
    """True if a file has this text."""
    return path.is_file() and path.read_text("utf-8", errors="replace") == text


def _texts(reads_flow: bool) -> dict[str, str]:
    """Name -> text of the files beside the model."""
    texts = {"README.txt": _README, "run.py": _source("stmn.exporting.example", "run.py")}
    if reads_flow:
        texts["flow.py"] = _source("stmn.exporting.example", "flow.py")
        texts["pyramid.py"] = _source("stmn.flow", "_pyramid.py")
    return texts


def _source(package: str, name: str) -> str:
    """The text of a program of this package, changed to run on its own."""
    text = resources.files(package).joinpath(name).read_text(encoding="utf-8")
    for ours, theirs in _IMPORTS.items():
        text = text.replace(ours, theirs)
    return text
