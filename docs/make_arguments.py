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
from stmn.options.base import Option, StageOptions
from stmn.options.training import TrainingOptions

FILE = Path(__file__).parents[1] / "stmn/recipe/arguments.py"
#: verbs that Python calls -> the name of their class
CLASSES = {
    "prepare": "PrepareArguments",
    "train-stream": "TrainStreamArguments",
    "fuse": "FuseArguments",
    "evaluate": "EvaluateArguments",
}
SHARED = "TrainingArguments"
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
    classes = [shared_lines(), *map(class_lines, CLASSES)]
    return "\n\n\n".join([HEAD.rstrip(), *map("\n".join, classes)]) + "\n"


def shared_lines() -> Iterator[str]:
    """The class of what both trainings take."""
    yield f"class {SHARED}(TypedDict, total=False):"
    yield '    """Options of both trainings."""'
    yield ""
    yield from field_lines(TrainingOptions, list(TrainingOptions.model_fields))


def class_lines(verb: str) -> Iterator[str]:
    """The class of a verb. Its positional arguments are parameters of the function."""
    model = options_of(verb)
    trains = issubclass(model, TrainingOptions)
    names = [name for name in model.model_fields if not trains or name not in TrainingOptions.model_fields]
    yield f"class {CLASSES[verb]}({SHARED if trains else 'TypedDict'}, total=False):"
    yield f'    """Options of `{verb}`."""'
    yield ""
    yield from field_lines(model, names)


def field_lines(model: type[StageOptions], names: list[str]) -> Iterator[str]:
    """The options of a model, each below its help."""
    for name in names:
        option = model.described()[name]
        if not option.argument:
            yield from wrap(option.help, 110, initial_indent="    # ", subsequent_indent="    # ")
            yield f"    {option.key}: {type_of(option, model.model_fields[name].annotation)}"


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
