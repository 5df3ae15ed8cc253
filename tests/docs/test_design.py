"""The house's page draws the rooms as the import contract has them."""

import re
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def test_rooms_are_those_of_the_import_contract():
    contracts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    table = (CHECKOUT / "docs/design.md").read_text().split("| room | job |")[1].split("\n\n")[0]
    rows = [re.findall(r"`(\w+)(?:/|\.py)`", line.split("|")[1]) for line in table.splitlines()[2:]]
    assert [set(row) for row in rows] == [set(re.split(r" [|:] ", layer)) for layer in layers]
