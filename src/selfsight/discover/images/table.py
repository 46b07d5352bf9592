"""Ways to cluster whole images and to find duplicates, by name. Torch-free."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from selfsight.core.registry import Entry, Registry

if TYPE_CHECKING:
    from selfsight.discover.images.grouping import Grouper

__all__ = ["DUPLICATE_METHODS", "GROUPERS", "PIXELS"]

PIXELS = "pixels"
"""The method that uses no representation but small images, each with its mean subtracted."""

GROUPERS: Registry["Grouper"] = Registry(
    "clustering method",
    "selfsight.discover.images",
    (
        Entry("balanced", "grouping:balanced", "Clusters of equal size by optimal transport (Asano et al. 2019)"),
        Entry("kmeans", "grouping:kmeans_groups", "k-means"),
        Entry(PIXELS, "grouping:spherical", "Spherical k-means of pixels", model_free=True, baseline=True),
        Entry("scan", "grouping:scan", "Neighbours belong to one cluster (SCAN, Van Gansbeke et al. 2020)"),
        Entry("spherical", "grouping:spherical", "Spherical k-means"),
    ),
    default="spherical",
)

DUPLICATE_METHODS: Registry[Callable[..., object]] = Registry(
    "way to find duplicates",
    "selfsight.discover.images",
    (
        Entry("features", "duplicates:find_duplicates", "Neighbours in feature space whose pixels correlate"),
        Entry(PIXELS, "duplicates:find_duplicates", "Neighbours in pixel space whose pixels correlate", model_free=True),
    ),
)
