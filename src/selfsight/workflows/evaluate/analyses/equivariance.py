"""Equivariance of every layer."""

from selfsight.core.representation import Representation
from selfsight.measure.analysis.equivariance import equivariance
from selfsight.measure.analysis.inputs import AnalysisInput, central_images, evenly_spaced_rows, spatial_layers
from selfsight.measure.analysis.transformations import flipped, rotated
from selfsight.measure.results import Score, Scores
from selfsight.render.charts import draw_equivariance
from selfsight.workflows.evaluate.analyses.analysis import FEW, Analysis, last_of

__all__ = ["EQUIVARIANCE"]

MAPS = ("identity", "permutation", "sparse", "ridge")
CHANGES = (flipped(), rotated(90))
CELLS = 8
"""Larger feature maps are averaged to this side before maps are fitted."""


def _equivariance(phi: Representation, inputs: AnalysisInput) -> Scores:
    """Relative errors of maps from features of images to those of transformed images."""
    train_count, test_count = (300, 150) if phi.size <= FEW else (200, 100)
    train, test = (
        central_images(part, evenly_spaced_rows(part, most), phi.size)
        for part, most in ((inputs.train, train_count), (inputs.test, test_count))
    )
    values, protocol = dict[str, Score](), ""
    for change in CHANGES:
        inputs.progress(f"maps of features under a {change.name}")
        results = equivariance(phi, train, test, change, layers=spatial_layers(phi, inputs.layers), kinds=MAPS, cells=CELLS)
        for layer, scores in results.items():
            values |= {f"{change.name}/{layer}/{kind}": score for kind, score in scores.values.items()}
            protocol = scores.protocol
    about = f"at each layer, as in: {protocol}; constant predicts the mean of the transformed features; lower is better"
    return Scores(values, about)


EQUIVARIANCE = Analysis(_equivariance, last_of("identity", "permutation", "ridge"), draw_equivariance)
