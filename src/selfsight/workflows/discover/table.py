"""What can be discovered, by name. Torch-free."""

from typing import TYPE_CHECKING

from selfsight.core.registry import Entry, Registry
from selfsight.discover.images.table import DUPLICATE_METHODS, GROUPERS
from selfsight.discover.objects.table import LOCALISERS
from selfsight.discover.parts.table import PART_FINDERS
from selfsight.discover.segments.table import SEGMENTERS

if TYPE_CHECKING:
    from selfsight.workflows.discover.discovery import Discovery

__all__ = ["DISCOVERIES"]

DISCOVERIES: Registry["Discovery"] = Registry(
    "discovery",
    "selfsight.workflows.discover",
    (
        Entry("boxes", "boxes:BOXES", "objects, as regions and boxes", choices=LOCALISERS),
        Entry("segments", "segments:SEGMENTS", "classes of regions over the whole data set", choices=SEGMENTERS),
        Entry("parts", "segments:PARTS", "parts of the objects", choices=PART_FINDERS),
        Entry("clusters", "images:CLUSTERS", "clusters of whole images", traits=("image_level",), choices=GROUPERS),
        Entry("duplicates", "images:DUPLICATES", "near-duplicate images", traits=("image_level", "own_folder"), choices=DUPLICATE_METHODS),
        Entry(
            "selection", "images:SELECTION", "images that are most worth a label", traits=("image_level", "own_folder"), choices=GROUPERS
        ),
    ),
)
"""Traits: ``image_level``: found from features of whole images, which are cached in ``banks``; all else from eigenvectors in ``cache``;
``own_folder``: results lie in a folder of the discovery's name, not of the method's."""
