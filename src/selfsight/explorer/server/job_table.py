"""Jobs of the explorer that use a network, by name. Torch-free."""

from typing import TYPE_CHECKING, Any

from selfsight.core.registry import Entry, Registry

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["JOBS"]

JOBS: Registry["Callable[[Any], dict[str, Any]]"] = Registry(
    "job",
    "selfsight.explorer.worker.jobs",
    (
        Entry("attention", "attention:run", "attention maps of the last block", needs=("row",)),
        Entry("attribute", "attribute:run", "attribution maps by several methods", needs=("row",)),
        Entry("boxes", "boxes:run", "objects by several localisers", needs=("row",)),
        Entry("crops", "crops:run", "where a unit is active in its most activating images", needs=("unit",)),
        Entry("dissect", "dissect:run", "the concept that each unit of a layer overlaps most"),
        Entry("embed", "embed:run", "features of an uploaded image, or of a part of an image"),
        Entry("invert", "invert:run", "reconstructions of an image from the layers", needs=("row",)),
        Entry("maximise", "maximise:run", "images that maximise a unit or a class", needs=("unit or class",)),
        Entry("picture", "picture:run", "an image of the data set in full size", needs=("row",)),
        Entry("prototypes", "prototypes:run", "patches that distinguish a cluster", needs=("cluster",)),
        Entry("segments", "segments:run", "principal components and eigenvectors of an image's features", needs=("row",)),
    ),
)
"""Needs: arguments of a request; ``a or b``: either."""
