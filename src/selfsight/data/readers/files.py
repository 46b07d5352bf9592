"""Listings of folders and archives by their spec."""

from pathlib import Path

from selfsight.data.listing import Listing
from selfsight.data.readers.archive import ParquetListing, TarListing
from selfsight.data.readers.folder import FolderListing
from selfsight.data.spec import Spec

__all__ = ["open_folder", "open_parquet", "open_tar"]


def open_folder(spec: Spec, paths: list[Path]) -> Listing:
    """A folder of images.

    Args:
        spec: the parsed spec.
        paths: the folder, as the only item.

    Raises:
        DataError: it has no images.
    """
    return FolderListing(paths[0], spec.text)


def open_tar(spec: Spec, paths: list[Path]) -> Listing:
    """Uncompressed tar files.

    Args:
        spec: the parsed spec.
        paths: paths of the files, in order.

    Raises:
        DataError: a file is not a tar file, or there are no images.
    """
    return TarListing(paths, spec.text)


def open_parquet(spec: Spec, paths: list[Path]) -> Listing:
    """Parquet files with an image column.

    Args:
        spec: the parsed spec.
        paths: paths of the files, in order.

    Raises:
        DataError: a file is not a Parquet file, or there is no image column.
    """
    return ParquetListing(paths, spec.text)
