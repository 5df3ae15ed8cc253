"""What an earlier run has to do with a new one: why it is not the same, and whether it waits to be resumed."""

from collections.abc import Iterator
from typing import Any

from stmn.errors import DataError
from stmn.recipe.plan import StagePlan
from stmn.registry import without_own_version
from stmn.workspace import Run, Workspace

#: what a training that was interrupted leaves
_STATE = "training.safetensors"


def check_earlier(plan: StagePlan, workspace: Workspace) -> str:
    """Look for the run that the same command made before something else changed.

    Args:
        plan: a stage that has no run yet.
        workspace: where it is to run.

    Returns:
        A line that names the earlier run and what differs; empty if there is none.

    Raises:
        DataError: the earlier run is unfinished and this version of stmn can't resume it.
    """
    for run in workspace.runs():
        if run.record.get("verb") != plan.verb or run.path == plan.run.path:
            continue
        differences = list(_differences(run.record, plan.identity))
        if not differences or any(name is None for name, _ in differences):
            continue
        words = "; ".join(text for _, text in differences)
        unfinished = not run.done and getattr(plan.options, "resume", False) and (run.path / _STATE).exists()
        if unfinished and {name for name, _ in differences} == {"format"}:
            raise DataError(
                f"{run.path}: is unfinished, and stmn {_version_of(run)} trained it in another way than this version; "
                f"finish it with that version, or start over with --no-resume"
            )
        return f"this is a new run, not {run.name}: {words}"
    return ""


def _differences(record: dict[str, Any], identity: dict[str, Any]) -> Iterator[tuple[str | None, str]]:
    """(What differs, in words) for each difference; None for an option that was given another value."""
    before, now = record.get("options", {}), identity["options"]
    for name, value in now.items():
        if name == "weights" and before.get(name, value) != value:
            yield (
                "weights",
                (
                    f"that one started from weights {before[name]}, this one starts from {value} (weights = auto takes "
                    f"ImageNet's if they are on this machine)"
                ),
            )
        elif name in before and before[name] != value:
            yield None, name
    if identity["format"] != record.get("format"):
        yield "format", "this version of stmn gives other results than the one that made it"
    if identity["inputs"] != record.get("inputs", {}):
        yield "inputs", f"the inputs differ ({', '.join(identity['inputs'])})"
    data, data_before = identity.get("data", {}), record.get("data", {})
    if data.get("name") != data_before.get("name"):
        yield None, "data"
    elif data != data_before:
        yield "data", f"the data set {data['name']} has changed"
    for now_known, known in _pairs(identity["plugins"], record.get("plugins", [])):
        if now_known != known:
            what = f"{known.get('kind')} {known.get('name')} of {known.get('package')}"
            same_version = now_known.get("version") == known.get("version")
            how = "its code" if same_version else f"its version, {known.get('version')} to {now_known.get('version')},"
            yield "plugins", f"the plugin {what}: {how} has changed"


def _pairs(now: list[dict[str, str]], before: list[dict[str, str]]) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Plugins of the same kind and name, now and before, without the versions of built-in ones."""
    known = {(item.get("kind"), item.get("name")): without_own_version(item) for item in before}
    for item in now:
        if (key := (item.get("kind"), item.get("name"))) in known:
            yield item, known[key]


def _version_of(run: Run) -> str:
    """The version of stmn that made a run."""
    return str(run.record.get("stmn", "of another version"))
