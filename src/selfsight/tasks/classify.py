"""Transfer to classification: a copy of the network is fine-tuned, completely or from a layer on, with all labels or a fraction.

A small version of the protocol of Zhai et al. 2019 (arXiv:1910.04867) and of fine-tuning tables since Doersch et al. 2015: batch norm without
weights and a linear layer on the pooled features, crops and flips, one short schedule for every network. The baseline is the same schedule
from random weights.
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
from selfsight.core.rng import seeded_rng
from selfsight.core.views import Images
from selfsight.data.source import Source, Subset
from selfsight.data.views.image.geometry import Crop, Normalise
from selfsight.data.views.image.recipes import OneCrop, View
from selfsight.measure.analysis.inputs import AnalysisInput, central_images, spatial_layers
from selfsight.measure.results import Score, Scores, proportion
from selfsight.tasks.tuning import TuneConfig, hardware_of, trainable_copy, tune

__all__ = ["CROPS", "Classifier", "finetune", "finetune_classifier", "labelled_share"]

CROPS = OneCrop(View(Crop(scale=(0.35, 1.0))), normalise=Normalise((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
FEW = 0.1
"""Fraction of labels of the second score."""


class Classifier(nn.Module):
    """Pooled features, batch norm without weights, linear layer."""

    def __init__(self, phi: Representation, classes: int) -> None:
        super().__init__()
        self.phi, self.backbone = phi, phi.backbone
        self.norm, self.head = nn.BatchNorm1d(phi.backbone.dim, affine=False), nn.Linear(phi.backbone.dim, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Float[Tensor, "batch channel size size"]) -> Float[Tensor, "batch class"]:
        """Logits of images in [0, 1]."""
        return self.head(self.norm(self.phi.features(images).pooled))


def labelled_share(labels: Int[np.ndarray, " sample"], part: float, seed: int = 0) -> Int[np.ndarray, " row"]:
    """Rows of a fraction of each class's labelled images (at least one), in order.

    Args:
        labels: ``(N,)`` classes; negative: unknown.
        part: the fraction.
        seed: seed of the draw.
    """
    generator, kept = np.random.default_rng(key(seed, 0x5A4E)), []
    for label in np.unique(labels[labels >= 0]):
        rows = np.flatnonzero(labels == label)
        kept.append(generator.permutation(rows)[: max(round(part * len(rows)), 1)])
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, dtype=np.int64)


def finetune_classifier(
    phi: Representation,
    source: Source,
    labels: Int[np.ndarray, " sample"],
    classes: int,
    *,
    start: str | None = "",
    config: TuneConfig | None = None,
) -> Classifier:
    """A fine-tuned copy of a network.

    Args:
        phi: the network.
        source: training images.
        labels: their classes, all known.
        classes: number of classes.
        start: the first layer that is trained; empty: all; ``None``: the head alone.
        config: the schedule; None: the default.

    Raises:
        DataError: there are fewer than two images.
        UsageError: the layer does not exist.
    """
    config, hardware = config or TuneConfig(), hardware_of(phi)
    frame = Frame(phi.size, phi.backbone.stride, phi.backbone.channels)
    with seeded_rng(key(config.seed, 0xC1A5)):
        model = Classifier(trainable_copy(phi, start), classes)
    truth = torch.from_numpy(labels).to(phi.device)

    def loss(batch: Images, step: int) -> Float[Tensor, ""]:
        drawn = CROPS.draw(len(batch), Clock(config.seed, step, config.steps), frame)
        view = hardware.layout(CROPS.make(batch, drawn).large[0])
        with hardware.autocast():
            logits = model(view)
        return cross_entropy(logits.float(), truth[batch.index])

    tune(model, loss, source, config, hardware)
    return model


@torch.no_grad()
def _accuracy(model: Classifier, source: Source, labels: np.ndarray) -> Score:
    rows, hardware, predictions = np.flatnonzero(labels >= 0), hardware_of(model.phi), []
    for part in np.array_split(rows, -(-len(rows) // 256)):
        with hardware.autocast():
            predictions.append(model(hardware.layout(hardware.move(central_images(source, part, model.phi.size)))).argmax(1).cpu().numpy())
    return proportion(np.concatenate(predictions) == labels[rows])


def _middle(phi: Representation) -> str:
    """The first layer of the second half of those with a feature map."""
    layers = spatial_layers(phi)
    return layers[math.ceil(len(layers) / 2)] if len(layers) > 1 else layers[0]


def finetune(
    phi: Representation, inputs: AnalysisInput, *, config: TuneConfig | None = None, parts: Sequence[float] = (1.0, FEW)
) -> Scores:
    """Accuracy of the fine-tuned network, with all labels and with a tenth, and of fine-tuning from some layers on.

    Args:
        phi: the network.
        inputs: the data; ``layers`` are the first trained layers, by default one halfway.
        config: the schedule; None: the default.
        parts: fractions of the labels, for complete fine-tuning.

    Raises:
        DataError: a part has no labels, or the training part fewer than two.
        UsageError: the layer does not exist.
    """
    train_labels, test_labels, config = inputs.labels.train, inputs.labels.test, config or TuneConfig()
    if train_labels is None or test_labels is None or (train_labels >= 0).sum() < 2 or not (test_labels >= 0).any():
        raise DataError("Fine-tuning needs labels of both parts.", "Use labelled --train and --test.")
    classes = int(max(train_labels.max(), test_labels.max())) + 1
    variants = [("whole", "", part) for part in parts] + [(f"from {layer}", layer, 1.0) for layer in inputs.layers or (_middle(phi),)]
    values = dict[str, Score]()
    for name, start, part in variants:
        inputs.progress(f"fine-tuning: {name}, {part:.0%} of the labels")
        rows = labelled_share(train_labels, part, config.seed)
        model = finetune_classifier(
            phi,
            Subset(inputs.train, rows),
            train_labels[rows],
            classes,
            start=start,
            config=replace(config, batch=min(config.batch, len(rows))),
        )
        values[f"{name}/{part:.0%} of labels"] = _accuracy(model, inputs.test, test_labels)
    protocol = (
        f"a copy of the network with a batch norm and a linear layer, {config}, crops of 35 to 100 % of the area and "
        f"flips, {int((train_labels >= 0).sum())} training images; scored on central squares of {int((test_labels >= 0).sum())} test images"
    )
    return Scores(values, protocol)
