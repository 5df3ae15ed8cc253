"""What each part of stmn reaches on a GPU, beside the limit that the GPU sets.

    python -m benchmarks.cuda --json FILE [--part training] [--device cuda:1]

Every module of this package without an underscore is a part. All numbers are medians after a warm-up. FILE is written
after each part. It keeps the parts of an earlier call on the same machine, so parts can be measured one by one. A part
that fails is reported as `error`, and the others still run. `--quick` is a look at whether everything runs, with tiny
sizes; with it `--device cpu` works too, and the numbers mean nothing.
"""

import argparse
import importlib
import json
import pkgutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.cuda import __path__ as parts_path
from benchmarks.cuda._gpu import attempt, describe_gpu, free_memory, measure_gpu
from benchmarks.frame import describe_machine, run
from stmn.runtime.device import Device, choose_device
from stmn.runtime.files import write_json


def find_parts() -> list[str]:
    """The names of the parts. Each is imported only when it is measured, because some need packages of their own."""
    return sorted(module.name for module in pkgutil.iter_modules(parts_path) if not module.name.startswith("_"))


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--part", action="append", choices=find_parts(), help="default: all")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default: cuda)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only shows that everything runs")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The content of the JSON file: the machine, the GPU, and what each part measured."""
    device = choose_device(options.device)
    result: dict[str, Any] = describe_machine() | {"quick": options.quick, "gpu": describe_gpu(device.device)}
    result |= read_earlier(options.json, result)
    result["gpu"] |= measure_gpu(device.device, options.quick)
    for name in options.part or find_parts():
        result[name] = attempt(partial(measure_part, name, device, options.quick), device.device)
        free_memory(device.device)
        write_json(options.json, result)  # a run that is killed in a later part has lost only that one
        print(name, json.dumps(result[name]), file=sys.stderr, flush=True)
    return result


def read_earlier(path: Path, machine: dict[str, Any]) -> dict[str, Any]:
    """The parts in the JSON file of an earlier call, if it was on the same machine and in the same sizes."""
    found = json.loads(path.read_text()) if path.exists() else None
    if not isinstance(found, dict) or not isinstance(found.get("gpu"), dict):
        return {}
    known = found | {"gpu": {key: found["gpu"].get(key) for key in machine["gpu"]}}  # its speeds vary
    if {key: known.get(key) for key in machine} != machine:
        return {}
    return {name: found[name] for name in find_parts() if name in found}


def measure_part(name: str, device: Device, quick: bool) -> dict[str, Any]:
    """What a part measures."""
    found: dict[str, Any] = importlib.import_module(f"benchmarks.cuda.{name}").measure(device, quick)
    return found


if __name__ == "__main__":
    run(__doc__, add_options, measure)
