"""Write what was chosen as a recipe that a person can read, edit and run."""

import re
from collections.abc import Sequence
from typing import Any

from stmn.recipe.content import RecipeStage
from stmn.recipe.fitting.choose import APPEARANCE_CHUNKS, NAMED_GROUPS, Chosen
from stmn.runtime.toml_files import format_toml

#: id of the stage whose model is kept, with folds and without
FINAL, FUSED = "final", "fused"
#: id of the stage that calibrates that model; its output is the model to use
CALIBRATED = "calibrated"
_ABOUT = "streams, fusion and gates for the clips of a folder, written to fit them"


def final_id(stages: Sequence[RecipeStage]) -> str:
    """The id of the stage that makes the model to use; with folds, it has learned from all clips."""
    ids = {stage.id for stage in stages}
    return next((stage_id for stage_id in (CALIBRATED, FINAL) if stage_id in ids), FUSED)


def write_text(chosen: Chosen, videos: str, head: list[str], report: bool, from_list: bool = False) -> str:
    """The text of a recipe.

    Args:
        chosen: what was chosen.
        videos: the folder or the list.
        head: lines of the comment at the top.
        report: end with a report, which needs an extra.
        from_list: `videos` is a list that has groups and splits.
    """
    swept = {"seed": list(range(chosen.seeds))} | ({"split": "all"} if chosen.folds > 1 else {})
    sweep = swept if chosen.folds > 1 or chosen.seeds > 1 else {}
    if sweep:
        sweep |= {"against": "test-motion"}
    parts = [
        "\n".join(f"# {line}" if line else "#" for line in head),
        _table("[recipe]", {"name": _recipe_name(chosen.name), "about": _ABOUT, "data": chosen.name}),
        _table("[sweep]", sweep) if sweep else "",
        _table("[[stage]]", _prepare(chosen, videos, from_list), _comments(chosen)),
        *(_table("[[stage]]", values) for values in _trainings(chosen)),
        *(_table("[[stage]]", values) for values in _tests(chosen)),
    ]
    if chosen.folds > 1:
        parts.append("# The model to use: trained on all clips in the same way. Its accuracy is that of the folds.")
        final = _trainings(chosen, "final-", FINAL)
        parts += [_table("[[stage]]", values | {"split": "none", "seed": 0}) for values in final]
    model = FINAL if chosen.folds > 1 else FUSED
    parts.append("# The same model with a temperature, fitted to the tests above, so that its confidence is honest.")
    parts.append(_table("[[stage]]", {"id": CALIBRATED, "uses": "calibrate", "model": model, "scores": ["test-fused"]}))
    if report:
        parts.append(_table("[[stage]]", {"id": "report", "uses": "report"}))
    return "\n\n".join(part for part in parts if part) + "\n"


def _prepare(chosen: Chosen, videos: str, from_list: bool) -> dict[str, Any]:
    """The stage that prepares the clips."""
    values: dict[str, Any] = {"id": "clips", "uses": "prepare", "videos": videos}
    if not from_list:
        if chosen.dataset in NAMED_GROUPS:
            values |= {"dataset_options": {"group_pattern": chosen.group_pattern}}
        else:
            values |= {"dataset": chosen.dataset}
        if chosen.folds > 1:
            values |= {"split_by": "auto", "folds": chosen.folds}
    values |= {"short_side": chosen.short_side}
    values |= {"fps": chosen.fps} if chosen.fps else {}
    values |= {"flow": chosen.flow, "bound": chosen.bound}
    values |= {"mirror_pairs": chosen.mirror_pairs} if chosen.mirror_pairs else {}
    return values | {"allow_failures": chosen.allow_failures}


def _trainings(chosen: Chosen, prefix: str = "", fused: str = FUSED) -> list[dict[str, Any]]:
    """The stages that train."""
    common: dict[str, Any] = {"schedule": "cosine", "augment": "random_resized", "validation": 0.0}
    common |= {"balance": True} if chosen.balance else {}
    batch = {"batch": chosen.batch, "micro_batch": chosen.batch}
    start = 0.01 if chosen.weights == "imagenet" else 0.05

    def stream(name: str, modality: str, chunks: int, strides: tuple[int, int], steps: int) -> dict[str, Any]:
        values = {"id": f"{prefix}{name}", "uses": "train-stream", "modality": modality, "arch": chosen.arch}
        values |= {"width": chosen.width, "weights": chosen.weights, "size": chosen.size, "chunks": chunks}  # type: ignore[dict-item]
        values |= {"stride_min": strides[0], "stride_max": strides[1], **batch, "steps": steps, "lr": start}  # type: ignore[dict-item]
        return values | common

    appearance = stream("appearance", "rgb", APPEARANCE_CHUNKS, chosen.appearance_strides, chosen.half_steps)
    motion = stream("motion", "flow", chosen.chunks, chosen.strides, chosen.steps) | {"dropout": 0.2}
    tied = {
        "id": fused, "uses": "fuse", "appearance": f"{prefix}appearance", "motion": f"{prefix}motion",
        "fusion": "multiply", "injector": "residual", "temporal_pool": "average", "chunks": chosen.chunks,
        "stride_min": chosen.strides[0], "stride_max": chosen.strides[1], **batch, "steps": chosen.half_steps,
        "lr": round(start * 0.4, 4),
    }  # fmt: skip
    return [appearance, motion, tied | common]


def _tests(chosen: Chosen) -> list[dict[str, Any]]:
    """The stages that test."""
    both = ["test-appearance", "test-motion"]
    tests: list[dict[str, Any]] = [
        {"id": f"test-{name}", "uses": "evaluate", "model": name} for name in ("appearance", "motion")
    ]
    tests.append({"id": "test-late-fusion", "uses": "evaluate", "late_fusion": both})
    tests.append({"id": "test-fused", "uses": "evaluate", "model": FUSED})
    if chosen.folds > 1:  # each fold's weights are chosen on the clips of the others
        tests.append({"id": "test-fused-weighted", "uses": "evaluate", "model": FUSED, "stream_weights": "folds"})
    return tests


def _comments(chosen: Chosen) -> dict[str, str]:
    """Key -> reason, to stand beside the keys of the stage that prepares."""
    reasons = {"short_side": "short_side", "fps": "rate", "bound": "bound", "folds": "folds"}
    found = {key: chosen.reasons[name].why for key, name in reasons.items() if name in chosen.reasons}
    return found | {"allow_failures": "clips that may turn out to be damaged"}


def _table(head: str, values: dict[str, Any], comments: dict[str, str] | None = None) -> str:
    """A TOML table, with comments on some of its lines."""
    lines = [head]
    for key, value in values.items():
        line = f"{key} = {format_toml(value)}"
        why = (comments or {}).get(key)
        lines.append(f"{line:<24} # {why}" if why else line)
    return "\n".join(lines)


def _recipe_name(name: str) -> str:
    """A name for the recipe, made from that of the set."""
    return re.sub(r"[^\w-]+", "_", name)
