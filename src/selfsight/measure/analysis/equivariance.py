"""Equivariance of features to transformations of images (Lenc & Vedaldi 2015, arXiv:1411.5908).

Φ is equivariant to a transformation g if there is a simple map M with ``Φ(g x) = M Φ(x)`` for all images x, and invariant if M is the
identity. Candidate maps between grids of a layer, where ``s(u)`` is the position of x that position u of g x comes from::

    identity       M Φ(x)[u] = Φ(x)[u]
    permutation    M Φ(x)[u] = Φ(x)[s(u)]                      bilinear; exact for flips and quarter turns
    sparse         M Φ(x)[u] = A_u Φ(x)[around s(u)] + b_u     m x m positions around s(u); ridge regression for each u
    shared         M Φ(x)[u] = A Φ(x)[around s(u)] + b         the same for all u: an m x m convolution
    ridge          M Φ(x) = A Φ(x) + b                         all positions at once

The error is the test mean of ``|Φ(g x) - M Φ(x)| / |Φ(g x)|`` over positions with s(u) inside the image; the baseline is the constant mean
of Φ(g x). Ridge regression minimises ``Σ |y - A x - b|² + p · (Σ |x - mean|² / dim) |A|²``, with p chosen on a fifth of the images.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from selfsight.core.names import look_up
from selfsight.core.representation import Representation
from selfsight.measure.analysis.equivalence import Grid, LabelledGrids, StitchEvaluator, fit_by_task
from selfsight.measure.analysis.linear_maps import fit_local, fit_ridge
from selfsight.measure.analysis.transformations import Places, Transformation, inside, nearby, warp
from selfsight.measure.results import Score, Scores

__all__ = [
    "KINDS",
    "CompensationErrors",
    "Transport",
    "channel_invariance",
    "compensation_errors",
    "equivariance",
    "grids",
    "invariant_share",
    "mean_score",
]  # fmt: skip

KINDS = ("identity", "permutation", "sparse", "shared", "ridge")
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)


GridMap = Callable[[Grid], Grid]


def _fitted(kind: str, x: Grid, y: Grid, change: Transformation, side: int) -> GridMap:
    """The map of one kind from x to y; the penalty is chosen on the last fifth of the samples."""
    if kind == "identity":
        return lambda grid: grid
    if kind == "permutation":
        return lambda grid: warp(grid, change.source)
    near = nearby(change.source, x.shape[2], x.shape[3], side)

    def fit(rows: slice, penalty: float) -> GridMap:
        if kind == "ridge":
            dense = fit_ridge(x[rows].flatten(1), y[rows].flatten(1), penalty)
            return lambda grid: dense(grid.flatten(1)).unflatten(1, y.shape[1:])
        return fit_local(x[rows], y[rows], near, penalty, shared=kind == "shared")

    train, validation = slice(0, len(x) - len(x) // 5), slice(len(x) - len(x) // 5, None)
    losses = [float((fit(train, penalty)(x[validation]) - y[validation]).square().mean()) for penalty in PENALTIES]
    return fit(slice(None), PENALTIES[int(np.argmin(losses))])


@torch.no_grad()
def grids(phi: Representation, images: Grid, layer: str, batch: int = 256, cells: int | None = None) -> Grid:
    """Grids (N, C, h, w) of a layer, on the CPU.

    Args:
        phi: the representation.
        images: (N, C, H, W) in [0, 1].
        layer: name of a spatial layer.
        batch: images per forward pass.
        cells: maximum side; larger grids are average-pooled to it.
    """
    outputs = [phi.grid(part, layer) for part in images.split(batch)]
    height, width = (min(side, cells or side) for side in outputs[0].shape[2:])
    return torch.cat([adaptive_avg_pool2d(grid, (height, width)).cpu() for grid in outputs])


def _relative(found: Grid, truth: Grid, counted: Bool[Tensor, " place"]) -> Float[np.ndarray, " image"]:
    """``|truth - found| / |truth|`` of each image over the counted positions; images with zero norm are omitted."""
    difference, norm = ((rows.flatten(2)[:, :, counted]).flatten(1).norm(dim=1) for rows in (found - truth, truth))
    return (difference / norm)[norm > 0].double().numpy()


def mean_score(values: Float[np.ndarray, " image"], seed: int) -> Score:
    """Mean over images, with a 95 % bootstrap interval.

    Args:
        values: one per image.
        seed: seed of the resamples.
    """
    generator = np.random.default_rng(seed)
    low, high = np.quantile([generator.choice(values, len(values)).mean() for _ in range(1000)], (0.025, 0.975))
    return Score(float(values.mean()), float(low), float(high))


def equivariance(
    phi: Representation, train: Grid, test: Grid, change: Transformation, *, layers: Sequence[str] = (), kinds: Sequence[str] = KINDS,
    side: int = 3, cells: int | None = None, seed: int = 0,
) -> dict[str, Scores]:  # fmt: skip
    """Error of each kind of map, fitted to training images and measured on test images, for each layer.

    Args:
        phi: the representation; ``HOG`` is one as well.
        train: images (N, C, H, W) in [0, 1] that maps are fitted to.
        test: images (M, C, H, W) that errors are measured on.
        change: transformation of the images.
        layers: names of spatial layers; by default all that the backbone lists.
        kinds: kinds of maps, see the module's docstring.
        side: m, side of the neighbourhoods.
        cells: maximum side of the grids; larger grids are average-pooled to it.
        seed: seed of the bootstrap intervals.

    Raises:
        UsageError: there is no such layer or kind of map, or the layer has no spatial grid.
    """
    kinds = [look_up("kind of map", kind, KINDS) for kind in kinds]
    results = {}
    for layer in [look_up("layer", name, phi.layers) for name in layers] or phi.layers:
        (x, y), (x_test, truth) = (
            (grids(phi, part, layer, cells=cells), grids(phi, change.apply(part), layer, cells=cells)) for part in (train, test)
        )
        counted = inside(change.source, y.shape[2], y.shape[3])
        constant = y.mean(0, keepdim=True).expand_as(truth)
        values = {"constant": mean_score(_relative(constant, truth, counted), seed)}
        for kind in kinds:
            predicted = _fitted(kind, x, y, change, side)(x_test)
            values[kind] = mean_score(_relative(predicted, truth, counted), seed)
        protocol = (
            f"relative error |Φ(gx) - M Φ(x)| / |Φ(gx)| at {layer} under a {change.name}, over {int(counted.sum())} of {len(counted)} positions; "
            f"maps fitted to {len(train)} images, tested on {len(test)}; neighbourhoods of {side} x {side}"
        )
        results[layer] = Scores(values, protocol)
    return results


def channel_invariance(plain: Grid, changed: Grid, counted: Bool[Tensor, " place"] | None = None) -> Float[np.ndarray, " channel"]:
    """``1 - mean |Φ_c(g x) - Φ_c(x)|² / (var Φ_c(g x) + var Φ_c(x))`` of each channel, including the difference of means.

    1 for equal values at each position (and for constant equal channels), 0 for values as different as those of two unrelated images.

    Args:
        plain: grids (N, C, H, W) of the images.
        changed: grids of the transformed images.
        counted: positions that count; by default all.
    """
    rows = [grid.flatten(2) if counted is None else grid.flatten(2)[:, :, counted] for grid in (plain.double(), changed.double())]
    error = (rows[0] - rows[1]).square().mean((0, 2))
    spread = sum(values.var((0, 2), correction=0) for values in rows)
    assert isinstance(spread, Tensor)
    return torch.where(spread > 0, 1 - error / spread.clamp(min=1e-300), (error == 0).double()).numpy()


class Transport(nn.Module):
    """Trainable map: positions move as g moves them, followed by a convolution that is initialised to the identity.

    Args:
        source: position that each position comes from.
        channels: number of channels of the layer.
        side: side of the convolution kernel, odd.
    """

    def __init__(self, source: Places, channels: int, *, side: int = 3) -> None:
        super().__init__()
        self.source = source
        self.filters = nn.Conv2d(channels, channels, side, padding=side // 2, padding_mode="replicate")
        with torch.no_grad():
            nn.init.dirac_(self.filters.weight)
            nn.init.zeros_(self.filters.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, grid: Grid) -> Grid:
        return self.filters(warp(grid, self.source))


@dataclass(frozen=True)
class CompensationErrors:
    """Error rates on test images: original, transformed, and compensated at each layer by moving positions or by a trained map."""

    original: Score
    changed: Score
    by_position: dict[str, Score]
    by_map: dict[str, Score]
    maps: dict[str, Transport]


def compensation_errors(
    judge: StitchEvaluator, train: LabelledGrids, test: LabelledGrids, change: Transformation, *,
    layers: Sequence[str] = (), side: int = 3, steps: int = 200, seed: int = 0,
) -> CompensationErrors:  # fmt: skip
    """Whether the effect of a transformation can be undone at a layer, by the error of the task (Lenc & Vedaldi 2015, section 5.2).

    Args:
        judge: a network with a classifier.
        train: images in [0, 1] and their classes; maps are trained on the transformed images.
        test: images in [0, 1] and their classes.
        change: transformation of the images.
        layers: names of spatial layers; by default all that the backbone lists.
        side: side of the map's convolution kernel.
        steps: training steps of 64 images each, per layer.
        seed: seed of the order of images.

    Raises:
        UsageError: there is no such layer, or it has no spatial grid.
    """
    x_train, x_test = change.apply(train[0]), change.apply(test[0])
    by_position, by_map, maps = {}, {}, {}
    for layer in [look_up("layer", name, judge.phi.layers) for name in layers] or judge.phi.layers:
        channels = grids(judge.phi, x_train[:2], layer).shape[1]
        transport = Transport(change.target, channels, side=side).to(judge.phi.device)
        by_position[layer] = judge.error(x_test, test[1], {layer: transport})
        fit_by_task(transport, lambda rows, at={layer: transport}: judge.logits(x_train[rows], at), train[1], steps=steps, seed=seed)
        by_map[layer], maps[layer] = judge.error(x_test, test[1], {layer: transport}), transport
    return CompensationErrors(judge.error(*test), judge.error(x_test, test[1]), by_position, by_map, maps)


def invariant_share(judge: StitchEvaluator, layer: str, transport: Transport, test: LabelledGrids, *, slack: float = 0.05) -> float:
    """Largest fraction of channels that need no filter: those with the highest ``|row| / |row without its own channel's centre|``.

    Their rows are replaced by the identity, positions still moved, in steps of 5 % of the channels, while the error on the transformed
    images ``test`` grows by at most ``slack`` of itself or of one image (Lenc & Vedaldi 2015, section 5.3).

    Args:
        judge: a network with a classifier.
        layer: name of the layer.
        transport: its trained map.
        test: transformed images in [0, 1] and their classes.
        slack: allowed growth of the error, as a fraction.
    """
    initial = Transport(transport.source, len(transport.filters.weight), side=transport.filters.weight.shape[2])
    edited = deepcopy(transport)
    (identity, zero), (weight, bias) = ([weights.detach() for weights in module.filters.parameters()] for module in (initial, edited))
    norms, others = weight.square().sum((1, 2, 3)), (weight * (1 - identity.to(weight))).square().sum((1, 2, 3))
    order = (norms / others.clamp(min=1e-12)).argsort(descending=True)
    start = judge.error(*test, {layer: transport}).value
    best = 0.0
    for twentieths in range(1, 21):
        chosen = order[: round(len(order) * twentieths / 20)]
        weight[chosen], bias[chosen] = identity.to(weight)[chosen], zero.to(bias)[chosen]
        if judge.error(*test, {layer: edited}).value > start + slack * max(start, 1 / len(test[1])):
            break
        best = len(chosen) / len(order)
    return best
