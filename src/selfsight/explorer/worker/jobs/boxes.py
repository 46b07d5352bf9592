"""Objects of one image by several localisers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from selfsight.core.representation import Representation
from selfsight.data.source import Source
from selfsight.discover.dense.features import FeatureSpec
from selfsight.discover.objects.object_regions import find_objects
from selfsight.explorer.worker.drawing import save_sheet
from selfsight.explorer.worker.request import JobContext
from selfsight.render.sheet import Tile, sheet

__all__ = ["boxes", "run"]


FOUND = ("lost", "cut", "fiedler", "border")
"""Localisers that are compared; the last uses no network."""


def boxes(phi: Representation, source: Source, row: int, out: Path) -> dict[str, Any]:
    """Objects by several localisers, with masks and boxes.

    Args:
        phi: the representation.
        source: the data set.
        row: row of the image.
        out: folder of the sheet.
    """
    methods: Sequence[str] = (*(("attention",) if phi.has_attention and phi.token_layout.prefix else ()), *FOUND)
    spec = FeatureSpec(max(phi.size, 64))
    found = {method: find_objects(phi, source, method, feature_spec=spec, min_confidence=0.0, rows=np.array([row])) for method in methods}
    tiles = [Tile(np.asarray(result.tile(0)), _words(method, result.regions[0])) for method, result in found.items()]
    return save_sheet(sheet({"objects": tiles}), out, "objects found without labels; border does not use the network")


def _words(method: str, regions: Sequence[Any]) -> str:
    return f"{method} {regions[0].score:.2f}" if regions else f"{method}: none"


def run(job: JobContext) -> dict[str, Any]:
    """Objects of one image by several localisers."""
    job.progress("objects by several localisers")
    return boxes(job.phi, job.source, job.request.item, job.out)
