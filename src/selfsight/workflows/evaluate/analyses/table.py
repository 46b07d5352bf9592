"""Analyses of networks by name. Torch-free."""

from typing import TYPE_CHECKING

from selfsight.core.registry import Entry, Registry

if TYPE_CHECKING:
    from selfsight.workflows.evaluate.analyses.analysis import Analysis

__all__ = ["ANALYSES"]

ANALYSES: Registry["Analysis"] = Registry(
    "analysis",
    "selfsight.workflows.evaluate.analyses",
    (
        Entry("cues", "cues:CUES", "shape bias where cues conflict, and sensitivity to the arrangement of tiles", traits=("percent",)),
        Entry("dissect", "dissection:DISSECTION", "units that detect the concepts of masks (network dissection)", needs=("masks",)),
        Entry(
            "equivariance",
            "equivariance:EQUIVARIANCE",
            "how features follow a flip and a rotation, by the best map of each kind",
            lower=("*",),
        ),
        Entry(
            "detect",
            "tuning:DETECTION",
            "object detection, trained on a copy: AP, AP50, AP75",
            needs=("boxes",),
            traits=("percent", "transfer"),
        ),
        Entry(
            "finetune",
            "tuning:FINETUNING",
            "classification, trained on a copy: whole, with a tenth of the labels, and from a layer on",
            needs=("labels",),
            traits=("percent", "transfer"),
        ),
        Entry(
            "segment",
            "tuning:SEGMENTATION",
            "semantic segmentation, trained on a copy: mean IoU",
            needs=("masks",),
            traits=("percent", "transfer"),
        ),
        Entry("similarity", "similarity:SIMILARITY", "CKA of all layers, and with other networks"),
        Entry(
            "stitching",
            "stitching:STITCHING",
            "whether the first part of another network fits the rest of this one",
            needs=("labels", "others"),
            traits=("percent",),
        ),
    ),
)
"""Not part of ``all``, as they take minutes. Needs: labels; masks or boxes of the test images; other networks. Traits: ``percent``: scores are
written in percent; ``transfer``: a copy is trained with labels, and higher is better."""
