"""Written JSON is valid: NaN and infinity are null, and no module writes JSON in another way."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

import selfsight
from selfsight.core.json_text import json_text

ROOT = Path(selfsight.__file__).parent


def test_nan_and_infinity_are_null():
    content = {"a": [float("nan"), 1.5, (float("inf"), -float("inf"))], "b": {"c": np.float64("nan"), "d": 2}, "e": "NaN", "f": None}
    expected = {"a": [None, 1.5, [None, None]], "b": {"c": None, "d": 2}, "e": "NaN", "f": None}
    assert json.loads(json_text(content), parse_constant=pytest.fail) == expected
    assert json_text({"b": 1, "a": 2}, indent=1, sort_keys=True) == '{\n "a": 2,\n "b": 1\n}'
    with pytest.raises(TypeError):
        json_text({"a": object()})


def test_json_is_written_by_json_text_only():
    others = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in ROOT.rglob("*.py")
        if path.name != "json_text.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in ("dump", "dumps") and ast.unparse(node.value) == "json")
        or (isinstance(node, ast.ImportFrom) and node.module == "json" and {each.name for each in node.names} & {"dump", "dumps"})
    ]
    assert not others
