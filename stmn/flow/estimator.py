"""A flow plugin with options of one's own, checked before any video is read."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pydantic import TypeAdapter, ValidationError

from stmn import registry
from stmn.errors import UsageError, near_match


def load_estimator(name: str, options: Mapping[str, Any]) -> Callable[..., Any]:
    """The flow plugin `name` with `options`, its keyword arguments, set.

    `lambda`, a word that Python keeps for itself, stands for `lambda_`. Raises `UsageError` for an option that the
    plugin does not have or a value of another type; what values are allowed the plugin says when it is called.
    """
    estimator = registry.load("flow", name)
    known = {
        parameter.name.rstrip("_"): parameter
        for parameter in inspect.signature(estimator).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    chosen = {}
    for key, value in options.items():
        if key not in known:
            has = f"it has: {', '.join(known)}" if known else "it has none"
            raise UsageError(f"flow '{name}' has no option '{key}'{near_match(key, known)}; {has}")
        try:
            chosen[known[key].name] = TypeAdapter(known[key].annotation).validate_python(value)
        except ValidationError as error:
            mistake = error.errors()[0]["msg"]
            raise UsageError(f"flow '{name}': {key} = {value!r}: {mistake[0].lower()}{mistake[1:]}") from error
    return partial(estimator, **chosen) if chosen else estimator


def check_estimator(name: str, options: Mapping[str, Any]) -> None:
    """Try the plugin with `options` on a pair of small frames. Raises what it raises: `UsageError` for bad values."""
    import torch

    frames = torch.zeros(1, 32, 32, dtype=torch.uint8)
    load_estimator(name, options)(frames, frames)
