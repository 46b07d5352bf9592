"""Transfer to semantic segmentation: a copy of the network is fine-tuned with a light head.

A 1 x 1 convolution from the fused feature map to classes and background, trained with the cross-entropy at each pixel; mean IoU over classes
(Long et al. 2014, arXiv:1411.4038). The baseline is the same schedule from random weights.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from selfsight.core.clock import key
from selfsight.core.errors import DataError
from selfsight.core.representation import Representation
from selfsight.core.rng import seeded_rng
from selfsight.core.views import Images
from selfsight.data.source import VOID, Source
from selfsight.measure.analysis.inputs import AnalysisInput
from selfsight.measure.metrics.overlap import bootstrap_tables, class_iou, class_map, confusion
from selfsight.measure.results import Scores
from selfsight.tasks.dense_head import Neck, extents_of, predict, sample_sources, train_head
from selfsight.tasks.tuning import TuneConfig, trainable_copy

__all__ = ["SegmentationHead", "pixel_loss", "segment"]

PIXELS = TuneConfig(150, 32, rate=2e-3)


class SegmentationHead(nn.Module):
    """The neck, and a 1 x 1 convolution to classes (background first)."""

    def __init__(self, phi: Representation, classes: int) -> None:
        super().__init__()
        self.neck, self.head = Neck(phi), nn.Conv2d(64, classes, 1)

    def forward(self, images: Float[Tensor, "batch channel size size"]) -> Float[Tensor, "batch class cells cells"]:
        """Logits of normalised images."""
        return self.head(self.neck(images))


def segment(phi: Representation, inputs: AnalysisInput, *, config: TuneConfig = PIXELS) -> Scores:
    """Mean IoU over pixel classes, including background, of a copy of the network that is fine-tuned for segmentation.

    Args:
        phi: the network.
        inputs: the data, with masks (object indices; classes from boxes, if there are any).
        config: the schedule.

    Raises:
        DataError: there are no masks, or only one training image.
        UsageError: the network has no layer with a feature map.
    """
    train, test = sample_sources(inputs)
    train_maps, test_maps = (_maps(part, name) for part, name in ((train, "training"), (test, "test")))
    classes, train_maps, test_maps = _counted(train_maps, test_maps)
    copied = trainable_copy(phi)
    with seeded_rng(key(config.seed, 0x9A1)):
        model = SegmentationHead(copied, classes)
    inputs.progress(f"fine-tuning: {classes} pixel classes")
    train_head(model, copied, train, config, pixel_loss(train_maps, phi.size))
    tables = []
    for part in np.array_split(np.arange(len(test)), -(-len(test) // 64)):
        for row, logits in zip(part, predict(model, copied, test, part), strict=True):
            predicted = interpolate(logits[None].float(), test_maps[row].shape, mode="bilinear")[0].argmax(0).cpu().numpy()
            tables.append(confusion(predicted, test_maps[row], classes, classes))
    confusions = np.stack(tables)
    all_background = np.zeros_like(confusions)
    all_background[:, 0] = confusions.sum(1)
    protocol = (
        f"a copy of the network with a light head, {config}, {len(train)} training images resized to {phi.size} px, half mirrored; mean over "
        f"the classes that occur in {len(test)} test images at their own resolution, including background"
    )
    return Scores(
        {"mean IoU": bootstrap_tables(confusions, class_iou), "mean IoU if all were ground": bootstrap_tables(all_background, class_iou)},
        protocol,
    )


def _counted(*parts: Sequence[np.ndarray]) -> tuple[int, *tuple[list[np.ndarray], ...]]:
    """Number of classes, and the maps: with the numbers that occur in place of numbers above 255, which leave gaps."""
    classes = max(2, 1 + max(int(each[each != VOID].max(initial=0)) for part in parts for each in part))
    if classes <= 256:
        return classes, *map(list, parts)
    occurring = np.unique(np.concatenate([[0], *(np.unique(each[each != VOID]) for part in parts for each in part)]))
    renumbered = ([np.where(each == VOID, VOID, np.searchsorted(occurring, each)) for each in part] for part in parts)
    return max(2, len(occurring)), *renumbered


def _maps(source: Source, part: str) -> list[Int[np.ndarray, "height width"]]:
    """The class at each pixel of every image."""
    truth = source.truth(np.arange(len(source)))
    if truth.masks is None:
        raise DataError(f"Segmentation needs masks of the {part} images, and there are none.", "Use a world, or --truth with masks.")
    return [class_map(truth, row, extent) for row, extent in enumerate(extents_of(source))]


def pixel_loss(maps: Sequence[np.ndarray], size: int) -> Callable[[Tensor, Images, Tensor], Float[Tensor, ""]]:
    """Cross-entropy at each pixel of images resized to squares.

    Args:
        maps: class at each pixel of every image; ``VOID`` does not count.
        size: side of the squares in pixels.
    """
    coordinates = (np.arange(size) + 0.5) / size
    indices = [np.ix_(*((coordinates * side).astype(int) for side in class_map.shape)) for class_map in maps]
    squares = torch.from_numpy(np.stack([class_map[index] for class_map, index in zip(maps, indices, strict=True)]).astype(np.int32))

    def loss(logits: Tensor, batch: Images, flip: Tensor) -> Float[Tensor, ""]:
        truth = squares[batch.index.cpu()].long().to(flip.device)
        truth = torch.where(flip[:, None, None], truth.flip(2), truth)
        return cross_entropy(interpolate(logits.float(), (size, size), mode="bilinear"), truth, ignore_index=VOID)

    return loss
