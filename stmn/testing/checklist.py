"""Shared by all checks: a list of what passed, and errors that say what is wrong and what the author must change."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stmn.errors import MissingExtra, PluginError, StmnError
from stmn.registry.options import list_options


class Checklist:
    """The checks of one plugin. Each failure is a `PluginError` of one line; `finish` prints what passed.

    Args:
        kind: one of `stmn.registry.KINDS`.
        target: the object that the plugin's entry point names.
    """

    def __init__(self, kind: str, target: Any) -> None:
        self.kind = kind
        inner = getattr(target, "func", target)  # the function in a partial
        self.title = f"{kind} {getattr(target, '__name__', None) or getattr(inner, '__name__', repr(target))}"
        self._held: list[str] = []

    def fail(self, wrong: str, change: str) -> PluginError:
        """Make the error for a failure, with what the author must change."""
        return PluginError(f"{self.title}: {wrong}: {change}")

    def require(self, holds: bool, wrong: str, change: str) -> None:
        """Raise unless `holds`."""
        if not holds:
            raise self.fail(wrong, change)

    @contextmanager
    def part(self, what: str, change: str) -> Iterator[None]:
        """Check one thing: it fails if the block raises, else it passes.

        Args:
            what: one or two words for it, such as "shape".
            change: what the author must change if the block raises anything but a `PluginError`.
        """
        try:
            yield
        except (PluginError, MissingExtra):
            raise
        except StmnError as error:
            raise self.fail(f"{what}: {error}", change) from error
        except Exception as error:
            lines = str(error).strip().splitlines() or ["without a message"]
            raise self.fail(f"{what}: {type(error).__name__}: {lines[0]}", change) from error
        self._held.append(what)

    def check_options(self, target: Any) -> None:
        """Check that the options of a plugin can be set by name, and have types."""
        with self.part("options", "its signature must be readable by inspect.signature"):
            for option in list_options(self.kind, target).values():
                self.require(
                    option.annotation is not inspect.Parameter.empty,
                    f"its option '{option.name}' has no type",
                    f"annotate it, such as {option.parameter}: int = 4",
                )

    def build(self, change: str, make: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Call the plugin as stmn does."""
        with self.part("constructor", change):
            return make(*given, **named)

    def finish(self) -> None:
        """Print what passed."""
        print(f"{self.title}: ok: {', '.join(dict.fromkeys(self._held))}")
