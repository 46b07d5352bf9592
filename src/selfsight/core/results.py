"""Where results about a run are kept: in its folder, or in the cache if the folder is read-only."""

import logging
import os
from functools import lru_cache
from pathlib import Path

from selfsight.core.cache import cache_folder, digest
from selfsight.core.files import inside

__all__ = ["find_result", "results_folder"]


def results_folder(run: Path, name: str) -> Path:
    """The folder to which results about a run are written; that it is not the run's own is reported once, as a warning of ``selfsight``.

    Args:
        run: the run's folder.
        name: name of the results, such as ``measures`` or ``explanations/attribute``.

    Raises:
        DataError: the folder is a symbolic link that leads out of the run.
    """
    own = inside(run, name)
    existing = next(place for place in (own.absolute(), *own.absolute().parents) if place.exists())
    if os.access(existing, os.W_OK):
        return own
    folder = _elsewhere(run)
    _report(str(run), str(folder))
    return folder / name


def find_result(run: Path, name: str) -> Path:
    """Path of an existing result about a run, from the cache if the run is read-only; the path in the run if there is none.

    Args:
        run: the run's folder.
        name: name of the file or folder, such as ``measures/scores.json``.

    Raises:
        DataError: the path is a symbolic link that leads out of the run.
    """
    other = _elsewhere(run) / name
    return other if other.exists() else inside(run, name)


def _elsewhere(run: Path) -> Path:
    place = run.resolve()
    return cache_folder() / "results" / f"{place.name}-{digest([str(place)])[:12]}"


@lru_cache
def _report(run: str, folder: str) -> None:
    logging.getLogger("selfsight").warning("%s is read-only: results are written to %s", run, folder)
