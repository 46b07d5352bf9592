"""Projections of features to two dimensions. Torch-free."""

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Float

from selfsight.core.errors import MissingExtra
from selfsight.core.finite import require_finite
from selfsight.core.names import look_up

__all__ = ["PROJECTIONS", "available_projections", "project", "require_projection"]

Rows = Float[np.ndarray, "item dim"]
Positions = Float[np.ndarray, "item 2"]
SAMPLE, PART = 20_000, 65_536
"""Vectors for the estimation of directions; vectors read at a time."""


def _pca(rows: Rows, seed: int) -> Positions:  # noqa: ARG001  nothing is drawn
    """Principal component analysis (Hotelling 1933), estimated on a sample."""
    sample = np.asarray(rows[np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(np.int64)], dtype=np.float64)
    mean = sample.mean(0)
    _, _, directions = np.linalg.svd(sample - mean, full_matrices=False)
    parts = [(np.asarray(rows[start : start + PART], dtype=np.float64) - mean) @ directions[:2].T for start in range(0, len(rows), PART)]
    positions = np.concatenate(parts)
    return np.pad(positions, ((0, 0), (0, max(2 - positions.shape[1], 0))))


def _unit(rows: Rows) -> Float[np.ndarray, "item dim"]:
    """Centred vectors at unit length, so that distances follow cosines."""
    centred = np.asarray(rows, dtype=np.float32) - np.asarray(rows, dtype=np.float64).mean(0).astype(np.float32)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(min=1e-12)


def _pacmap(rows: Rows, seed: int) -> Positions:
    """PaCMAP (Wang et al. 2021, arXiv:2012.04456)."""
    reducer: Any = importlib.import_module("pacmap").PaCMAP(n_components=2, random_state=seed)
    return reducer.fit_transform(_unit(rows), init="pca")


def _umap(rows: Rows, seed: int) -> Positions:
    """UMAP (McInnes et al. 2018, arXiv:1802.03426) of cosine neighbours."""
    reducer: Any = importlib.import_module("umap").UMAP(n_components=2, random_state=seed, n_jobs=1)
    return reducer.fit_transform(_unit(rows))


PROJECTIONS: dict[str, Callable[[Rows, int], Positions]] = {"pca": _pca, "pacmap": _pacmap, "umap": _umap}
"""Projections by name; all except the first need the package of that name (``selfsight[map]``)."""


def available_projections() -> tuple[str, ...]:
    """Projections whose packages are installed."""
    return tuple(name for name in PROJECTIONS if name == "pca" or find_spec(name) is not None)


def require_projection(kind: str) -> None:
    """Check that a projection is available.

    Raises:
        UsageError: the projection does not exist.
        MissingExtra: its package is not installed.
    """
    look_up("map", kind, PROJECTIONS)
    if kind not in available_projections():
        raise MissingExtra("umap-learn" if kind == "umap" else kind, "map", f"The map {kind}")


def project(rows: Rows, kind: str, *, seed: int = 0) -> Positions:
    """Positions of items on a map, from about -1 to 1.

    Each axis is scaled so that 99.9 % of the items lie between -1 and 1; others are clipped to 1.2.

    Args:
        rows: features ``(N, D)``.
        kind: a name in ``PROJECTIONS``.
        seed: seed of all random choices.

    Raises:
        UsageError: the projection does not exist.
        MissingExtra: its package is not installed.
        DataError: some features are NaN or infinite.
    """
    require_projection(kind)
    require_finite(rows, "projected")
    positions = np.asarray(PROJECTIONS[kind](rows, seed), dtype=np.float64)
    centre = 0 if kind == "pca" else (positions.min(0) + positions.max(0)) / 2
    scale = np.quantile(np.abs(positions - centre), 0.999, axis=0).clip(min=1e-12)
    return ((positions - centre) / scale).clip(-1.2, 1.2).astype(np.float32)
