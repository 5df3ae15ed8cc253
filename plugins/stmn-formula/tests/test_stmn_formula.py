"""The weights keep their contract, and learned from rendered videos alone."""

import json
import struct

from stmn_formula import formula

from stmn.testing import check_weights


def test_contract_is_kept():
    check_weights(formula)


def test_files_say_what_they_learned_from():
    for modality, classes in (("rgb", 192), ("flow", 44)):
        with formula(modality).open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            about = json.loads(file.read(length))["__metadata__"]
        text = " ".join(about.values())
        assert "formula" in text and len(json.loads(about["stmn"])["network"]["classes"]) == classes
