"""Adding an entry is one new file and one line of a registry; help, completion, documentation and suggestions follow."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ADDED = {
    "method": ("methods/table.py", "methods/contrastive/added_method.py", '"contrastive.added_method:Added"'),
    "backbone": ("backbones/table.py", "backbones/image/added_backbone.py", '"image.added_backbone:added"'),
    "attribution": ("explain/attribution/table.py", "explain/attribution/added_attribution.py", '"added_attribution:added"'),
    "probe": ("measure/probes/table.py", "measure/probes/added_probe.py", '"added_probe:added"'),
    "analysis": ("workflows/evaluate/analyses/table.py", "workflows/evaluate/analyses/added_analysis.py", '"added_analysis:ADDED"'),
    "localiser": ("discover/objects/table.py", "discover/objects/added_localiser.py", '"added_localiser:added"'),
    "segmenter": ("discover/segments/table.py", "discover/segments/added_segmenter.py", '"added_segmenter:added"'),
    "grouper": ("discover/images/table.py", "discover/images/added_grouper.py", '"added_grouper:added"'),
    "part_finder": ("discover/parts/table.py", "discover/parts/added_part_finder.py", '"added_part_finder:added"'),
    "reader": ("data/readers/table.py", "data/readers/added_reader.py", '"readers.added_reader:added"'),
    "job": ("explorer/server/job_table.py", "explorer/worker/jobs/added_job.py", '"added_job:run"'),
}
FILES = {
    "method": '''"""Added."""

from selfsight.methods.contrastive.simclr import SimCLR

__all__ = ["Added"]


class Added(SimCLR):
    """SimCLR under another name."""
''',
    "backbone": "from selfsight.backbones.image.resnet import resnet_tiny as added\n",
    "attribution": "from selfsight.explain.attribution.saliency import gradient as added\n",
    "probe": (
        "from selfsight.measure.results import Score, Scores\n\n\n"
        'def added(features):\n    return Scores({"rows": Score(float(len(features.test)), 0.0, 0.0)}, "rows of the test set")\n'
    ),
    "analysis": (
        "from selfsight.measure.results import Score, Scores\nfrom selfsight.workflows.evaluate.analyses.analysis import Analysis\n\n"
        'ADDED = Analysis(lambda phi, asked: Scores({"dim": Score(float(phi.backbone.dim), 0.0, 0.0)}, "width"))\n'
    ),
    "localiser": "from selfsight.discover.objects.localise import centre as added\n",
    "segmenter": "from selfsight.discover.segments.segmenters import patch as added\n",
    "grouper": "from selfsight.discover.images.grouping import spherical as added\n",
    "part_finder": "from selfsight.discover.parts.parts import shared_parts as added\n",
    "reader": (
        "import numpy as np\n\nfrom selfsight.data.readers.memory import ArraySource\nfrom selfsight.data.source import Truth\n\n\n"
        "def added(spec, size):\n    levels = np.random.default_rng(0).integers(0, 255, (12, 3, 16, 16)).astype(np.uint8)\n"
        "    return ArraySource(levels, Truth(labels=np.arange(12) % 2, classes=('a', 'b')), spec=spec.text)\n"
    ),
    "job": 'def run(job):\n    return {"files": [], "network": job.request.network}\n',
}
SCRIPT = """
import contextlib, io, json, runpy, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np, torch
import selfsight
from selfsight.cli import main
from selfsight.cli.completion import candidates
from selfsight.core.errors import SelfsightError

out = Path(sys.argv[1])
def said(*words):
    text, errors = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(errors):
        try:
            code = main(list(words))
        except SystemExit as end:
            code = end.code or 0
    return code, " ".join((text.getvalue() + errors.getvalue()).replace("│", " ").split())

data = "added_reader:"
found = {}
code, text = said("learn", data, "--method", "added_method", "--backbone", "added_backbone?width=8", "--steps", "2", "--batch", "4", "--size", "16",
    "--device", "cpu", "--precision", "fp32", "--no-report", "--json", "--out", str(out / "run"))
found["learn"] = [code, text[-300:]]
run = selfsight.Run(out / "run", device="cpu")
scores = run.measure(train=data, test=data, probes=["added_probe", "added_analysis"], baselines=False).scores
found["scores"] = {name: next(iter(values.values())).value for name, values in scores.items()}
found["maps"] = sorted(run.explain([f"{data}#0"], methods=["added_attribution"]).maps)
for what, method in {"boxes": "added_localiser", "segments": "added_segmenter", "clusters": "added_grouper", "parts": "added_part_finder"}.items():
    more = {"count": 2} if what == "clusters" else {"classes": 2} if what == "segments" else {"parts": 2} if what == "parts" else {}
    run.discover(data, what=what, method=method, baselines=False, **more)
