"""Load flow plugins with the user's options, and check these before any video is read."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pydantic import TypeAdapter, ValidationError

from stmn import registry
from stmn.errors import UsageError, describe_mistake, near_match


def load_estimator(name: str, options: Mapping[str, Any]) -> Callable[..., Any]:
    """Load a flow plugin and set its options.

    Args:
        name: Of the plugin.
        options: Its keyword arguments. `lambda`, which is reserved in Python, means `lambda_`.

    Returns:
        The estimator; it checks the values itself when it is called.

    Raises:
        UsageError: The plugin has no such option, or a value has the wrong type.
        PluginError: There is no such plugin.
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
            raise UsageError(f"flow '{name}' has no option '{key[:100]}'{near_match(key, known)}; {has}")
        try:
            chosen[known[key].name] = TypeAdapter(known[key].annotation).validate_python(value)
        except ValidationError as error:
            raise UsageError(
                f"flow '{name}': {key} = {repr(value)[:100]}: {describe_mistake(error.errors()[0])}"
            ) from error
    return partial(estimator, **chosen) if chosen else estimator


def check_estimator(name: str, options: Mapping[str, Any]) -> None:
    """Try a flow plugin with `options` on a pair of small frames. Raises as `load_estimator` and the plugin do."""
    import torch

    frames = torch.zeros(1, 32, 32, dtype=torch.uint8)
    load_estimator(name, options)(frames, frames)
