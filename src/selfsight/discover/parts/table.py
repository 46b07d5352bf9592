"""Ways to find parts of objects, by name. Torch-free."""

from typing import TYPE_CHECKING

from selfsight.core.registry import Entry, Registry

if TYPE_CHECKING:
    from selfsight.discover.parts.parts import Parter

__all__ = ["PART_FINDERS"]

PART_FINDERS: Registry["Parter"] = Registry(
    "way to find parts",
    "selfsight.discover.parts",
    (
        Entry("colour", "parts:colour_parts", "k-means of the colours of all objects", model_free=True, baseline=True),
        Entry("contrast", "parts:contrast_parts", "A layer trained for parts (Choudhury et al. 2021)"),
        Entry("shared", "parts:shared_parts", "k-means of the features of all objects (Amir et al. 2021)"),
    ),
    default="shared",
)
