"""Input of an analysis, and the default images and layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfsight.core.errors import UsageError
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.representation import Representation
from selfsight.data.evaluation_view import evaluation_view
from selfsight.data.source import Source
from selfsight.measure.probes.layers import LabelPair

__all__ = ["AnalysisInput", "central_images", "evenly_spaced_rows", "spatial_layers"]

NO_LABELS = LabelPair()


@dataclass(frozen=True)
class AnalysisInput:
    """Input of an analysis.

    Attributes:
        train: images that something is fitted to.
        test: images that it is scored on.
        labels: labels of both.
        others: networks to compare with, by name.
        layers: names of layers; by default all that the backbone lists.
        progress: called with the current step.
    """

    train: Source
    test: Source
    labels: LabelPair = NO_LABELS
    others: Mapping[str, Representation] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    progress: ProgressCallback = no_progress


def evenly_spaced_rows(source: Source, most: int) -> Int[np.ndarray, " row"]:
    """Evenly spaced rows of a data set.

    Args:
        source: the data set.
        most: maximum number of rows.
    """
    return np.linspace(0, len(source) - 1, min(most, len(source))).astype(np.int64)


def central_images(source: Source, rows: Int[np.ndarray, " row"], size: int) -> Float[Tensor, "row channel size size"]:
    """Central squares of images, in [0, 1].

    Args:
        source: the data set.
        rows: rows to read.
        size: side in pixels.
    """
    return torch.cat([evaluation_view(source, size)(part) for part in np.array_split(rows, -(-len(rows) // 256))])


def spatial_layers(phi: Representation, names: Sequence[str] = ()) -> list[str]:
    """Layers of the given names; by default all that have a spatial grid.

    Args:
        phi: the representation.
        names: names of layers.
    """
    blank = torch.zeros(1, phi.backbone.channels, phi.size, phi.size)

    def is_spatial(name: str) -> bool:
        try:
            return phi.grid(blank, name).ndim == 4
        except UsageError:
            return False

    with torch.no_grad():
        return list(names) or [name for name in phi.layers if is_spatial(name)]
