"""Network dissection with the masks of the data."""

import numpy as np

from selfsight.core.representation import Representation
from selfsight.data.source import Subset, Truth
from selfsight.measure.analysis.dissect import Concepts, dissect, random_rotation, scene_concepts, segment_concepts
from selfsight.measure.analysis.equivariance import mean_score
from selfsight.measure.analysis.inputs import AnalysisInput, evenly_spaced_rows, spatial_layers
from selfsight.measure.results import Score, Scores, proportion
from selfsight.render.charts import draw_dissection
from selfsight.workflows.evaluate.analyses.analysis import FEW, Analysis, named

__all__ = ["DISSECTION", "concepts_of"]


def concepts_of(truth: Truth) -> Concepts:
    """Concepts of the masks: four categories for rendered scenes, otherwise classes."""
    if {"texture_name", "background_name", "value"} <= set(truth.attributes):
        return scene_concepts(truth)
    return segment_concepts(truth)


def _dissection(phi: Representation, inputs: AnalysisInput) -> Scores:
    """Units that detect a concept, and the largest IoU of any unit with each concept."""
    rows = evenly_spaced_rows(inputs.test, 500 if phi.size <= FEW else 200)
    source = Subset(inputs.test, rows)
    concepts, values, protocol = concepts_of(inputs.test.truth(rows)), dict[str, Score](), ""
    for layer in inputs.layers or spatial_layers(phi)[-1:]:
        inputs.progress(f"IoU of the units of {layer} with {len(concepts.names)} concepts")
        units_result = dissect(phi, source, concepts, layer=layer)
        units = len(units_result.ious)
        rotated = dissect(phi, source, concepts, layer=layer, turn=random_rotation(units))
        for name, result in (("units", units_result), ("random directions", rotated)):
            values[f"{layer}/detectors among {name}"] = proportion(np.isin(np.arange(units), list(result.detectors())))
        values[f"{layer}/best IoU of a unit, mean"] = mean_score(units_result.ious.max(1), 0)
        best = units_result.ious.max(0)
        values |= {
            f"{layer}/{kind} {name}": Score(float(iou), float(iou), float(iou))
            for kind, name, iou in zip(units_result.categories, units_result.names, best, strict=True)
        }
        protocol = units_result.protocol
    about = "a detector has an IoU above 0.04; a concept's score is the largest IoU of any unit; intervals over units"
    return Scores(values, f"{protocol}; {about}")


DISSECTION = Analysis(_dissection, named("among units", "mean"), draw_dissection)
