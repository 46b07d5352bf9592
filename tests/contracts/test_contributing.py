"""The two files in CONTRIBUTING add a working method."""

import importlib
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import selfsight.methods.distillation
from selfsight.cli import main
from selfsight.core.registry import Entry
from selfsight.core.serialize import from_json, to_json
from selfsight.methods.table import METHODS

from small import trial, twin, world

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


@pytest.fixture
def added(tmp_path, monkeypatch) -> Iterator[str]:
    """The first block is the method file, the second a line of the table."""
    method, line = BLOCKS
    entry = eval(line.strip().rstrip(","), {"Entry": Entry})
    name, place = entry.name, entry.target
    module = place.partition(":")[0].rpartition(".")[2]
    (tmp_path / f"{module}.py").write_text(method)
    path = [*selfsight.methods.distillation.__path__, str(tmp_path)]
    monkeypatch.setattr(selfsight.methods.distillation, "__path__", path)
    monkeypatch.setitem(METHODS.entries, name, entry)
    importlib.invalidate_caches()
    yield name
    sys.modules.pop(f"selfsight.methods.distillation.{module}", None)
    vars(selfsight.methods.distillation).pop(module, None)


def test_two_files_add_a_method(added, tmp_path, capsys):
    case = trial(added, world())
    (outcome,) = case.outcomes().values()
    assert math.isfinite(float(outcome.loss.detach()))
    outcome.loss.backward()
    trained = [parameter for parameter in case.method.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in trained)
    again = twin(case, options=from_json(json.loads(json.dumps(to_json(case.method.options())))))
    again.load_state_dict(case.method.state_dict())
    assert case.losses(again) == case.losses()
    words = ["learn", "world:shapes?count=16&size=16", "--method", added, "--size", "16", "--batch", "8", "--steps", "2", "--dim", "64"]
    assert main([*words, "--device", "cpu", "--precision", "fp32", "--no-report", "--json", "--out", str(tmp_path / "run")]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "finished"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["options"]["dim"] == 64
    assert torch.is_grad_enabled()
