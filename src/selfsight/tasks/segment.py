"""What a network is worth as a start for classes of pixels: a copy of it, taught them with a light head.

Filters 1 x 1 from the map that joins its layers to classes and ground, taught by the cross-entropy at each pixel; mean IoU over classes
(Long et al. 2014, arXiv:1411.4038). The floor is the same course from random weights.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from selfsight.core.errors import DataError
from selfsight.core.representation import Representation
from selfsight.core.views import Images
from selfsight.data.source import Source
from selfsight.measure.analysis.inputs import AnalysisInput
from selfsight.measure.metrics.overlap import class_iou, class_map, confusion, spread_of_tables
from selfsight.measure.results import Scores
from selfsight.tasks.dense_head import Neck, extents_of, predict, sample_sources, train_head
from selfsight.tasks.tuning import TuneConfig, seeded_rng, trainable_copy

__all__ = ["SegmentationHead", "pixel_loss", "segment"]

PIXELS = TuneConfig(150, 32, rate=2e-3)


class SegmentationHead(nn.Module):
    """The neck, and filters 1 x 1 to classes (ground first)."""

    def __init__(self, phi: Representation, classes: int) -> None:
        super().__init__()
        self.neck, self.head = Neck(phi), nn.Conv2d(64, classes, 1)

    def forward(self, pictures: Float[Tensor, "batch channel size size"]) -> Float[Tensor, "batch class cells cells"]:
        """Logits of normalised pictures."""
        return self.head(self.neck(pictures))


def segment(phi: Representation, asked: AnalysisInput, *, course: TuneConfig = PIXELS) -> Scores:
    """Mean IoU of classes of pixels, ground among them, said by a copy of a network that is taught them.

    Args:
        phi: the network.
        asked: the data, with masks (object numbers; classes from boxes, where there are any).
        course: how.

    Raises:
        DataError: there are no masks, or one training picture.
        UsageError: the network has no layer with places.
    """
    train, test = sample_sources(asked)
    painted, judged = (_maps(part, name) for part, name in ((train, "training"), (test, "test")))
    classes = max(2, 1 + max(int(one.max()) for one in (*painted, *judged)))
    taught = trainable_copy(phi)
    with seeded_rng(course.seed, 0x9A1):
        model = SegmentationHead(taught, classes)
    asked.progress(f"teach {classes} classes of pixels")
    train_head(model, taught, train, course, pixel_loss(painted, phi.size))
    tables = []
    for part in np.array_split(np.arange(len(test)), -(-len(test) // 64)):
        for row, logits in zip(part, predict(model, taught, test, part), strict=True):
            found = interpolate(logits[None].float(), judged[row].shape, mode="bilinear")[0].argmax(0).cpu().numpy()
            tables.append(confusion(found, judged[row], classes, classes))
    every = np.stack(tables)
    ground = np.zeros_like(every)
    ground[:, 0] = every.sum(1)
    words = (
        f"a copy of the network with a light head, {course}, {len(train)} training pictures stretched to {phi.size} px, half mirrored; mean over "
        f"the classes that occur in {len(test)} test pictures, at their pixels, ground among them"
    )
    return Scores(
        {"mean IoU": spread_of_tables(every, class_iou), "mean IoU if all were ground": spread_of_tables(ground, class_iou)}, words
    )


def _maps(source: Source, part: str) -> list[Int[np.ndarray, "height width"]]:
    """The class at each pixel of every picture."""
    truth = source.truth(np.arange(len(source)))
    if truth.masks is None:
        raise DataError(f"Segmentation needs masks of the {part} pictures, and there are none.", "Give a world, or truth with masks.")
    return [class_map(truth, row, extent) for row, extent in enumerate(extents_of(source))]


def pixel_loss(maps: Sequence[np.ndarray], size: int) -> Callable[[Tensor, Images, Tensor], Float[Tensor, ""]]:
    """Cross-entropy at each pixel of squares."""
    along = (np.arange(size) + 0.5) / size
    at = [np.ix_(*((along * side).astype(int) for side in one.shape)) for one in maps]
    squares = torch.from_numpy(np.stack([one[where] for one, where in zip(maps, at, strict=True)]).astype(np.int16))

    def loss(logits: Tensor, batch: Images, flip: Tensor) -> Float[Tensor, ""]:
        truth = squares[batch.index.cpu()].long().to(flip.device)
        truth = torch.where(flip[:, None, None], truth.flip(2), truth)
        return cross_entropy(interpolate(logits.float(), (size, size), mode="bilinear"), truth)

    return loss
