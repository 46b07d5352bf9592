"""Images that maximise a unit or a class."""

from pathlib import Path
from typing import Any

from PIL import Image

from selfsight.core.readout import Readout
from selfsight.explain.gallery import Gallery
from selfsight.explorer.worker.request import JobContext
from selfsight.workflows.explain import maximise_targets

__all__ = ["maximised", "run"]


def maximised(found: Gallery, out: Path) -> dict[str, Any]:
    """Pictures that a unit or a class likes, each a file."""
    out.mkdir(parents=True, exist_ok=True)
    (pictures,) = found.rows.values()
    for number, one in enumerate(pictures):
        Image.fromarray(one.picture).save(out / f"made-{number}.png")
    said = ", ".join(one.words.split("\n")[0] for one in pictures)
    return {"files": [f"made-{number}.png" for number in range(len(pictures))], "words": f"its activation: {said}"}


def run(job: JobContext) -> dict[str, Any]:
    """Images optimised for a unit, or for a class of the linear probe."""
    target = job.request.unit_name or f"class:{Readout.load(job.path / 'measures' / 'linear').classes[job.request.class_index or 0]}"
    return maximised(maximise_targets(job.phi, job.path, [target], progress=job.progress), job.out)
