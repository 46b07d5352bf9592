"""Pages of results match the stored results."""

import json
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from selfsight.methods.table import METHODS

ROOT = Path(__file__).parent.parent


def recipe(name: str) -> ModuleType:
    spec = spec_from_file_location(f"recipe_{name}", ROOT / "recipes" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["evidence", "claims"])
def test_pages_are_current(name, tmp_path, monkeypatch):
    module = recipe(name)
    written = module.PAGE
    monkeypatch.setattr(module, "PAGE", tmp_path / "page.md")
    module.write_page()
    assert (tmp_path / "page.md").read_text() == written.read_text(), f"run: python recipes/{name}.py --pages"


def test_the_readme_has_the_counts_of_the_page():
    readme, page = (path.read_text() for path in (ROOT / "README.md", recipe("evidence").PAGE))
    told = re.search(r"of the (\d+) in \[the measured table\]\(docs/look-up/evidence.md\) (\d+) exceed both baselines", readme)
    shown = re.search(r"^(\d+) of (\d+) methods exceed both baselines", page, re.MULTILINE)
    assert told is not None
    assert shown is not None
    assert told.groups() == shown.groups()[::-1]


def test_results_match_their_file_names():
    for path in (ROOT / "recipes" / "evidence").rglob("*.json"):
        result = json.loads(path.read_text())
        assert path.stem == f"{result['method']}-{result['seed']}"
        assert path.parent.name == result["data"]
        assert result["method"] in METHODS


def test_marks_follow_from_the_numbers(tmp_path, monkeypatch):
    evidence = recipe("evidence")
    monkeypatch.setattr(evidence, "RESULTS", tmp_path)
    (tmp_path / "shapes").mkdir()
    for method, score in (("simclr", 0.5), ("moco", 0.25)):
        scores = {"knn": {"top1": score}, "linear": {"top1": 0.4}}
        baselines = {
            "untrained": {"knn": {"top1": 0.2}, "linear": {"top1": 0.45}},
            "pixels": {"knn": {"top1": 0.3}, "linear": {"top1": 0.1}},
        }
        result = {
            "method": method,
            "seed": 0,
            "data": "shapes",
            "probe": "knn",
            "scores": scores,
            "floors": baselines,
            "status": "finished",
        }
        result |= {"steps": 5, "seconds": 1.0, "megabytes": 100, "machine": "a processor", "threads": 1}
        (tmp_path / "shapes" / f"{method}-0.json").write_text(json.dumps(result))
    words = "\n".join(evidence.table("shapes"))
    assert "| simclr | k-NN | 50.0 | 20.0 | 30.0 | +20.0 | +20.0 | 1 |" in words
    assert "| moco ✗ | k-NN | 25.0 | 20.0 | 30.0 | -5.0 | -5.0 | 1 |" in words
    assert "1 of 2 methods exceed both baselines" in words


def test_longer_runs_replace_others():
    def row(method, score):
        return {"method": method, "probe": "knn", "scores": {"knn": {"top1": score}}, "floors": {"pixels": {"knn": {"top1": 0.3}}}}

    above = recipe("evidence")._above
    short = [row("simclr", 0.5), row("moco", 0.2), row("byol", 0.5), row("byol", 0.1)]
    assert above(short, []) == 1
    assert above(short, [row("moco", 0.4), row("simclr", 0.2)]) == 1
    assert above(short, [row("moco", 0.4), row("byol", 0.4)]) == 3


def test_judge_names_digits_and_not_noise():
    evidence = recipe("evidence")
    chance = np.random.default_rng(0)
    kinds = chance.random((3, 1, 8, 8))
    labels = np.repeat(np.arange(3), 20)
    real = kinds[labels] + 0.05 * chance.random((60, 1, 8, 8))
    judge = evidence.Judge(real, labels, kinds[[0, 1, 2] * 5] + 0.05 * chance.random((15, 1, 8, 8)))
    assert judge.names(kinds + 0.025).tolist() == [0, 1, 2]
    assert judge.names(chance.random((5, 1, 8, 8))).tolist() == [-1] * 5
