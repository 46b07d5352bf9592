"""Equivariance of every layer."""

from selfsight.core.representation import Representation
from selfsight.measure.analysis.equivariance import equivariance, flipped, rotated
from selfsight.measure.analysis.inputs import AnalysisInput, central_images, evenly_spaced_rows, spatial_layers
from selfsight.measure.results import Score, Scores
from selfsight.render.charts import draw_equivariance
from selfsight.workflows.evaluate.analyses.analysis import FEW, Analysis, last_of

__all__ = ["EQUIVARIANCE"]

MAPS = ("identity", "permutation", "sparse", "ridge")
CHANGES = (flipped(), rotated(90))
CELLS = 8
"""Grids of more cells a side are averaged down to so many before maps are fitted."""


def _equivariance(phi: Representation, asked: AnalysisInput) -> Scores:
    """Relative errors of maps from features of pictures to those of changed pictures."""
    fitted, judged = (300, 150) if phi.size <= FEW else (200, 100)
    train, test = (
        central_images(part, evenly_spaced_rows(part, most), phi.size) for part, most in ((asked.train, fitted), (asked.test, judged))
    )
    values, words = dict[str, Score](), ""
    for change in CHANGES:
        asked.progress(f"maps of features under a {change.name}")
        told = equivariance(phi, train, test, change, layers=spatial_layers(phi, asked.layers), kinds=MAPS, cells=CELLS)
        for layer, scores in told.items():
            values |= {f"{change.name}/{layer}/{kind}": score for kind, score in scores.values.items()}
            words = scores.protocol
    about = f"at each layer, as in: {words}; constant says the mean of changed features whatever the picture; lower is nearer"
    return Scores(values, about)


EQUIVARIANCE = Analysis(_equivariance, last_of("identity", "permutation", "ridge"), draw_equivariance)
