"""Maps: where each picture lies in a plane, so that what a network takes to be alike lies together. Torch-free."""

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Float

from selfsight.core.errors import MissingExtra
from selfsight.core.names import look_up

__all__ = ["PROJECTIONS", "available_projections", "project", "require_projection"]

Rows = Float[np.ndarray, "item dim"]
Positions = Float[np.ndarray, "item 2"]
SAMPLE, PART = 20_000, 65_536
"""Vectors of which directions are estimated; those that are read at a time."""


def _pca(rows: Rows, seed: int) -> Positions:  # noqa: ARG001  nothing is drawn
    """The two directions of largest variance (Hotelling 1933), estimated on a sample."""
    some = np.asarray(rows[np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(np.int64)], dtype=np.float64)
    mean = some.mean(0)
    _, _, directions = np.linalg.svd(some - mean, full_matrices=False)
    parts = [(np.asarray(rows[start : start + PART], dtype=np.float64) - mean) @ directions[:2].T for start in range(0, len(rows), PART)]
    places = np.concatenate(parts)
    return np.pad(places, ((0, 0), (0, max(2 - places.shape[1], 0))))


def _unit(rows: Rows) -> Float[np.ndarray, "item dim"]:
    """Vectors less their mean, at length one: so that distances go by cosines."""
    centred = np.asarray(rows, dtype=np.float32) - np.asarray(rows, dtype=np.float64).mean(0).astype(np.float32)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(min=1e-12)


def _pacmap(rows: Rows, seed: int) -> Positions:
    """PaCMAP (Wang et al. 2021, arXiv:2012.04456): pairs that are near, less near and far are held where they belong."""
    made: Any = importlib.import_module("pacmap").PaCMAP(n_components=2, random_state=seed)
    return made.fit_transform(_unit(rows), init="pca")


def _umap(rows: Rows, seed: int) -> Positions:
    """UMAP (McInnes et al. 2018, arXiv:1802.03426): neighbours by cosine stay neighbours."""
    made: Any = importlib.import_module("umap").UMAP(n_components=2, random_state=seed, n_jobs=1)
    return made.fit_transform(_unit(rows))


PROJECTIONS: dict[str, Callable[[Rows, int], Positions]] = {"pca": _pca, "pacmap": _pacmap, "umap": _umap}
"""Ways to draw a map, by name; all but the first need a package of that name (``selfsight[map]``)."""


def available_projections() -> tuple[str, ...]:
    """The ways whose packages are there."""
    return tuple(name for name in PROJECTIONS if name == "pca" or find_spec(name) is not None)


def require_projection(kind: str) -> None:
    """Refuse a map that cannot be drawn.

    Raises:
        UsageError: there is no such map.
        MissingExtra: its package is not installed.
    """
    look_up("map", kind, PROJECTIONS)
    if kind not in available_projections():
        raise MissingExtra("umap-learn" if kind == "umap" else kind, "map", f"The map {kind}")


def project(rows: Rows, kind: str, *, seed: int = 0) -> Positions:
    """Where each item lies, from about -1 to 1.

    Each axis is scaled so that all but a thousandth of the items lie between -1 and 1; those beyond are moved in to 1.2.

    Args:
        rows: what a network says of each item.
        kind: a name of ``PROJECTIONS``.
        seed: of all chance, so that a map is the same twice.

    Raises:
        UsageError: there is no such map.
        MissingExtra: its package is not installed.
    """
    require_projection(kind)
    places = np.asarray(PROJECTIONS[kind](rows, seed), dtype=np.float64)
    middle = 0 if kind == "pca" else (places.min(0) + places.max(0)) / 2
    far = np.quantile(np.abs(places - middle), 0.999, axis=0).clip(min=1e-12)
    return ((places - middle) / far).clip(-1.2, 1.2).astype(np.float32)
