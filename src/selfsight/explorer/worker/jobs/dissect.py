"""Network dissection of one layer."""

from typing import Any

import numpy as np

from selfsight.core.progress import ProgressCallback
from selfsight.core.representation import Representation
from selfsight.data.source import Source, Subset, sample_rows
from selfsight.explorer.worker.request import JobContext
from selfsight.measure.analysis.dissect import dissect
from selfsight.workflows.evaluate.analyses.dissection import concepts_of

__all__ = ["dissection", "run"]


DISSECTED = 300
"""Maximum number of images."""


def dissection(phi: Representation, source: Source, layer: str | None, progress: ProgressCallback) -> dict[str, Any]:
    """The concept of the data's masks that each unit of a layer overlaps most (network dissection).

    Args:
        phi: the representation.
        source: the data set.
        layer: dotted name; None: the output.
        progress: called with a line per step.

    Raises:
        DataError: the data have no masks.
        UsageError: the layer has no feature map.
    """
    rows = sample_rows(len(source), DISSECTED, 0) if len(source) > DISSECTED else np.arange(len(source))
    concepts = concepts_of(source.truth(rows))
    progress(f"IoU of the units of {layer or 'the output'} with {len(concepts.names)} concepts")
    result = dissect(phi, Subset(source, rows), concepts, layer=layer)
    best = result.best
    units = [
        [result.names[concept], result.categories[concept], round(float(result.ious[unit, concept]), 4)]
        for unit, concept in enumerate(best)
    ]
    return {"units": units, "words": result.protocol, "files": []}


def run(job: JobContext) -> dict[str, Any]:
    """The concept that each unit of a layer overlaps most."""
    return dissection(job.phi, job.source, job.request.inner_layer, job.progress)
