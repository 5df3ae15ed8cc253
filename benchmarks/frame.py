"""What all benchmarks share: command line, JSON file, the machine, processes of their own, and peak memory."""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from stmn.runtime.files import write_json

STMN = Path(sys.executable).with_name("stmn")
#: seconds on the clock, and of processor time
Seconds = tuple[float, float]


def run(
    description: str | None,
    add_options: Callable[[argparse.ArgumentParser], None],
    measure: Callable[[argparse.Namespace], Any],
) -> Any:
    """Parse the command line, measure, print the result and write it to the file named by `--json`.

    Args:
        description: the benchmark's docstring, for `--help`.
        add_options: adds the benchmark's own options.
        measure: makes the result, JSON, from the parsed options.

    Returns:
        The result.
    """
    options = make_parser(description, add_options).parse_args()
    result = measure(options)
    write_json(options.json, result)
    print(json.dumps(result, indent=1))
    return result


def make_parser(
    description: str | None, add_options: Callable[[argparse.ArgumentParser], None]
) -> argparse.ArgumentParser:
    """The command line of a benchmark."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="where to write the result")
    add_options(parser)
    return parser


def run_apart(module: str, *arguments: object) -> Any:
    """The result of a benchmark run in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        command = [sys.executable, "-m", module, "--json", path, *arguments]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        return json.loads(path.read_text())


def describe_machine() -> dict[str, str]:
    """The CPU and the version of torch."""
    return {"cpu": _cpu(), "torch": torch.__version__}


def _cpu() -> str:
    """The CPU's model, or its architecture if the system doesn't name the model."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def take_time(work: Callable[[], object]) -> Seconds:
    """How long a piece of work takes in this process."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def peak_mb() -> float:
    """This process's peak of resident memory, MB; Linux only."""
    # getrusage would give the larger of this process's peak and that of the process that started it
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
