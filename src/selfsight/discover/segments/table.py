"""Ways to segment images into classes, by name. Torch-free."""

from typing import TYPE_CHECKING

from selfsight.core.registry import Entry, Registry

if TYPE_CHECKING:
    from selfsight.discover.segments.segmenters import Segmenter

__all__ = ["SEGMENTERS"]

SEGMENTERS: Registry["Segmenter"] = Registry(
    "segmenter",
    "selfsight.discover.segments",
    (
        Entry(
            "colour",
            "segmenters:colour",
            "k-means of the mean colour of each location",
            model_free=True,
            baseline=True,
            traits=("every_location", "euclidean"),
        ),
        Entry(
            "iic",
            "segmenters:patch",
            "Invariant information clustering of locations (Ji et al. 2018)",
            traits=("every_location", "learned_classes"),
        ),
        Entry("object", "segmenters:single_object", "The object that a localiser finds, against the background"),
        Entry("patch", "segmenters:patch", "k-means of the features of each location", traits=("every_location",)),
        Entry("spectral", "segmenters:spectral", "k-means over eigenvectors within each image (Melas-Kyriazi et al. 2022)"),
    ),
    default="spectral",
)
"""Traits: ``every_location``: each location is a segment, none is background, and segments are not cached; ``euclidean``: vectors of segments
are clustered as they are, not at unit length; ``learned_classes``: classes come from a trained linear layer in place of the nearest centroid."""
