"""Tasks on places: several layers of a network joined to one map, which is taught on whole pictures stretched to squares, half of them mirrored."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from selfsight.core.clock import Clock
from selfsight.core.hooks import capture_activations, tensor_of
from selfsight.core.representation import Representation
from selfsight.core.views import Images
from selfsight.data.loader import load_images
from selfsight.data.source import Source, Subset
from selfsight.data.views.chance import KeyedRandom
from selfsight.data.views.image.geometry import Placing, extents, resample
from selfsight.measure.analysis.inputs import AnalysisInput, evenly_spaced_rows, spatial_layers
from selfsight.tasks.tuning import TuneConfig, hardware_of, tune

__all__ = ["Neck", "extents_of", "predict", "sample_sources", "stretched_views", "train_head"]

LEVELS, FINEST = 4, 2
"""Layers that are joined, evenly spaced; the least pixels between cells of the map made of them."""
TAUGHT, JUDGED = 4000, 1000
"""Pictures at most."""


class Neck(nn.Module):
    """One map of features of several layers.

    Each layer's grid goes through a batch norm and filters 1 x 1, is brought to the size of the finest, and all are added; then a rectifier.

    Args:
        phi: the network; its backbone becomes a part of this.
        width: channels of the map.
        names: of layers with places; four evenly spaced ones by default, the deepest among them.

    Attributes:
        cells: rows and columns of the map.
    """

    def __init__(self, phi: Representation, width: int = 64, names: Sequence[str] = ()) -> None:
        super().__init__()
        every = spatial_layers(phi, names)
        count = min(LEVELS, len(every))
        self.names = tuple(every[len(every) - 1 - round(place * (len(every) - 1) / max(count - 1, 1))] for place in range(count))
        self.phi, self.backbone = phi, phi.backbone
        with torch.no_grad():
            blank = torch.zeros(1, phi.backbone.channels, phi.size, phi.size, device=phi.device)
            shapes = [phi.grid(blank, name).shape[1:] for name in self.names]
        self.cells = min(max(shape[1] for shape in shapes), phi.size // FINEST)
        self.arms = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(shape[0]), nn.Conv2d(shape[0], width, 1)) for shape in shapes)

    def forward(self, images: Float[Tensor, "batch channel size size"]) -> Float[Tensor, "batch width cells cells"]:
        """The map of normalised images."""
        with capture_activations(self.backbone, *self.names) as captured:
            self.backbone(images)
        grids = [self.phi.as_grid(tensor_of(captured[name]), images.shape[-2:], name) for name in self.names]
        said = [arm(grid) for arm, grid in zip(self.arms, grids, strict=True)]
        return relu(sum(interpolate(one, (self.cells, self.cells), mode="bilinear") for one in said))  # pyright: ignore[reportArgumentType]


def stretched_views(batch: Images, size: int, flip: Bool[Tensor, " batch"] | None = None) -> Float[Tensor, "batch channel size size"]:
    """Whole pictures stretched to squares, in [0, 1]; ``flip``: which are mirrored."""
    height, width = extents(batch).float().unbind(1)
    nothing = torch.zeros_like(height)
    full = 1.0 if batch.pixels.is_floating_point() else 255.0
    return resample(batch.pixels, Placing(torch.stack([nothing, nothing, width, height], 1), flip), size) / full


def train_head(
    model: nn.Module,
    phi: Representation,
    source: Source,
    course: TuneConfig,
    loss: Callable[[Any, Images, Bool[Tensor, " batch"]], Float[Tensor, ""]],
) -> None:
    """Teach what says something of normalised squares.

    Args:
        model: from pictures to what ``loss`` judges.
        phi: the copied network inside it.
        source: the pictures.
        course: how.
        loss: of what the model says, of the batch, of which pictures are mirrored.
    """
    hardware = hardware_of(phi)

    def of_batch(batch: Images, step: int) -> Float[Tensor, ""]:
        flip = KeyedRandom(len(batch), Clock(course.seed, step)).uniform().lt(0.5).to(hardware.device)
        view = hardware.layout(phi.normalise(stretched_views(batch, phi.size, flip)))
        with hardware.autocast():
            captured = model(view)
        return loss(captured, batch, flip)

    tune(model, of_batch, source, course, hardware)


@torch.no_grad()
def predict(model: nn.Module, phi: Representation, source: Source, rows: Int[np.ndarray, " row"]) -> Any:
    """What it says of some pictures of a data set."""
    hardware = hardware_of(phi)
    view = phi.normalise(stretched_views(load_images(source, rows).map(hardware.move), phi.size))
    with hardware.autocast():
        return model(hardware.layout(view))


def extents_of(source: Source) -> Int[np.ndarray, "picture 2"]:
    """Height and width of what is read of each picture."""
    parts = np.array_split(np.arange(len(source)), -(-len(source) // 256))
    return np.concatenate([extents(load_images(source, part)).numpy() for part in parts])


def sample_sources(asked: AnalysisInput) -> tuple[Subset, Subset]:
    """The pictures that are taught and judged, drawn evenly."""
    return Subset(asked.train, evenly_spaced_rows(asked.train, TAUGHT)), Subset(asked.test, evenly_spaced_rows(asked.test, JUDGED))
