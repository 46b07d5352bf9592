"""What a network is worth as a start: a copy of it is taught the classes of pictures, whole or from a layer on, with all labels or a few.

The protocol of Zhai et al. 2019 (arXiv:1910.04867) and of the tables of self-supervised learning since Doersch et al. 2015, small: a batch
norm without weights and a linear layer on the pooled features, crops and flips, one short course for every network. The floor is the same
course from random weights.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from selfsight.core.clock import Clock, key
from selfsight.core.errors import DataError
from selfsight.core.method import Frame
from selfsight.core.representation import Representation
from selfsight.core.views import Images
from selfsight.data.source import Source, Subset
from selfsight.data.views.image.geometry import Crop, Normalise
from selfsight.data.views.image.recipes import OneCrop, View
from selfsight.measure.analysis.inputs import AnalysisInput, central_images, spatial_layers
from selfsight.measure.results import Score, Scores, proportion
from selfsight.tasks.tuning import TuneConfig, hardware_of, seeded_rng, trainable_copy, tune

__all__ = ["CROPS", "Classifier", "finetune", "finetuned", "labelled_share"]

CROPS = OneCrop(View(Crop(scale=(0.35, 1.0))), normalise=Normalise((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
FEW = 0.1
"""The share of labels of the second score."""


class Classifier(nn.Module):
    """Pooled features, a batch norm without weights, a linear layer."""

    def __init__(self, phi: Representation, classes: int) -> None:
        super().__init__()
        self.phi, self.backbone = phi, phi.backbone
        self.norm, self.head = nn.BatchNorm1d(phi.backbone.dim, affine=False), nn.Linear(phi.backbone.dim, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Float[Tensor, "batch channel size size"]) -> Float[Tensor, "batch class"]:
        """Logits of pictures in [0, 1]."""
        return self.head(self.norm(self.phi.features(images).pooled))


def labelled_share(labels: Int[np.ndarray, " sample"], part: float, seed: int = 0) -> Int[np.ndarray, " row"]:
    """Rows of a share of each class's labelled pictures (one at least), in their order."""
    dice, kept = np.random.default_rng(key(seed, 0x5A4E)), []
    for kind in np.unique(labels[labels >= 0]):
        rows = np.flatnonzero(labels == kind)
        kept.append(dice.permutation(rows)[: max(round(part * len(rows)), 1)])
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, dtype=np.int64)


def finetuned(
    phi: Representation,
    source: Source,
    labels: Int[np.ndarray, " sample"],
    classes: int,
    *,
    start: str | None = "",
    course: TuneConfig | None = None,
) -> Classifier:
    """A copy of a network taught the classes of pictures.

    Args:
        phi: the network.
        source: pictures.
        labels: their classes, all known.
        classes: how many there are.
        start: the first layer that is taught; empty: all; ``None``: the head alone.
        course: how.

    Raises:
        DataError: there are fewer than two pictures.
        UsageError: there is no such layer.
    """
    course, hardware = course or TuneConfig(), hardware_of(phi)
    frame = Frame(phi.size, phi.backbone.stride, phi.backbone.channels)
    with seeded_rng(course.seed, 0xC1A5):
        model = Classifier(trainable_copy(phi, start), classes)
    truth = torch.from_numpy(labels).to(phi.device)

    def loss(batch: Images, step: int) -> Float[Tensor, ""]:
        drawn = CROPS.draw(len(batch), Clock(course.seed, step, course.steps), frame)
        view = hardware.layout(CROPS.make(batch, drawn).large[0])
        with hardware.autocast():
            logits = model(view)
        return cross_entropy(logits.float(), truth[batch.index])

    tune(model, loss, source, course, hardware)
    return model


@torch.no_grad()
def _right(model: Classifier, source: Source, labels: np.ndarray) -> Score:
    rows, hardware, found = np.flatnonzero(labels >= 0), hardware_of(model.phi), []
    for part in np.array_split(rows, -(-len(rows) // 256)):
        with hardware.autocast():
            found.append(model(hardware.layout(hardware.move(central_images(source, part, model.phi.size)))).argmax(1).cpu().numpy())
    return proportion(np.concatenate(found) == labels[rows])


def _middle(phi: Representation) -> str:
    """The first layer of the second half of those that have places."""
    some = spatial_layers(phi)
    return some[math.ceil(len(some) / 2)] if len(some) > 1 else some[0]


def finetune(phi: Representation, asked: AnalysisInput, *, course: TuneConfig | None = None, parts: Sequence[float] = (1.0, FEW)) -> Scores:
    """Shares of test pictures whose class is found by the network taught whole, with all labels and with a tenth, and from some layers on.

    Args:
        phi: the network.
        asked: the data; ``layers`` are those from which a copy is taught, by default one halfway.
        course: how.
        parts: shares of labels, for the network taught whole.

    Raises:
        DataError: there are no labels in a part, or fewer than two in the training part.
        UsageError: there is no such layer.
    """
    known, truth, course = asked.labels.train, asked.labels.test, course or TuneConfig()
    if known is None or truth is None or (known >= 0).sum() < 2 or not (truth >= 0).any():
        raise DataError("Finetuning needs labels of both parts.", "Give labelled --train and --test.")
    classes = int(max(known.max(), truth.max())) + 1
    ways = [("whole", "", part) for part in parts] + [(f"from {layer}", layer, 1.0) for layer in asked.layers or (_middle(phi),)]
    values = dict[str, Score]()
    for name, start, part in ways:
        asked.progress(f"teach the network {name}, {part:.0%} of the labels")
        rows = labelled_share(known, part, course.seed)
        model = finetuned(
            phi, Subset(asked.train, rows), known[rows], classes, start=start, course=replace(course, batch=min(course.batch, len(rows)))
        )
        values[f"{name}/{part:.0%} of labels"] = _right(model, asked.test, truth)
    words = (
        f"a copy of the network with a batch norm and a linear layer, {course}, crops of 35 to 100 % of the area and "
        f"flips, {int((known >= 0).sum())} training pictures; scored on central squares of {int((truth >= 0).sum())} test pictures"
    )
    return Scores(values, words)
