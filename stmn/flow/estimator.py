"""Load flow plugins with the user's options, and check the options before any video is read."""

from collections.abc import Callable, Mapping
from typing import Any

from stmn import registry
from stmn.errors import PluginError
from stmn.registry.options import load_with, plugin_errors


def load_estimator(name: str, options: Mapping[str, Any]) -> Callable[..., Any]:
    """Load a flow plugin and set its options.

    Args:
        name: Name of the plugin.
        options: Its keyword arguments. `lambda`, which is reserved in Python, means `lambda_`.

    Returns:
        The estimator; it checks the option values itself when it is called. The result of another package's plugin is
        also checked.

    Raises:
        UsageError: The plugin has no such option, or a value has the wrong type.
        PluginError: There is no such plugin.
    """
    estimate, plugin = load_with("flow", name, options), registry.find("flow", name)
    return estimate if plugin.package == registry.BUILT_IN else _Checked(estimate, plugin)


def check_estimator(name: str, options: Mapping[str, Any]) -> None:
    """Try a flow plugin with `options` on a pair of small frames. Raises as `load_estimator` and the plugin do."""
    import torch

    frames = torch.zeros(1, 32, 32, dtype=torch.uint8)
    load_estimator(name, options)(frames, frames)


class _Checked:
    """A flow plugin of another package; errors and wrong shapes are reported with its name."""

    def __init__(self, estimate: Callable[..., Any], plugin: registry.Plugin) -> None:
        self._estimate, self._plugin = estimate, plugin

    def __call__(self, first: Any, second: Any) -> Any:
        """Return the flow, (B, 2, H, W)."""
        with plugin_errors(self._plugin):
            found = self._estimate(first, second)
        wanted = (len(first), 2, *first.shape[1:])
        if tuple(getattr(found, "shape", ())) != wanted:
            got = tuple(found.shape) if hasattr(found, "shape") else type(found).__name__
            raise PluginError(f"{self._plugin.title} gave {got}, and flow of these frames is {wanted}")
        return found
