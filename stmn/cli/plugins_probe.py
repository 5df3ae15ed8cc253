"""Try plugins of other packages in separate processes, so that one that hangs, exits or crashes does no harm."""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from stmn import registry
from stmn.errors import MissingExtra, StmnError
from stmn.registry.importing import import_seconds
from stmn.registry.options import list_options
from stmn.runtime.cores import count_cores

#: start of the text about a plugin that can't be checked here, but is not broken
UNCHECKED = "not checked: "
#: the most seconds for a check of a plugin, and for an import of one, on top of the usual imports
_SECONDS, _START = 120.0, 20.0


def find_problems(plugins: Iterable[registry.Plugin], conform: bool) -> dict[registry.Plugin, str]:
    """Plugin -> its problem and what to do about it; "" if it has none.

    Built-in plugins are tried in this process, the others in one process per package.

    Args:
        plugins: the plugins to try.
        conform: also check their contracts, besides importing them.
    """
    ordered = sorted(plugins, key=lambda plugin: plugin.package)
    packages = [list(group) for _, group in groupby(ordered, key=lambda plugin: plugin.package)]
    with ThreadPoolExecutor(count_cores()) as pool:
        foreign = [group for group in packages if group[0].package != registry.BUILT_IN]
        found = list(pool.map(lambda group: _try_outside(group, conform), foreign))
    own = [plugin for plugin in ordered if plugin.package == registry.BUILT_IN]
    return {plugin: problem for one in found for plugin, problem in one.items()} | {
        plugin: _try(plugin, conform) for plugin in own
    }


def _try_outside(plugins: list[registry.Plugin], conform: bool) -> dict[registry.Plugin, str]:
    """Try the plugins of a package in a process; if a plugin ends it, continue with the next in a new process."""
    problems: dict[registry.Plugin, str] = {}
    while left := [plugin for plugin in plugins if plugin not in problems]:
        names = [f"{plugin.kind}={plugin.package}:{plugin.name}" for plugin in left]
        command = [sys.executable, "-m", __spec__.name, *(["--conform"] if conform else []), *names]
        remedy = f"update {left[0].package}, or remove it: pip uninstall {left[0].package}"
        seconds = import_seconds() + (_SECONDS if conform else _START) * len(left)
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, timeout=seconds,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )  # fmt: skip
            output, end = done.stdout, f"it ended its process with status {done.returncode}; {remedy}"
        except subprocess.TimeoutExpired as error:
            output, end = error.stdout or b"", f"it has not ended after {seconds:g} s; {remedy}"
        answers = [line.partition(_MARK)[2] for line in output.decode(errors="replace").split("\n") if _MARK in line]
        for plugin, answer in zip(left, answers, strict=False):
            problems[plugin] = json.loads(answer)
        if len(answers) < len(left):
            problems[left[len(answers)]] = end
    return problems


def _try(plugin: registry.Plugin, conform: bool) -> str:
    """Import a plugin in this process, and check it. Return its problem, or ""."""
    try:
        target = plugin.load()
        return _conform(plugin, target) if conform else ""
    except MissingExtra as error:
        return f"{UNCHECKED}{error}"
    except StmnError as error:
        return str(error)


def _conform(plugin: registry.Plugin, target: object) -> str:
    """Check a plugin's contract. Return "", or why it can't be checked. Raises `StmnError` if it breaks it."""
    import torch

    from stmn.nets.fusions import no_gates
    from stmn.testing import CHECKS
    from stmn.testing.checklist import Checklist

    torch.set_num_threads(1)  # the maps are small
    needs = [option.name for option in list_options(plugin.kind, target).values() if option.required]
    if target is no_gates:
        return ""
    if needs:
        Checklist(plugin.kind, target).check_options(target)
        return f"{UNCHECKED}it needs its options {', '.join(needs)}; stmn.testing checks it with them"
    check: Callable[..., object] = CHECKS[plugin.kind]
    with contextlib.redirect_stdout(io.StringIO()):
        check(target)
    return ""


#: marks a line as an answer, among the lines that plugins print
_MARK = "\x1estmn "


def _answer(arguments: list[str]) -> None:
    """Try the plugins named on a command line, and print an answer for each."""
    conform = "--conform" in arguments
    for argument in arguments:
        kind, _, name = argument.partition("=")
        if name:
            print(f"\n{_MARK}{json.dumps(_try(registry.find(kind, name), conform))}", flush=True)


if __name__ == "__main__":
    _answer(sys.argv[1:])
