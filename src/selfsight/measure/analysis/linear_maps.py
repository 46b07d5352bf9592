"""Linear maps between grids, by ridge regression."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfsight.measure.analysis.equivalence import Grid

__all__ = ["Linear", "Local", "fit_local", "fit_ridge"]

PORTION = 2 * 10**7
"""Maximum number of elements of the neighbourhoods in memory."""


@dataclass(frozen=True)
class Linear:
    """``y = (x - before) F₁ F₂ … + after``; a first dimension, if any, indexes independent problems."""

    before: Float[Tensor, "*problem dim"]
    after: Float[Tensor, "*problem out"]
    factors: tuple[Tensor, ...]

    def __call__(self, rows: Float[Tensor, "*problem sample dim"]) -> Float[Tensor, "*problem sample out"]:
        found = rows - self.before.unsqueeze(-2)
        for factor in self.factors:
            found = found @ factor
        return found + self.after.unsqueeze(-2)


def fit_ridge(x: Float[Tensor, "*problem sample dim"], y: Float[Tensor, "*problem sample out"], penalty: float) -> Linear:
    """Ridge regression with an unpenalised intercept, for many problems at once; ``λ = penalty Σ |x - mean|² / dim``.

    Solves ``(XᵀX + λ)⁻¹ XᵀY``, or ``Xᵀ (XXᵀ + λ)⁻¹ Y`` with its two factors kept if there are fewer samples than dimensions.

    Args:
        x: inputs (…, N, D); a first dimension indexes independent problems.
        y: targets (…, N, E).
        penalty: penalty relative to the mean variance of x.
    """
    before, after = x.mean(-2), y.mean(-2)
    x, y = x - before.unsqueeze(-2), y - after.unsqueeze(-2)
    weight = penalty * x.square().sum((-2, -1)) / x.shape[-1]
    wide = x.shape[-2] < x.shape[-1]
    gram = x @ x.mT if wide else x.mT @ x
    gram = gram + weight.clamp(min=1e-12)[..., None, None] * torch.eye(gram.shape[-1], dtype=x.dtype)
    solution = torch.linalg.solve(gram, y if wide else x.mT @ y)
    return Linear(before, after, (x.mT, solution) if wide else (solution,))


@dataclass(frozen=True)
class Local:
    """Map of each position from some neighbours; the linear map is one per position, or one for all."""

    near: Int[Tensor, "place near"]
    linear: Linear

    def __call__(self, grid: Grid) -> Grid:
        """The predicted grid."""
        line, shared = self.linear, len(self.linear.before) == 1
        parts = []
        for part in _portions(self.near, grid):
            selected = slice(None) if shared else part
            chosen = Linear(line.before[selected], line.after[selected], tuple(factor[selected] for factor in line.factors))
            parts.append(chosen(_around(grid, self.near[part])))
        return torch.cat(parts).permute(1, 2, 0).unflatten(2, grid.shape[2:])


def _portions(near: Int[Tensor, "place near"], grid: Grid) -> list[slice]:
    """Slices of positions whose neighbourhoods fit into memory together."""
    step = max(PORTION // (len(grid) * grid.shape[1] * near.shape[1]), 1)
    return [slice(start, min(start + step, len(near))) for start in range(0, len(near), step)]


def _around(grid: Grid, near: Int[Tensor, "place near"]) -> Float[Tensor, "place batch dim"]:
    return grid.flatten(2)[:, :, near].permute(2, 0, 3, 1).flatten(2)


def fit_local(x: Grid, y: Grid, near: Int[Tensor, "place near"], penalty: float, *, shared: bool = False) -> Local:
    """Ridge regression of each position of y on neighbouring positions of x.

    Args:
        x: input grids (N, C, H, W).
        y: target grids (N, D, H, W).
        near: indices (H * W, K) of the neighbours of each position.
        penalty: as in ``fit_ridge``.
        shared: the same weights for all positions.
    """
    flat, portions = y.flatten(2).permute(2, 0, 1), _portions(near, x)
    if not shared:
        fits = [fit_ridge(_around(x, near[part]), flat[part], penalty) for part in portions]
        weights = [fit.factors[0] @ fit.factors[1] if len(fit.factors) == 2 else fit.factors[0] for fit in fits]
        return Local(near, Linear(torch.cat([fit.before for fit in fits]), torch.cat([fit.after for fit in fits]), (torch.cat(weights),)))
    before = torch.stack([_around(x, near[part]).mean((0, 1)) * (part.stop - part.start) for part in portions]).sum(0) / len(near)
    after, gram, cross = flat.mean((0, 1)), 0.0, 0.0
    for part in portions:
        rows, targets = (_around(x, near[part]) - before).flatten(0, 1), (flat[part] - after).flatten(0, 1)
        gram, cross = gram + rows.T @ rows, cross + rows.T @ targets
    assert isinstance(gram, Tensor)  # there is at least one position
    weight = penalty * gram.trace() / len(gram)
    solution = torch.linalg.solve(gram + weight.clamp(min=1e-12) * torch.eye(len(gram), dtype=x.dtype), cross)
    return Local(near, Linear(before[None], after[None], (solution[None],)))
