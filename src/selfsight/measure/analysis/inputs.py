"""What a network is measured on, and the pictures and layers that are taken where nothing else is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfsight.core.errors import UsageError
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.representation import Representation
from selfsight.data.loader import load_images
from selfsight.data.source import Source
from selfsight.data.views.image.geometry import central_square
from selfsight.measure.probes.layers import LabelPair

__all__ = ["AnalysisInput", "central_images", "evenly_spaced_rows", "spatial_layers"]

NO_LABELS = LabelPair()


@dataclass(frozen=True)
class AnalysisInput:
    """What a network is measured on.

    Attributes:
        train, test: pictures that something is fitted to; others.
        labels: of both.
        others: networks that it is compared with, by name.
        layers: names of layers; all that are worth looking at by default.
        progress: called with what is being done.
    """

    train: Source
    test: Source
    labels: LabelPair = NO_LABELS
    others: Mapping[str, Representation] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    progress: ProgressCallback = no_progress


def evenly_spaced_rows(source: Source, most: int) -> Int[np.ndarray, " row"]:
    """Rows drawn evenly from a data set, so many at most."""
    return np.linspace(0, len(source) - 1, min(most, len(source))).astype(np.int64)


def central_images(source: Source, rows: Int[np.ndarray, " row"], size: int) -> Float[Tensor, "row channel size size"]:
    """Central squares in [0, 1]."""
    return torch.cat([central_square(load_images(source, part), size) for part in np.array_split(rows, -(-len(rows) // 256))])


def spatial_layers(phi: Representation, names: Sequence[str] = ()) -> list[str]:
    """The layers asked for, or of all those that have places."""
    blank = torch.zeros(1, phi.backbone.channels, phi.size, phi.size)

    def has(name: str) -> bool:
        try:
            return phi.grid(blank, name).ndim == 4
        except UsageError:
            return False

    with torch.no_grad():
        return list(names) or [name for name in phi.layers if has(name)]
