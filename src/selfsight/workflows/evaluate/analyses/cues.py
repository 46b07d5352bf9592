"""Shape and texture bias, and sensitivity to the global arrangement of tiles."""

import torch

from selfsight.core.errors import UsageError
from selfsight.core.representation import Representation
from selfsight.measure.analysis.cues import cue_conflict, global_statistics
from selfsight.measure.analysis.inputs import AnalysisInput, central_images, evenly_spaced_rows
from selfsight.measure.results import Scores
from selfsight.render.charts import draw_cues
from selfsight.workflows.evaluate.analyses.analysis import FEW, SMALL, Analysis, named

__all__ = ["CUES"]


def _cues(phi: Representation, inputs: AnalysisInput) -> Scores:
    """Shape against texture on rendered objects; original against tile-shuffled images of the data."""
    if phi.backbone.channels != 3:
        raise UsageError(f"Cues need colour images, and {phi.name} has {phi.backbone.channels} input channels.", "Use another network.")
    if phi.size < SMALL or phi.size % 2:
        raise UsageError(f"Images of {phi.size} px cannot be cut into tiles.", f"Use a network with an even size of at least {SMALL} px.")
    small = phi.size <= FEW
    inputs.progress("shape against texture")
    conflict = cue_conflict(phi.pooled, count=2000 if small else 800, size=phi.size)
    inputs.progress("original against shuffled tiles")
    images = [
        (central_images(part, evenly_spaced_rows(part, most), phi.size) * 255).round().clamp(0, 255).to(torch.uint8).numpy()
        for part, most in ((inputs.train, 400 if small else 100), (inputs.test, 200 if small else 100))
    ]
    shuffled = global_statistics(phi.pooled, images[0], images[1], band=min(2, phi.size // 8) if small else 1)
    values = {"conflict/shape bias": conflict.values["shape_bias"], "conflict/coverage": conflict.values["coverage"]}
    values |= {"conflict/right where cues agree": conflict.values["agree"]}
    values |= {f"whole/{name}": shuffled.values[score] for name, score in (("features", "features"), ("colour histogram", "histogram"))}
    protocol = (
        f"conflict: {conflict.protocol}; coverage is the fraction of images with a correct prediction by either cue. whole: {shuffled.protocol}, "
        f"{len(images[0])} training and {len(images[1])} test images, each with its shuffled copy"
    )
    return Scores(values, protocol)


CUES = Analysis(_cues, named("bias", "coverage", "whole/features"), draw_cues)
