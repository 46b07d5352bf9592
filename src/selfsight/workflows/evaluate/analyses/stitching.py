"""Stitching of two networks."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from selfsight.core.errors import UsageError
from selfsight.core.representation import Representation
from selfsight.measure.analysis.equivalence import StitchEvaluator, head_of, stitching
from selfsight.measure.analysis.inputs import AnalysisInput, central_images, spatial_layers
from selfsight.measure.probes.linear import linear
from selfsight.measure.results import Features, Scores
from selfsight.render.charts import draw_stitching
from selfsight.workflows.evaluate.analyses.analysis import FEW, Analysis, last_of

__all__ = ["STITCHING"]


def _pairs(first: Representation, second: Representation, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """For each layer of the second network, the layer of the first one of the same name, otherwise at the same depth."""
    first_layers, second_layers = spatial_layers(first), spatial_layers(second, names)
    for at in second_layers:
        depth = second.layers.index(at) / max(len(second.layers) - 1, 1)
        yield (at if at in first_layers else first_layers[round(depth * (len(first_layers) - 1))]), at


def _stitching(phi: Representation, inputs: AnalysisInput) -> Scores:
    """Errors of the upper part of the network on the lower parts of others, layer by layer."""
    train_labels, test_labels = inputs.labels.train, inputs.labels.test
    assert train_labels is not None and test_labels is not None  # noqa: PT018
    parts = []
    for source, labels, most in ((inputs.train, train_labels, 4000), (inputs.test, test_labels, 2000)):
        rows = np.flatnonzero(labels >= 0)
        rows = rows[np.linspace(0, len(rows) - 1, min(most if phi.size <= FEW else most // 4, len(rows))).astype(np.int64)]
        parts.append((central_images(source, rows, phi.size), torch.from_numpy(labels[rows])))
    train, test = parts
    with torch.no_grad():
        train_features, test_features = (
            torch.cat([phi.pooled(chunk).float().cpu() for chunk in part.split(256)]).numpy() for part, _ in parts
        )
    probe = linear(Features(train_features, test_features, train[1].numpy(), test[1].numpy(), inputs.labels.classes))
    assert probe.readout is not None
    evaluator = StitchEvaluator(phi, head_of(probe.readout))
    values = {"not stitched": evaluator.error(*test)}
    for other, first in inputs.others.items():
        if first.size != phi.size:
            raise UsageError(
                f"{phi.name} is for images of {phi.size} px, {other} for {first.size} px.", "Stitch networks of one size (--size)."
            )
        for layer, at in _pairs(first, phi, inputs.layers):
            inputs.progress(f"stitching after {layer} of {other}")
            errors = stitching(first, evaluator, train, test, layer=layer, at=at)
            label = f"{other}/{at}" if layer == at else f"{other}/{layer} to {at}"
            values |= {f"{label}/before training": errors.random, f"{label}/naive": errors.identity, f"{label}/learned": errors.trained}
    protocol = (
        f"error rates on {len(test[1])} test images of the lower part of another network, followed by the upper part of this network and its linear "
        f"probe; between them a 1 x 1 convolution: as initialised, identity (naive), or trained for 200 steps of 64 of {len(train[1])} images"
    )
    return Scores(values, protocol)


STITCHING = Analysis(_stitching, last_of("learned"), draw_stitching)
