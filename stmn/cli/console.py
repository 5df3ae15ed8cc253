"""Where text for people goes: answers to standard output, messages to standard error. Both honour NO_COLOR."""

from rich.console import Console
from rich.text import Text

#: standard error: notices, errors, progress
messages = Console(stderr=True, highlight=False)


def answers() -> Console:
    """Standard output, as wide as the terminal is now."""
    return Console(highlight=False)


def say(line: str) -> None:
    """Print a message as it is, on one line."""
    messages.print(Text(line), soft_wrap=True)


def say_error(line: str) -> None:
    """Print `error: LINE`."""
    messages.print(Text(f"error: {line}", style="red"), soft_wrap=True)
