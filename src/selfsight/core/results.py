"""Where results about a run are kept: in its folder, or in the cache if the folder is read-only."""

import logging
import os
from functools import lru_cache
from pathlib import Path

from selfsight.core.cache import cache_folder, digest
from selfsight.core.files import inside, nearest_existing

__all__ = ["find_result", "find_results", "results_folder"]


def results_folder(run: Path, name: str) -> Path:
    """The folder to which results about a run are written; that it is not the run's own is reported once, as a warning of ``selfsight``.

    Args:
        run: the run's folder.
        name: name of the results, such as ``measures`` or ``explanations/attribute``.

    Raises:
        DataError: the folder is a symbolic link that leads out of the run.
    """
    own = inside(run, name)
    if _is_writable(own):
        return own
    folder = _elsewhere(run)
    _report(str(run), str(folder))
    return folder / name


def find_result(run: Path, name: str) -> Path:
    """Path of a file with a result about a run: its own; of a read-only run that in the cache, if it is newer than its own and its weights.

    Args:
        run: the run's folder.
        name: name of the file, such as ``measures/scores.json``.

    Raises:
        DataError: the path is a symbolic link that leads out of the run.
    """
    own, other = inside(run, name), _elsewhere(run) / name
    if not other.is_file() or _is_writable(own):
        return own
    known = (own, inside(run, "export/model.safetensors"))
    newest = max((file.stat().st_mtime for file in known if file.is_file()), default=0.0)
    return other if other.stat().st_mtime >= newest else own


def find_results(run: Path, pattern: str) -> list[Path]:
    """Files with results about a run, as ``find_result`` finds each, in the order of their names.

    Args:
        run: the run's folder.
        pattern: such as ``measures/*.json``.
    """
    names = {str(file.relative_to(place)) for place in (run, _elsewhere(run)) for file in place.glob(pattern)}
    return [file for file in (find_result(run, name) for name in sorted(names)) if file.is_file()]


def _is_writable(path: Path) -> bool:
    return os.access(nearest_existing(path), os.W_OK)


def _elsewhere(run: Path) -> Path:
    place = run.resolve()
    return cache_folder() / "results" / f"{place.name}-{digest([str(place)])[:12]}"


@lru_cache
def _report(run: str, folder: str) -> None:
    logging.getLogger("selfsight").warning("%s is read-only: results are written to %s", run, folder)
