"""Make the package of a new plugin from templates: `stmn plugins new`."""

import importlib.util
import keyword
import re
import shutil
from importlib.resources import files
from pathlib import Path
from string import Template
from tempfile import mkdtemp

from stmn import registry
from stmn.errors import UsageError, near_match

#: kind -> its name in messages, if that differs
_WORDS = {"dataset": "data set", "weights": "set of starting weights"}
#: place in the toy recipe -> the built-in part there, unless the plugin's kind puts its own there
_PLACES = {
    "dataset": 'dataset = "synthetic"\ndataset_options = { train = 16, test = 8 }',
    "flow": 'flow = "tvl1"',
    "arch": "resnet18",
    "width": "0.125",
    "weights": "none",
    "fuse": 'fusion = "multiply"\ninjector = "residual"',
    "last": "",
}
_OWN: dict[str, dict[str, str]] = {
    "backbone": {"arch": "$module"},
    "dataset": {"dataset": 'dataset = "$module"\ndataset_options = { count = 8 }'},
    "exporter": {
        "last": '\n[[stage]]\nid = "export"\nuses = "export"\nmodel = "fused"\nformat = "$module"\n'
        "format_options = { classes = false }"
    },
    "flow": {"flow": 'flow = "$module"\nflow_options = { damping = 0.5 }'},
    "fusion": {"fuse": 'fusion = "$module"\nfusion_options = { reduction = 2 }\ninjector = "residual"'},
    "injector": {"fuse": 'fusion = "multiply"\ninjector = "$module"\ninjector_options = { unit = 0 }'},
    "logger": {"fuse": 'fusion = "multiply"\nlogger = "$module"\nlogger_options = { columns = "loss" }'},
    "weights": {  # a small network: each of its parts has only one unit
        "weights": "$module",
        "arch": "test_resnet",
        "width": "1.0",
        "fuse": 'fusion = "multiply"\ngated_units = "every_unit"\ninjector = "none"',
    },
}


def make_package(name: str, kind: str, parent: Path) -> Path:
    """Make the folder of an installable package with one plugin: module, check, recipe.

    Args:
        name: name of the package; with `_` for `-` also that of the module and the plugin.
        kind: one of `stmn.registry.KINDS`.
        parent: where the folder is made.

    Returns:
        The folder.

    Raises:
        UsageError: the name is taken or can't be a package's, there is no such kind, or the folder exists.
    """
    if kind not in registry.KINDS:
        raise UsageError(f"--kind {kind}: no such kind{near_match(kind, registry.KINDS)}; {', '.join(registry.KINDS)}")
    module = name.replace("-", "_")
    _check_name(name, module, kind)
    folder = parent / name
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"{folder}: exists already; choose another name, or --to another folder")
    if not parent.is_dir():
        raise UsageError(f"{parent}: no such folder; make it, or choose another one with --to")
    title = "".join(word.capitalize() for word in module.split("_"))
    values = {
        "package": name, "module": module, "kind": kind, "words": _WORDS.get(kind, kind),
        "group": registry.KINDS[kind], "api": str(registry.API_VERSION),
        "object": title if kind in ("fusion", "dataset", "exporter", "logger") else module,
    }  # fmt: skip
    values |= _PLACES | {place: Template(own).substitute(values) for place, own in _OWN[kind].items()}
    made = {
        "pyproject.toml": "pyproject.toml", "README.md": "README.md", "recipe.toml": "recipe.toml",
        f"{module}/__init__.py": f"{kind}.py", f"tests/test_{module}.py": "test.py",
    }  # fmt: skip
    try:
        temporary = Path(mkdtemp(prefix=f".{name}-", dir=parent))
    except OSError as error:
        raise UsageError(f"{parent}: can't be written: {error.strerror}; choose another folder with --to") from error
    try:
        for path, template in made.items():
            text = (files("stmn.cli") / "plugin_templates" / f"{template}.template").read_text(encoding="utf-8")
            (temporary / path).parent.mkdir(exist_ok=True)
            (temporary / path).write_text(Template(text).substitute(values).rstrip() + "\n", encoding="utf-8")
        if kind == "weights":
            _write_toy_weights(temporary / module)
        temporary.chmod(0o755)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _write_toy_weights(folder: Path) -> None:
    """Write random weights of a small ResNet for each stream: placeholders for the user's own files."""
    import timm
    import torch

    from stmn.runtime.tensor_files import save_plain

    for seed, modality in enumerate(("rgb", "flow")):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            state = timm.create_model("test_resnet", num_classes=0).state_dict()
        save_plain(folder / f"{modality}.safetensors", state)


def _check_name(name: str, module: str, kind: str) -> None:
    """Raise `UsageError` if a name is taken, or can't name a package, module and plugin."""
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name) or keyword.iskeyword(module):
        raise UsageError(
            f"{name}: can't be the name of a package; use lower-case letters, digits and hyphens, such as my-gate"
        )
    taken = [plugin.package for plugin in registry.installed(kind) if plugin.name == module]
    if not taken and importlib.util.find_spec(module) is not None:
        taken = ["another package or of Python's"]
    if taken:
        what = f"{kind} '{module}'" if taken[0] != "another package or of Python's" else f"module '{module}'"
        raise UsageError(f"{name}: there is a {what} of {taken[0]} already; choose another name")
