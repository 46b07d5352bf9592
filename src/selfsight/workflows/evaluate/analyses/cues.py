"""Shape and texture bias, and global statistics."""

import torch

from selfsight.core.errors import UsageError
from selfsight.core.representation import Representation
from selfsight.measure.analysis.cues import cue_conflict, global_statistics
from selfsight.measure.analysis.inputs import AnalysisInput, central_images, evenly_spaced_rows
from selfsight.measure.results import Scores
from selfsight.render.charts import draw_cues
from selfsight.workflows.evaluate.analyses.analysis import FEW, SMALL, Analysis, named

__all__ = ["CUES"]


def _cues(phi: Representation, asked: AnalysisInput) -> Scores:
    """Shape against texture on rendered objects; wholes against their shuffled parts on the data's own pictures."""
    if phi.backbone.channels != 3:
        raise UsageError(f"Cues are of colour pictures, and {phi.name} sees {phi.backbone.channels} channels.", "Measure another network.")
    if phi.size < SMALL or phi.size % 2:
        raise UsageError(
            f"Pictures of {phi.size} px cannot be cut into tiles.", f"Measure a network of {SMALL} px or more, an even number."
        )
    small = phi.size <= FEW
    asked.progress("shape against texture")
    conflict = cue_conflict(phi.pooled, count=2000 if small else 800, size=phi.size)
    asked.progress("wholes against shuffled parts")
    parts = [
        (central_images(part, evenly_spaced_rows(part, most), phi.size) * 255).round().clamp(0, 255).to(torch.uint8).numpy()
        for part, most in ((asked.train, 400 if small else 100), (asked.test, 200 if small else 100))
    ]
    whole = global_statistics(phi.pooled, parts[0], parts[1], band=min(2, phi.size // 8) if small else 1)
    values = {"conflict/shape bias": conflict.values["shape_bias"], "conflict/coverage": conflict.values["coverage"]}
    values |= {"conflict/right where cues agree": conflict.values["agree"]}
    values |= {f"whole/{name}": whole.values[score] for name, score in (("features", "features"), ("colour histogram", "histogram"))}
    words = (
        f"conflict: {conflict.protocol}; coverage is the share of pictures of which either cue was right. whole: {whole.protocol}, "
        f"{len(parts[0])} training and {len(parts[1])} test pictures, each with its twin"
    )
    return Scores(values, words)


CUES = Analysis(_cues, named("bias", "coverage", "whole/features"), draw_cues)
