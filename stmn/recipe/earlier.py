"""Compare a new run with an earlier one: why it is not the same, and whether the earlier one waits to be resumed."""

from collections.abc import Iterator
from typing import Any

from stmn.errors import DataError
from stmn.recipe.plan import StagePlan
from stmn.registry import for_fingerprint
from stmn.workspace import Run, Workspace

#: the file that an interrupted training leaves
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
    alike: list[tuple[Run, dict[str, str]]] = []
    for run in workspace.runs():
        if run.record.get("verb") != plan.verb or run.path == plan.run.path or _options_differ(run.record, plan):
            continue
        differences = dict(_differences(run.record, plan))
        if not differences:
            continue
        alike.append((run, differences))
        unfinished = not run.done and getattr(plan.options, "resume", False) and (run.path / _STATE).exists()
        if unfinished and "format" in differences and differences.keys() <= {"format", "defaults"}:
            raise DataError(
                f"{run.path}: is unfinished, and stmn {_version_of(run)} trained it in another way than this version; "
                f"finish it with that version, or start over with --no-resume (in a recipe: resume = false)"
            )
    if not alike:
        return ""
    run, differences = min(alike, key=lambda item: len(item[1]))
    return f"this is a new run, not {run.name}: {'; '.join(differences.values())}"


def _options_differ(record: dict[str, Any], plan: StagePlan) -> bool:
    """True if a run and a plan were given different values of an option, or different inputs or data sets.

    An option given as `auto`, for example, doesn't count: the machine decides its value.
    """
    normalise = plan.options.normalise
    before, now = normalise(record.get("options", {})), normalise(plan.options.model_dump(mode="json"))
    asked = record.get("given", before)
    for name in plan.options.inputs():
        if asked.get(name) != plan.given.get(name) and ("given" in record or name in plan.given):
            return True
    if plan.identity.get("data", {}).get("name") != record.get("data", {}).get("name"):
        return True
    fixed = {name for name, value in plan.given.items() if now.get(name) == value}
    fixed |= {name for name, value in record.get("given", {}).items() if before.get(name) == value}
    decides = plan.options.deciding()
    return any(name in decides and name in before and before[name] != decides[name] for name in fixed)


def _differences(record: dict[str, Any], plan: StagePlan) -> Iterator[tuple[str, str]]:
    """(Kind, text) of each difference between a run and a plan that were given the same options."""
    identity, before = plan.identity, plan.options.normalise(record.get("options", {}))
    decides = plan.options.deciding()
    changed = {k: (before[k], now) for k, now in decides.items() if k in before and before[k] != now}
    if "weights" in changed:
        there, here = changed.pop("weights")
        yield (
            "weights",
            f"that one started from weights {there}, this one starts from {here} (weights = auto takes ImageNet's if "
            f"they are on this machine)",
        )
    if changed:
        words = ", ".join(f"{name} = {here}, there {there}" for name, (there, here) in changed.items())
        yield "defaults", f"the defaults differ ({words})"
    if identity["format"] != record.get("format"):
        yield "format", "this version of stmn gives different results from the one that made it"
    if identity["inputs"] != (known := record.get("inputs", {})):
        names = [name for name, item in identity["inputs"].items() if known.get(name) != item]
        yield "inputs", f"the inputs differ ({', '.join(names or known)})"
    if identity.get("data", {}) != record.get("data", {}):
        yield "data", f"the data set {identity['data']['name']} has changed"
    plugins = []
    for now_known, known in _pairs(identity["plugins"], record.get("plugins", [])):
        if now_known != known:
            what = f"{known.get('kind')} {known.get('name')}"
            if "digest" in known:
                plugins.append(f"the content of the {what} has changed")
                continue
            same_version = now_known.get("version") == known.get("version")
            how = "its code" if same_version else f"its version, {known.get('version')} to {now_known.get('version')},"
            plugins.append(f"the plugin {what} of {known.get('package')}: {how} has changed")
    if plugins:
        yield "plugins", "; ".join(dict.fromkeys(plugins))


def _pairs(now: list[dict[str, str]], before: list[dict[str, str]]) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Pairs (now, before) of plugins of the same kind and name, without the versions of built-in ones."""
    known = {(item.get("kind"), item.get("name")): for_fingerprint(item) for item in before}
    for item in now:
        if (key := (item.get("kind"), item.get("name"))) in known:
            yield item, known[key]


def _version_of(run: Run) -> str:
    """The version of stmn that made a run."""
    return str(run.record.get("stmn", "of another version"))