from selfsight.explorer.server.job_table import JOBS
found["job"] = JOBS.load("added_job")(SimpleNamespace(request=SimpleNamespace(network="n")))["network"]
found["help"] = {"measure": said("measure", "--help")[1], "discover": said("discover", "--help")[1], "explain": said("explain", "--help")[1]}
found["complete"] = {" ".join(words): candidates(words) for words in (["learn", "--method"], ["learn", "--backbone"], ["measure", "--probes"],
    ["explain", "attribute", "--method"], ["discover", "--what", "boxes", "--method"], ["discover", "--what", "segments", "--method"],
    ["discover", "--what", "clusters", "--method"], ["discover", "--what", "parts", "--method"])}
found["near"] = {
    "method": said("learn", data, "--method", "added_methd")[1],
    "backbone": said("learn", data, "--backbone", "added_backbon")[1],
    "probe": said("measure", str(out / "run"), "--train", data, "--test", data, "--probes", "added_prob")[1],
    "analysis": said("measure", str(out / "run"), "--train", data, "--test", data, "--probes", "added_analysi")[1],
    "attribution": said("explain", "attribute", str(out / "run"), f"{data}#0", "--method", "added_attributio")[1],
    "localiser": said("discover", str(out / "run"), data, "--method", "added_localise")[1],
    "segmenter": said("discover", str(out / "run"), data, "--what", "segments", "--method", "added_segmente")[1],
    "grouper": said("discover", str(out / "run"), data, "--what", "clusters", "--method", "added_groupe")[1],
    "part_finder": said("discover", str(out / "run"), data, "--what", "parts", "--method", "added_part_finde")[1],
    "reader": said("learn", "added_reade:x")[1],
}
try:
    JOBS.resolve("added_jo")
except SelfsightError as problem:
    found["near"]["job"] = problem.remedy
found["names"] = runpy.run_path(sys.argv[2])["names"]()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    """Output of a copy of the package with one entry added to each registry."""
    folder = tmp_path_factory.mktemp("copied")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("*.png", "*.json", "decisions"))
    for kind, (table, file, target) in ADDED.items():
        path = folder / "src" / "selfsight" / file
        assert not path.exists()
        path.write_text(FILES[kind])
        text = (folder / "src" / "selfsight" / table).read_text()
        traits = ", traits=('generated',)" if kind == "reader" else ""
        line = f'        Entry("added_{kind}", {target}, "what was added as a {kind}"{traits}),\n'
        head, mark, tail = text.partition("    (\n        Entry(")
        assert mark
        (folder / "src" / "selfsight" / table).write_text(head + "    (\n" + line + "        Entry(" + tail)
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "SELFSIGHT_CACHE": str(folder / "cache"), "COLUMNS": "400"}
    words = [sys.executable, "-c", SCRIPT, str(folder), str(folder / "docs" / "generate.py")]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_added_entries_work(found):
    assert found["learn"][0] == 0, found["learn"][1]
    assert found["scores"] == {"added_probe": 12.0, "added_analysis": 64.0}
    assert found["maps"] == ["added_attribution"]
    assert found["job"] == "n"


@pytest.mark.parametrize("kind", ADDED)
def test_added_entries_are_documented_and_suggested(found, kind):
    assert f"`added_{kind}` | what was added as a {kind}" in found["names"]
    assert f"added_{kind}" in found["near"][kind]
    assert "Did you mean" in found["near"][kind] or kind == "job"


def test_added_entries_are_in_help_and_completion(found):
    assert all(f"added_{kind}" in found["help"]["measure"] for kind in ("probe", "analysis"))
    assert all(f"added_{kind}" in found["help"]["discover"] for kind in ("localiser", "segmenter", "grouper", "part_finder"))
    assert "added_attribution" in found["help"]["explain"]
    complete = list(found["complete"].values())
    expected = ("method", "backbone", "probe", "attribution", "localiser", "segmenter", "grouper", "part_finder")
    assert all(f"added_{kind}" in names for kind, names in zip(expected, complete, strict=True))
    assert "added_analysis" in found["complete"]["measure --probes"]
