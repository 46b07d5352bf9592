"""What can be discovered, by name. Torch-free."""

from typing import TYPE_CHECKING, Any

from selfsight.core.registry import Entry, Registry
from selfsight.discover.images.table import DUPLICATE_METHODS, GROUPERS
from selfsight.discover.objects.table import LOCALISERS
from selfsight.discover.parts.table import PART_FINDERS
from selfsight.discover.segments.table import SEGMENTERS

if TYPE_CHECKING:
    from selfsight.workflows.discover.discovery import Discovery

__all__ = ["DISCOVERIES", "method_name", "method_registry"]

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


def method_registry(what: str) -> Registry[Any]:
    """The registry of the methods of a discovery.

    Raises:
        UsageError: the discovery does not exist.
    """
    choices = DISCOVERIES.resolve(what).choices
    assert choices is not None
    return choices


def method_name(what: str, method: str = "") -> str:
    """A method of a discovery as it was typed, checked; the default where none was.

    Args:
        what: name of a discovery.
        method: name or alias of one of its methods; empty: its default.

    Raises:
        UsageError: there is no such discovery or method.
    """
    methods = method_registry(what)
    methods.resolve(method or methods.default)
    return method or methods.default
