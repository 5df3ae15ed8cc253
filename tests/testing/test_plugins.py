"""`stmn.plugins` has the contract of every kind of plugin, and the built-in ones keep it."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stmn import plugins, registry


def built_in(kind: str) -> list[str]:
    return [plugin.name for plugin in registry.plugins(kind) if plugin.package == "stmn"]


def parameters(contract: type) -> list[inspect.Parameter]:
    return list(inspect.signature(contract.__call__).parameters.values())[1:]  # without self


def test_contracts_are_imported_without_torch():
    code = "import sys, stmn.plugins; sys.exit(', '.join({'torch', 'timm', 'av'} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), f"imported: {done.stderr}"


def test_every_kind_has_a_contract():
    groups = [line.split("`")[1] for line in plugins.__doc__.splitlines() if line.startswith("| ") and "`stmn." in line]
    assert sorted(groups) == sorted(registry.KINDS.values())
    for name in plugins.__all__:
        assert getattr(plugins, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        plugins.Nothing  # noqa: B018


@pytest.mark.parametrize(("kind", "contract"), [
    ("fusion", plugins.Fusion), ("flow", plugins.FlowEstimator), ("injector", plugins.Injector),
])  # fmt: skip
def test_built_in_functions_take_the_contracts_arguments(kind, contract):
    for name in built_in(kind):
        found = inspect.signature(registry.load(kind, name))
        found.bind(*parameters(contract))
        assert [parameter.name for parameter in parameters(contract)] == list(found.parameters)[
            : len(parameters(contract))
        ]
        options = list(found.parameters.values())[len(parameters(contract)) :]
        assert all(option.kind is option.KEYWORD_ONLY and option.default is not option.empty for option in options)


def test_built_in_backbones_are_built_as_the_contract_says():
    assert {parameter.name for parameter in parameters(plugins.BackboneFactory)} == {"in_channels", "width"}
    backbone = registry.load("backbone", "resnet18")(in_channels=20, width=0.125)
    assert isinstance(backbone, plugins.Backbone)
    assert backbone.stem(torch.zeros(1, 20, 32, 32)).shape == (1, 64, 8, 8)
    assert all(isinstance(unit, plugins.Unit) for units in backbone.parts.values() for unit in units)


def test_built_ins_are_of_the_classes_of_the_contracts(tmp_path):
    for name in built_in("dataset"):
        dataset = registry.load("dataset", name)
        assert issubclass(dataset, plugins.Dataset)
    for name in built_in("exporter"):
        exporter = registry.load("exporter", name)()
        assert exporter.suffix.startswith(".")
        for method in ("write", "runner"):
            contract = list(inspect.signature(getattr(plugins.Exporter, method)).parameters)[1:]
            has = list(inspect.signature(getattr(exporter, method)).parameters)
            assert has[: len(contract)] == contract
            assert set(has[len(contract) :]) <= {"precision", "opset", "clips"}  # which an exporter may offer


def test_dataset_of_another_package_needs_the_contract_alone():
    class Fixed(plugins.Dataset):
        def videos(self) -> list[plugins.VideoEntry]:
            return [plugins.VideoEntry("a", self.root / "a.mp4", "run")]

        def splits(self) -> plugins.Splits:
            return {"1": {"train": ["a"], "test": []}}

    dataset = Fixed(Path("."))
    (video,) = dataset.videos()
    assert dataset.fetch(video) == video.path and dataset.keeps == {"mirror", "crop"}
