"""Transfer to object detection: a copy of the network is fine-tuned with a light head.

Each cell of the fused feature map predicts class probabilities, and the centre and the size of a box. Cells within one and a half cells of a
box's centre are positive, for the smallest box if there are several (centre sampling of FCOS, Tian et al. 2019, arXiv:1904.01355, on one
map). Focal loss (Lin et al. 2017, arXiv:1708.02002) and generalised IoU loss (Rezatofighi et al. 2019, arXiv:1902.09630); average precision
as in COCO. The baseline is the same schedule from random weights.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from selfsight.core.clock import key
from selfsight.core.errors import DataError
from selfsight.core.representation import Representation
from selfsight.core.rng import seeded_rng
from selfsight.core.views import Images
from selfsight.data.source import Source
from selfsight.measure.analysis.inputs import AnalysisInput
from selfsight.measure.metrics.precision import MOST, score_detections
from selfsight.measure.results import Scores
from selfsight.tasks.dense_head import Neck, extents_of, predict, sample_sources, train_head
from selfsight.tasks.tuning import TuneConfig, trainable_copy

__all__ = ["BoxHead", "assign_cells", "cell_centres", "detect", "mirrored"]

BOXES = TuneConfig(200, 32, rate=2e-3)
REACH, LEAST, AGREE, BEFORE = 1.5, 0.05, 0.6, 300
"""Radius of positive cells; minimum score; IoU threshold of non-maximum suppression; boxes before suppression."""


class BoxHead(nn.Module):
    """The neck, two 3 x 3 convolutions with batch norm, and per cell class logits and four box parameters."""

    def __init__(self, phi: Representation, classes: int, width: int = 64, prior: float = 0.01) -> None:
        super().__init__()
        layers = [(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()) for _ in range(2)]
        self.neck, self.tower = Neck(phi, width), nn.Sequential(*(part for layer in layers for part in layer))
        self.kind, self.box = nn.Conv2d(width, classes, 3, padding=1), nn.Conv2d(width, 4, 3, padding=1)
        for last, bias in ((self.kind, -math.log((1 - prior) / prior)), (self.box, 0.0)):  # most cells are background
            nn.init.normal_(last.weight, std=0.01)
            last.bias = nn.Parameter(torch.full((len(last.weight),), bias))

    def forward(
        self, images: Float[Tensor, "batch channel size size"]
    ) -> tuple[Float[Tensor, "batch cell class"], Float[Tensor, "batch cell 4"]]:
        """Logits, and boxes (left, top, right, bottom) as fractions of the image."""
        features = self.tower(self.neck(images))
        logits, parameters = (part.flatten(2).transpose(1, 2).float() for part in (self.kind(features), self.box(features)))
        centre = cell_centres(self.neck.cells, parameters.device) + parameters[..., :2] / self.neck.cells
        half_size = (parameters[..., 2:].clamp(max=6).exp() * REACH / self.neck.cells) / 2
        return logits, torch.cat([centre - half_size, centre + half_size], 2)


def cell_centres(cells: int, device: torch.device | None = None) -> Float[Tensor, "cell 2"]:
    """Centre of each cell, x and y as fractions of the image, row by row.

    Args:
        cells: rows and columns.
        device: device of the result.
    """
    coordinates = (torch.arange(cells, device=device) + 0.5) / cells
    return torch.stack([coordinates.repeat(cells), coordinates.repeat_interleave(cells)], 1)


def assign_cells(boxes: Float[Tensor, "object 4"], cells: int) -> Int[Tensor, " cell"]:
    """Index of the box that each cell predicts; -1: none.

    Args:
        boxes: ``(object, 4)`` as fractions of the image.
        cells: rows and columns.
    """
    if not len(boxes):
        return torch.full((cells * cells,), -1)
    cell_points, centres = cell_centres(cells), (boxes[:, :2] + boxes[:, 2:]) / 2
    distance = (cell_points[:, None] - centres).abs().amax(2) * cells
    inside = ((cell_points[:, None] > boxes[:, :2]) & (cell_points[:, None] < boxes[:, 2:])).all(2)
    positive = ((distance <= REACH) & inside) | (distance <= 0.5)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1).expand(len(cell_points), -1).masked_fill(~positive, torch.inf)
    return torch.where(positive.any(1), area.argmin(1), -1)


@dataclass(frozen=True)
class _Annotations:
    """Annotated boxes with classes and crowd flags, sizes of the images, number of classes."""

    boxes: list[np.ndarray]
    crowds: list[np.ndarray]
    extents: Int[np.ndarray, "image 2"]
    classes: int

    def fractions(self) -> list[Float[Tensor, "object 5"]]:
        """Boxes without crowds, as fractions of the image, and their classes."""
        each = zip(self.boxes, self.crowds, self.extents, strict=True)
        return [torch.from_numpy(boxes[~crowd] / _scale(extent, 1)) for boxes, crowd, extent in each]


def _annotations(source: Source, part: str) -> _Annotations:
    """Object annotations of a data set.

    Raises:
        DataError: there are no boxes.
    """
    truth = source.truth(np.arange(len(source)))
    boxes = [np.asarray(one, dtype=np.float32) for one in truth.boxes or ()]
    crowds = [np.asarray(one, dtype=bool) for one in truth.crowds or [np.zeros(len(one)) for one in boxes]]
    named = [one[:, 4] >= 0 for one in boxes]
    if not any(one.any() for one in named):
        raise DataError(f"Detection needs boxes of the {part} images, and there are none.", "Use a world, or --truth with boxes.")
    boxes, crowds = ([one[kept] for one, kept in zip(some, named, strict=True)] for some in (boxes, crowds))
    most = max(int(one[:, 4].max()) for one in boxes if len(one))
    return _Annotations(boxes, crowds, extents_of(source), max(len(truth.classes), most + 1))


def _loss(model: BoxHead, boxes: Sequence[Tensor]) -> Callable[[tuple[Tensor, Tensor], Images, Tensor], Tensor]:
    """The loss of a batch; ``boxes`` as fractions of each image, with classes."""
    from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss  # imported here because it loads the compiler

    cells = model.neck.cells
    variants = [
        [(one, assign_cells(one[:, :4], cells)) for one in image_boxes] for image_boxes in (boxes, [mirrored(one) for one in boxes])
    ]

    def loss(predictions: tuple[Tensor, Tensor], batch: Images, flip: Tensor) -> Tensor:
        logits, box_predictions = predictions
        class_targets, predicted, targets = torch.zeros_like(logits), [], []
        for index, (row, flipped) in enumerate(zip(batch.index.tolist(), flip.tolist(), strict=True)):
            objects_of_image, cell_boxes = variants[flipped][row]
            positive = torch.nonzero(cell_boxes >= 0)[:, 0]
            objects = objects_of_image[cell_boxes[positive]].to(logits.device)
            class_targets[index, positive.to(logits.device), objects[:, 4].long()] = 1
            predicted.append(box_predictions[index, positive.to(logits.device)])
            targets.append(objects[:, :4])
        count = max(sum(len(one) for one in targets), 1)
        class_loss = sigmoid_focal_loss(logits, class_targets, reduction="sum")
        return (class_loss + generalized_box_iou_loss(torch.cat(predicted), torch.cat(targets), reduction="sum")) / count

    return loss


def mirrored(boxes: Float[Tensor, "object 5"]) -> Float[Tensor, "object 5"]:
    """Boxes (as fractions of the image) and classes of the mirrored image."""
    left, top, right, bottom, kind = boxes.unbind(1)
    return torch.stack([1 - right, top, 1 - left, bottom, kind], 1)


def _chosen(logits: Float[Tensor, "cell class"], boxes: Float[Tensor, "cell 4"]) -> Float[Tensor, "box 6"]:
    """Detections after non-maximum suppression: left, top, right, bottom (fractions), class, score, in descending order of the score."""
    from torchvision.ops import batched_nms

    scores, order = logits.sigmoid().flatten().sort(descending=True)
    candidates = order[:BEFORE][scores[:BEFORE] > LEAST]
    cells, classes = candidates // logits.shape[1], candidates % logits.shape[1]
    selected = batched_nms(boxes[cells], scores[: len(candidates)], classes, AGREE)[:MOST]
    return torch.cat([boxes[cells[selected]].clamp(0, 1), classes[selected, None].float(), scores[selected, None]], 1)


def detect(phi: Representation, inputs: AnalysisInput, *, config: TuneConfig = BOXES) -> Scores:
    """AP, AP50 and AP75 of a copy of the network that is fine-tuned for detection.

    Args:
        phi: the network.
        inputs: the data, with boxes.
        config: the schedule.

    Raises:
        DataError: there are no boxes, or only one training image.
        UsageError: the network has no layer with a feature map.
    """
    train, test = sample_sources(inputs)
    train_annotations, test_annotations = _annotations(train, "training"), _annotations(test, "test")
    classes = max(train_annotations.classes, test_annotations.classes)
    copied = trainable_copy(phi)
    with seeded_rng(key(config.seed, 0xB0C5)):
        model = BoxHead(copied, classes)
    inputs.progress(f"fine-tuning: boxes of {classes} classes")
    train_head(model, copied, train, config, _loss(model, train_annotations.fractions()))
    detections = []
    for part in np.array_split(np.arange(len(test)), -(-len(test) // 64)):
        for row, logits, boxes in zip(part, *predict(model, copied, test, part), strict=True):
            detections.append(_chosen(logits, boxes).cpu().numpy() * _scale(test_annotations.extents[row], 2))
    protocol = (
        f"a copy of the network with a light head for classes and boxes at each cell of one map, {config}, {len(train)} training images "
        f"resized to {phi.size} px, half mirrored; AP over IoU .50 to .95, AP50 and AP75 as in COCO, on {len(test)} test images"
    )
    return Scores(score_detections(detections, test_annotations.boxes, classes, crowds=test_annotations.crowds), protocol)


def _scale(extent: Int[np.ndarray, "2"], more: int) -> Float[np.ndarray, " column"]:
    """Factors from fractions to pixels, with ``more`` further columns unchanged."""
    height, width = extent
    return np.array([width, height, width, height, *[1] * more], dtype=np.float32)
