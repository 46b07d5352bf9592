"""Type checkers distinguish raw images from normalised input; at run time both are tensors."""

import json
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

from selfsight.core.pixels import Normalised, as_normalised

CODE = """
import torch
from selfsight.core.pixels import as_normalised
from selfsight.core.representation import Representation
from selfsight.explain.attribution.saliency import scores
from selfsight.explain.targets import Target

def score(phi: Representation, images: torch.Tensor, target: Target) -> None:
    scores(phi, phi.normalise(images), target)
    scores(phi, as_normalised(images * 0), target)
    scores(phi, images, target)
"""


def test_both_are_tensors_at_run_time():
    values = torch.rand(2, 3)
    assert as_normalised(values) is values
    assert Normalised is Tensor


def test_raw_images_are_rejected_where_normalised_input_is_needed(tmp_path):
    checker = Path(sys.executable).with_name("basedpyright")
    (tmp_path / "use.py").write_text(CODE)
    command = [str(checker), "--outputjson", "--pythonpath", sys.executable, str(tmp_path / "use.py")]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    errors = [item for item in found["generalDiagnostics"] if item["severity"] == "error"]
    assert [item["range"]["start"]["line"] for item in errors] == [CODE[: CODE.index("scores(phi, images")].count("\n")]
    assert "Normalised" in errors[0]["message"]
