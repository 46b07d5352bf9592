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


def _pairs(first: Representation, rest: Representation, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """A layer of one network for each of the other's: that of the same name, else of the same depth."""
    here, there = spatial_layers(first), spatial_layers(rest, names)
    for at in there:
        depth = rest.layers.index(at) / max(len(rest.layers) - 1, 1)
        yield (at if at in here else here[round(depth * (len(here) - 1))]), at


def _stitching(phi: Representation, asked: AnalysisInput) -> Scores:
    """Errors of the rest of the network on first parts of others, layer by layer."""
    known, truth = asked.labels.train, asked.labels.test
    assert known is not None and truth is not None  # noqa: PT018
    parts = []
    for source, labels, most in ((asked.train, known, 4000), (asked.test, truth, 2000)):
        rows = np.flatnonzero(labels >= 0)
        rows = rows[np.linspace(0, len(rows) - 1, min(most if phi.size <= FEW else most // 4, len(rows))).astype(np.int64)]
        parts.append((central_images(source, rows, phi.size), torch.from_numpy(labels[rows])))
    train, test = parts
    with torch.no_grad():
        fitted, judged = (torch.cat([phi.pooled(some).float().cpu() for some in part.split(256)]).numpy() for part, _ in parts)
    probe = linear(Features(fitted, judged, train[1].numpy(), test[1].numpy(), asked.labels.classes))
    assert probe.readout is not None
    judge = StitchEvaluator(phi, head_of(probe.readout))
    values = {"not stitched": judge.error(*test)}
    for other, first in asked.others.items():
        if first.size != phi.size:
            raise UsageError(
                f"{phi.name} sees pictures of {phi.size} px, {other} of {first.size} px.", "Stitch networks of one size (--size)."
            )
        for layer, at in _pairs(first, phi, asked.layers):
            asked.progress(f"stitching after {layer} of {other}")
            found = stitching(first, judge, train, test, layer=layer, at=at)
            where = f"{other}/{at}" if layer == at else f"{other}/{layer} to {at}"
            values |= {f"{where}/before training": found.drawn, f"{where}/naive": found.identity, f"{where}/learned": found.taught}
    words = (
        f"errors of {len(test[1])} test pictures by the rest of this network and its linear probe, on the first part of another network up to a "
        f"layer; between them filters 1 x 1: as drawn, the identity (naive), and learned by 200 steps of 64 of {len(train[1])} training pictures"
    )
    return Scores(values, words)


STITCHING = Analysis(_stitching, last_of("learned"), draw_stitching)
