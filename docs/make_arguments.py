"""Write stmn/recipe/arguments.py, the options of `stmn.prepare` and others for editors, from the options models.

    python docs/make_arguments.py

`tests/docs/test_reference.py` fails while the file is not what this writes.
"""

from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from stmn.options import options_of
from stmn.options.base import Option

FILE = Path(__file__).parents[1] / "stmn/recipe/arguments.py"
#: verbs that Python calls -> the name of their class
CLASSES = {
    "prepare": "PrepareArguments",
    "train-stream": "TrainStreamArguments",
    "fuse": "FuseArguments",
    "evaluate": "EvaluateArguments",
}
HEAD = '''"""The options of `stmn.prepare`, `stmn.train_stream`, `stmn.fuse` and `stmn.evaluate`, for type checkers.

Made by docs/make_arguments.py from the options models; do not edit.
"""

from pathlib import Path
from typing import Any, Literal, TypedDict

from stmn.recipe.results import StageResult

#: a file, a folder, a run by its name, or a result
Named = str | Path | StageResult
'''


def main() -> None:
    """Write the file."""
    FILE.write_text(made_arguments(), encoding="utf-8")


def made_arguments() -> str:
    """The text of the file."""
    return "\n\n\n".join([HEAD.rstrip(), *map("\n".join, map(class_lines, CLASSES))]) + "\n"


def class_lines(verb: str) -> Iterator[str]:
    """The class of a verb. Its positional arguments are parameters of the function."""
    model = options_of(verb)
    yield f"class {CLASSES[verb]}(TypedDict, total=False):"
    yield f'    """Options of `{verb}`."""'
    for option in model.described().values():
        if not option.argument:
            yield ""
            yield from wrap(option.help, 110, initial_indent="    # ", subsequent_indent="    # ")
            yield f"    {option.key}: {type_of(option, model.model_fields[option.name].annotation)}"


def type_of(option: Option, annotation: Any) -> str:
    """The type of an option's values."""
    text = render(annotation)
    if not (option.inputs or option.data):
        return text
    return text.replace("list[str]", "list[Named]") if "list" in text else text.replace("str", "Named")


def render(annotation: Any) -> str:
    """A type as it is written in Python."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is NoneType:
        return "None"
    if origin in (Union, UnionType):
        return " | ".join(map(render, args))
    if origin is Literal:
        return f"Literal[{', '.join(repr(arg).replace(chr(39), chr(34)) for arg in args)}]"
    if origin is not None:
        return f"{origin.__name__}[{', '.join(map(render, args))}]"
    return "str | Path" if annotation is Path else "Any" if annotation is Any else annotation.__name__


if __name__ == "__main__":
    main()
