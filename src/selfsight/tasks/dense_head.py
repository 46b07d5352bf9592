"""Dense prediction tasks: layers of a network are fused to one feature map; images are resized to squares, half of them mirrored."""

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
from selfsight.data.views.image.geometry import CropGeometry, extents, resample
from selfsight.data.views.keyed_random import KeyedRandom
from selfsight.measure.analysis.inputs import AnalysisInput, evenly_spaced_rows, spatial_layers
from selfsight.tasks.tuning import TuneConfig, hardware_of, tune

__all__ = ["Neck", "extents_of", "predict", "sample_sources", "stretched_views", "train_head"]

LEVELS, FINEST = 4, 2
"""Number of fused layers, evenly spaced; minimum pixels between cells of the fused map."""
TAUGHT, JUDGED = 4000, 1000
"""Maximum number of training and test images."""


class Neck(nn.Module):
    """One feature map from several layers.

    The map of each layer passes a batch norm and a 1 x 1 convolution, is resized to the finest one, and all are added; then ReLU.

    Args:
        phi: the network; its backbone becomes a submodule.
        width: channels of the map.
        names: layers with a feature map; empty: four evenly spaced ones, including the deepest.

    Attributes:
        cells: rows and columns of the map.
    """

    def __init__(self, phi: Representation, width: int = 64, names: Sequence[str] = ()) -> None:
        super().__init__()
        layers = spatial_layers(phi, names)
        count = min(LEVELS, len(layers))
        self.names = tuple(layers[len(layers) - 1 - round(index * (len(layers) - 1) / max(count - 1, 1))] for index in range(count))
        self.phi, self.backbone = phi, phi.backbone
        with torch.no_grad():
            blank = torch.zeros(1, phi.backbone.channels, phi.size, phi.size, device=phi.device)
            shapes = [phi.grid(blank, name).shape[1:] for name in self.names]
        self.cells = min(max(shape[1] for shape in shapes), phi.size // FINEST)
        self.arms = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(shape[0]), nn.Conv2d(shape[0], width, 1)) for shape in shapes)

    def forward(self, images: Float[Tensor, "batch channel size size"]) -> Float[Tensor, "batch width cells cells"]:
        """The fused map of normalised images."""
        with capture_activations(self.backbone, *self.names) as captured:
            self.backbone(images)
        grids = [self.phi.as_grid(tensor_of(captured[name]), images.shape[-2:], name) for name in self.names]
        maps = [arm(grid) for arm, grid in zip(self.arms, grids, strict=True)]
        return relu(sum(interpolate(one, (self.cells, self.cells), mode="bilinear") for one in maps))  # pyright: ignore[reportArgumentType]


def stretched_views(batch: Images, size: int, flip: Bool[Tensor, " batch"] | None = None) -> Float[Tensor, "batch channel size size"]:
    """Images resized to squares, in [0, 1].

    Args:
        batch: the images.
        size: side in pixels.
        flip: which images are mirrored.
    """
    height, width = extents(batch).float().unbind(1)
    zeros = torch.zeros_like(height)
    full = 1.0 if batch.pixels.is_floating_point() else 255.0
    return resample(batch.pixels, CropGeometry(torch.stack([zeros, zeros, width, height], 1), flip), size) / full


def train_head(
    model: nn.Module,
    phi: Representation,
    source: Source,
    config: TuneConfig,
    loss: Callable[[Any, Images, Bool[Tensor, " batch"]], Float[Tensor, ""]],
) -> None:
    """Train a dense prediction model on normalised squares.

    Args:
        model: network from images to predictions.
        phi: the copied network inside it.
        source: training images.
        config: the schedule.
        loss: function of predictions, batch, and which images are mirrored.
    """
    hardware = hardware_of(phi)

    def of_batch(batch: Images, step: int) -> Float[Tensor, ""]:
        flip = KeyedRandom(len(batch), Clock(config.seed, step)).uniform().lt(0.5).to(hardware.device)
        view = hardware.layout(phi.normalise(stretched_views(batch, phi.size, flip)))
        with hardware.autocast():
            predictions = model(view)
        return loss(predictions, batch, flip)

    tune(model, of_batch, source, config, hardware)


@torch.no_grad()
def predict(model: nn.Module, phi: Representation, source: Source, rows: Int[np.ndarray, " row"]) -> Any:
    """Predictions for some images of a data set.

    Args:
        model: the trained model.
        phi: the copied network inside it.
        source: the data set.
        rows: rows to read.
    """
    hardware = hardware_of(phi)
    view = phi.normalise(stretched_views(load_images(source, rows).map(hardware.move), phi.size))
    with hardware.autocast():
        return model(hardware.layout(view))


def extents_of(source: Source) -> Int[np.ndarray, "image 2"]:
    """Height and width of each image as read."""
    parts = np.array_split(np.arange(len(source)), -(-len(source) // 256))
    return np.concatenate([extents(load_images(source, part)).numpy() for part in parts])


def sample_sources(inputs: AnalysisInput) -> tuple[Subset, Subset]:
    """Evenly spaced training and test images."""
    return Subset(inputs.train, evenly_spaced_rows(inputs.train, TAUGHT)), Subset(inputs.test, evenly_spaced_rows(inputs.test, JUDGED))
