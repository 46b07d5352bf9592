"""Kinds of data by name. Torch-free.

The spec of a data set names its reader before a colon, as in ``photo:astronaut``; paths are read by their ending.
"""

from typing import TYPE_CHECKING

from selfsight.core.registry import Entry, Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from selfsight.data.listing import Listing
    from selfsight.data.source import Source

__all__ = ["FILE_READERS", "READERS"]

READERS: Registry["Callable[..., Source | Listing]"] = Registry(
    "kind of data",
    "selfsight.data",
    (
        Entry("digits", "readers.photo:digits", "digits (scikit-learn's handwritten digits)", traits=("generated",)),
        Entry("hf", "readers.hub:hub_listing", "hf:OWNER/NAME (a data set of the Hugging Face hub)"),
        Entry("photo", "readers.photo:open_photo", "photo:NAME or photo:FILE (crops of one photograph)", traits=("generated",)),
        Entry("torchvision", "readers.hub:torchvision_listing", "torchvision:NAME"),
        Entry("world", "worlds.opening:open_world", "world:shapes (rendered scenes)", traits=("generated",)),
    ),
)
"""Readers of specs, called with (spec, training size in pixels or None). Trait ``generated``: a source that brings its own annotations; all
others return a listing of files."""

FILE_READERS: Registry["Callable[..., Listing]"] = Registry(
    "file format",
    "selfsight.data",
    (
        Entry("folder", "readers.files:open_folder", "a folder of images"),
        Entry("tar", "readers.files:open_tar", ".tar files (WebDataset)", traits=(".tar",)),
        Entry("parquet", "readers.files:open_parquet", ".parquet files", traits=(".parquet", ".pq")),
    ),
)
"""Readers of paths, called with (spec, paths). Traits are the endings of their files."""
