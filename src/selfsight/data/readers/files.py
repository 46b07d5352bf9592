"""Folders and archives by their spec."""

from pathlib import Path

from selfsight.data.listing import Listing
from selfsight.data.readers.archive import ParquetListing, TarListing
from selfsight.data.readers.folder import FolderListing
from selfsight.data.spec import Spec

__all__ = ["open_folder", "open_parquet", "open_tar"]


def open_folder(spec: Spec, paths: list[Path]) -> Listing:
    """A folder of images.

    Args:
        spec: what the user wrote.
        paths: the folder, alone.

    Raises:
        DataError: it holds no image.
    """
    return FolderListing(paths[0], spec.text)


def open_tar(spec: Spec, paths: list[Path]) -> Listing:
    """Uncompressed tar files.

    Args:
        spec: what the user wrote.
        paths: of the files, in order.

    Raises:
        DataError: a file is no tar file, or there is no image in them.
    """
    return TarListing(paths, spec.text)


def open_parquet(spec: Spec, paths: list[Path]) -> Listing:
    """Parquet files with a column of images.

    Args:
        spec: what the user wrote.
        paths: of the files, in order.

    Raises:
        DataError: a file is no Parquet file, or there is no column of images.
    """
    return ParquetListing(paths, spec.text)
