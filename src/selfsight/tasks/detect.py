"""What a network is worth as a start for finding objects: a copy of it, taught their boxes with a light head.

At each cell of the map that joins its layers: the probability of each class, where the centre of its box is, and how large it is. Cells within
one and a half of a box's centre answer for it, for the smallest where several do (centre sampling of FCOS, Tian et al. 2019,
arXiv:1904.01355, on one map). Focal loss (Lin et al. 2017, arXiv:1708.02002) and generalised IoU (Rezatofighi et al. 2019,
arXiv:1902.09630); average precision as COCO counts it. The floor is the same course from random weights.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from selfsight.core.errors import DataError
from selfsight.core.representation import Representation
from selfsight.core.views import Images
from selfsight.data.source import Source
from selfsight.measure.analysis.inputs import AnalysisInput
from selfsight.measure.metrics.precision import MOST, score_detections
from selfsight.measure.results import Scores
from selfsight.tasks.dense_head import Neck, extents_of, predict, sample_sources, train_head
from selfsight.tasks.tuning import TuneConfig, seeded_rng, trainable_copy

__all__ = ["BoxHead", "assign_cells", "cell_centres", "detect", "mirrored"]

BOXES = TuneConfig(200, 32, rate=2e-3)
REACH, LEAST, AGREE, BEFORE = 1.5, 0.05, 0.6, 300
"""Cells from a box's centre that answer for it; the least probability; the IoU above which the surer box stays; boxes before that choice."""


class BoxHead(nn.Module):
    """The neck, two filters 3 x 3 with batch norms, and at each cell logits of classes and four numbers of a box."""

    def __init__(self, phi: Representation, classes: int, width: int = 64, rare: float = 0.01) -> None:
        super().__init__()
        layers = [(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()) for _ in range(2)]
        self.neck, self.tower = Neck(phi, width), nn.Sequential(*(part for layer in layers for part in layer))
        self.kind, self.box = nn.Conv2d(width, classes, 3, padding=1), nn.Conv2d(width, 4, 3, padding=1)
        for last, bias in ((self.kind, -math.log((1 - rare) / rare)), (self.box, 0.0)):  # most cells are of no object
            nn.init.normal_(last.weight, std=0.01)
            last.bias = nn.Parameter(torch.full((len(last.weight),), bias))

    def forward(
        self, pictures: Float[Tensor, "batch channel size size"]
    ) -> tuple[Float[Tensor, "batch cell class"], Float[Tensor, "batch cell 4"]]:
        """Logits, and boxes (left, top, right, bottom) in fractions of the picture."""
        said = self.tower(self.neck(pictures))
        logits, numbers = (part.flatten(2).transpose(1, 2).float() for part in (self.kind(said), self.box(said)))
        middle = cell_centres(self.neck.cells, numbers.device) + numbers[..., :2] / self.neck.cells
        half = (numbers[..., 2:].clamp(max=6).exp() * REACH / self.neck.cells) / 2
        return logits, torch.cat([middle - half, middle + half], 2)


def cell_centres(cells: int, device: torch.device | None = None) -> Float[Tensor, "cell 2"]:
    """Centre of each cell, x and y in fractions of the picture, row by row."""
    along = (torch.arange(cells, device=device) + 0.5) / cells
    return torch.stack([along.repeat(cells), along.repeat_interleave(cells)], 1)


def assign_cells(boxes: Float[Tensor, "object 4"], cells: int) -> Int[Tensor, " cell"]:
    """Which box each cell answers for; -1: none. Boxes in fractions of the picture."""
    if not len(boxes):
        return torch.full((cells * cells,), -1)
    at, middle = cell_centres(cells), (boxes[:, :2] + boxes[:, 2:]) / 2
    far = (at[:, None] - middle).abs().amax(2) * cells
    inside = ((at[:, None] > boxes[:, :2]) & (at[:, None] < boxes[:, 2:])).all(2)
    near = ((far <= REACH) & inside) | (far <= 0.5)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1).expand(len(at), -1).masked_fill(~near, torch.inf)
    return torch.where(near.any(1), area.argmin(1), -1)


@dataclass(frozen=True)
class _Known:
    """Boxes with a class, which of them are around crowds, pictures' heights and widths, how many classes there are."""

    boxes: list[np.ndarray]
    crowds: list[np.ndarray]
    extents: Int[np.ndarray, "picture 2"]
    classes: int

    def fractions(self) -> list[Float[Tensor, "object 5"]]:
        """Boxes that are not of crowds, in fractions of the picture, and their classes."""
        each = zip(self.boxes, self.crowds, self.extents, strict=True)
        return [torch.from_numpy(boxes[~crowd] / _scale(extent, 1)) for boxes, crowd, extent in each]


