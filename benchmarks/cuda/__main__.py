"""What each part of stmn reaches on a GPU, beside the limit that the GPU sets.

    python -m benchmarks.cuda --json FILE [--part training] [--device cuda:1]

Every module of this package that has `measure` is a part. All numbers are medians after a warm-up. A part that fails
is reported as `error`, and the others still run. `--quick` is a look at whether everything runs, with tiny sizes; with
it `--device cpu` works too, and the numbers mean nothing.
"""

import argparse
import gc
import importlib
import json
import pkgutil
import sys
import traceback
from types import ModuleType
from typing import Any

import torch

from benchmarks.cuda import __path__ as parts_path
from benchmarks.cuda._gpu import describe_gpu
from benchmarks.frame import describe_machine, run
from stmn.runtime.device import choose_device


def find_parts() -> dict[str, ModuleType]:
    """The parts by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(parts_path) if not module.name.startswith("_"))
    modules = {name: importlib.import_module(f"benchmarks.cuda.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "measure")}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--part", action="append", choices=find_parts(), help="default: all")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default: cuda)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only shows that everything runs")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The content of the JSON file: the machine, the GPU, and what each part measured."""
    device = choose_device(options.device)
    result: dict[str, Any] = describe_machine() | {"gpu": describe_gpu(device.device, options.quick)}
    for name, part in find_parts().items():
        if options.part and name not in options.part:
            continue
        try:
            result[name] = part.measure(device, options.quick)
        except Exception as error:  # an hour of other parts is not lost with it
            traceback.print_exc()
            result[name] = {"error": f"{type(error).__name__}: {error}"}
        if device.is_cuda:  # what torch keeps is missing to the next part, and to the processes that it starts
            gc.collect()
            torch.cuda.empty_cache()
        print(name, json.dumps(result[name]), file=sys.stderr, flush=True)
    return result


if __name__ == "__main__":
    run(__doc__, add_options, measure)
