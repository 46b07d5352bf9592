"""Images that maximise a unit or a class."""

from pathlib import Path
from typing import Any

from PIL import Image

from selfsight.core.readout import Readout
from selfsight.explain.gallery import Gallery
from selfsight.explorer.worker.request import JobContext
from selfsight.workflows.explain import maximise_targets

__all__ = ["class_target", "maximised", "run"]


def maximised(found: Gallery, out: Path) -> dict[str, Any]:
    """Write images that maximise a unit or a class, one file per image.

    Args:
        found: the images.
        out: folder of the files.
    """
    out.mkdir(parents=True, exist_ok=True)
    (tiles,) = found.rows.values()
    for number, tile in enumerate(tiles):
        Image.fromarray(tile.image).save(out / f"made-{number}.png")
    activations = ", ".join(tile.words.split("\n")[0] for tile in tiles)
    return {"files": [f"made-{number}.png" for number in range(len(tiles))], "words": f"activation: {activations}"}


def class_target(path: Path, number: int) -> str:
    """A class of a run's linear probe as a target.

    Args:
        path: the folder of the run.
        number: index of the class, from 0.
    """
    return f"class:{Readout.load(path / 'measures' / 'linear').classes[number]}"


def run(job: JobContext) -> dict[str, Any]:
    """Images optimised for a unit, or for a class of the linear probe."""
    target = job.request.unit_name or class_target(job.path, job.request.class_index or 0)
    return maximised(maximise_targets(job.phi, job.path, [target], progress=job.progress), job.out)