def _known(source: Source, part: str) -> _Known:
    """What is known of the objects of a data set.

    Raises:
        DataError: no boxes are known.
    """
    truth = source.truth(np.arange(len(source)))
    boxes = [np.asarray(one, dtype=np.float32) for one in truth.boxes or ()]
    crowds = [np.asarray(one, dtype=bool) for one in truth.crowds or [np.zeros(len(one)) for one in boxes]]
    named = [one[:, 4] >= 0 for one in boxes]
    if not any(one.any() for one in named):
        raise DataError(f"Detection needs boxes of the {part} pictures, and there are none.", "Give a world, or truth with boxes.")
    boxes, crowds = ([one[kept] for one, kept in zip(some, named, strict=True)] for some in (boxes, crowds))
    most = max(int(one[:, 4].max()) for one in boxes if len(one))
    return _Known(boxes, crowds, extents_of(source), max(len(truth.classes), most + 1))


def _loss(model: BoxHead, boxes: Sequence[Tensor]) -> Callable[[tuple[Tensor, Tensor], Images, Tensor], Tensor]:
    """The loss of a batch; ``boxes`` of each picture in fractions of it, and class."""
    from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss  # here, for it loads the compiler

    cells = model.neck.cells
    forms = [[(one, assign_cells(one[:, :4], cells)) for one in some] for some in (boxes, [mirrored(one) for one in boxes])]

    def loss(said: tuple[Tensor, Tensor], batch: Images, flip: Tensor) -> Tensor:
        logits, found = said
        wanted, sure, real = torch.zeros_like(logits), [], []
        for place, (row, turned) in enumerate(zip(batch.index.tolist(), flip.tolist(), strict=True)):
            mine, which = forms[turned][row]
            at = torch.nonzero(which >= 0)[:, 0]
            objects = mine[which[at]].to(logits.device)
            wanted[place, at.to(logits.device), objects[:, 4].long()] = 1
            sure.append(found[place, at.to(logits.device)])
            real.append(objects[:, :4])
        count = max(sum(len(one) for one in real), 1)
        kinds = sigmoid_focal_loss(logits, wanted, reduction="sum")
        return (kinds + generalized_box_iou_loss(torch.cat(sure), torch.cat(real), reduction="sum")) / count

    return loss


def mirrored(boxes: Float[Tensor, "object 5"]) -> Float[Tensor, "object 5"]:
    """Boxes (in fractions of the picture) and classes in the picture with left and right exchanged."""
    left, top, right, bottom, kind = boxes.unbind(1)
    return torch.stack([1 - right, top, 1 - left, bottom, kind], 1)


def _chosen(logits: Float[Tensor, "cell class"], boxes: Float[Tensor, "cell 4"]) -> Float[Tensor, "box 6"]:
    """Left, top, right, bottom (fractions), class, score; the surest first."""
    from torchvision.ops import batched_nms

    scores, order = logits.sigmoid().flatten().sort(descending=True)
    kept = order[:BEFORE][scores[:BEFORE] > LEAST]
    cells, kinds = kept // logits.shape[1], kept % logits.shape[1]
    best = batched_nms(boxes[cells], scores[: len(kept)], kinds, AGREE)[:MOST]
    return torch.cat([boxes[cells[best]].clamp(0, 1), kinds[best, None].float(), scores[best, None]], 1)


def detect(phi: Representation, asked: AnalysisInput, *, course: TuneConfig = BOXES) -> Scores:
    """AP, AP50 and AP75 of boxes found by a copy of a network that is taught them.

    Args:
        phi: the network.
        asked: the data, with boxes.
        course: how.

    Raises:
        DataError: there are no boxes, or one training picture.
        UsageError: the network has no layer with places.
    """
    train, test = sample_sources(asked)
    known, truth = _known(train, "training"), _known(test, "test")
    classes = max(known.classes, truth.classes)
    taught = trainable_copy(phi)
    with seeded_rng(course.seed, 0xB0C5):
        model = BoxHead(taught, classes)
    asked.progress(f"teach boxes of {classes} classes")
    train_head(model, taught, train, course, _loss(model, known.fractions()))
    found = []
    for part in np.array_split(np.arange(len(test)), -(-len(test) // 64)):
        for row, logits, boxes in zip(part, *predict(model, taught, test, part), strict=True):
            found.append(_chosen(logits, boxes).cpu().numpy() * _scale(truth.extents[row], 2))
    words = (
        f"a copy of the network with a light head that says classes and boxes at each cell of one map, {course}, {len(train)} training pictures "
        f"stretched to {phi.size} px, half mirrored; AP over IoU .50 to .95, AP50 and AP75 as COCO counts them, of {len(test)} test pictures"
    )
    return Scores(score_detections(found, truth.boxes, classes, crowds=truth.crowds), words)


def _scale(extent: Int[np.ndarray, "2"], more: int) -> Float[np.ndarray, " column"]:
    """From fractions to pixels; so many more columns stay."""
    height, width = extent
    return np.array([width, height, width, height, *[1] * more], dtype=np.float32)
