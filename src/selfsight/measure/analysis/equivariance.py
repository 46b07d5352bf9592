"""How features follow when pictures are changed (Lenc & Vedaldi 2015, arXiv:1411.5908).

A representation Φ is equivariant to a change g of pictures if there is a simple map M_g with::

    Φ(g x) = M_g Φ(x)      for all pictures x

and invariant if M_g is the identity. Maps that are tried, from grid to grid of a layer, where ``s(u)`` is the place of x that the
place u of g x comes from::

    identity       M Φ(x)[u] = Φ(x)[u]
    permutation    M Φ(x)[u] = Φ(x)[s(u)]                      bilinear between places; exact for flips and quarter turns
    sparse         M Φ(x)[u] = A_u Φ(x)[around s(u)] + b_u     m x m places around s(u); ridge regression for each u
    shared         M Φ(x)[u] = A Φ(x)[around s(u)] + b         the same for all u: a bank of filters m x m
    ridge          M Φ(x) = A Φ(x) + b                         all places at once

    error = mean over unseen pictures of |Φ(g x) - M Φ(x)| / |Φ(g x)|

with norms over the places whose s(u) lies in the picture. Beside them stands the constant map that always says the mean of Φ(g x).
Ridge regression minimises ``Σ |y - A x - b|² + p · (Σ |x - mean|² / dim) |A|²``; p is chosen on a fifth of the pictures. A last map is taught by
a task, through the rest of the network (``Transport``): pictures are changed, and the map brings back what the layer would have said of
them as they were. Four bars say how well: the error on pictures as they are, on changed ones, and on changed ones that are compensated
at a layer by moving places alone, and by the map that was taught.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from selfsight.core.names import look_up
from selfsight.core.representation import Representation
from selfsight.measure.analysis.equivalence import Grid, LabelledGrids, StitchEvaluator, fit_by_task
from selfsight.measure.results import Score, Scores

__all__ = [
    "KINDS", "Bars", "Change", "Linear", "Local", "Transport", "channel_invariance", "equivariance", "fit_local", "fit_ridge", "flipped",
    "four_bars", "grids", "invariant_share", "mean_score", "nearby", "recoloured", "rotated", "scaled", "warp",
]  # fmt: skip

Places = Callable[[Float[Tensor, "place 2"]], Float[Tensor, "place 2"]]
"""From places to places: x to the right and y down, -1 to 1 between the borders of the picture."""
KINDS = ("identity", "permutation", "sparse", "shared", "ridge")
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
PORTION = 2 * 10**7
"""Numbers that neighbourhoods may have at once."""


def _same(places: Tensor) -> Tensor:
    return places


@dataclass(frozen=True)
class Change:
    """A transformation g of pictures in [0, 1], with the map of places that it induces.

    Attributes:
        name: what to call it.
        pictures: from x to g x.
        source: the place of x that a place of g x comes from.
        target: the place of g x that a place of x goes to; the inverse of ``source``.
    """

    name: str
    pictures: Callable[[Grid], Grid]
    source: Places = _same
    target: Places = _same


def _moved(name: str, matrix: Float[np.ndarray, "2 2"]) -> Change:
    """A linear map about the middle of the picture; ``matrix`` goes from g x to x."""
    there, back = (torch.tensor(np.round(each, 12)) for each in (matrix, np.linalg.inv(matrix)))

    def source(places: Tensor) -> Tensor:
        return places @ there.T.to(places)

    return Change(name, lambda pictures: warp(pictures, source), source, lambda places: places @ back.T.to(places))


def flipped(*, upright: bool = False) -> Change:
    """Left and right exchanged, or top and bottom where ``upright``."""
    return _moved("vertical flip" if upright else "horizontal flip", np.diag([1.0, -1.0] if upright else [-1.0, 1.0]))


def rotated(degrees: float) -> Change:
    """A turn about the middle, clockwise; what comes in over the border continues the border's pixels."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return _moved(f"rotation by {degrees:g} degrees", np.array([[cosine, sine], [-sine, cosine]]))


def scaled(factor: float) -> Change:
    """Larger about the middle by a factor, smaller if it is below 1."""
    return _moved(f"scaling by {factor:g}", np.eye(2) / factor)


def recoloured(matrix: Float[np.ndarray, "3 3"], offset: Sequence[float] = (0.0, 0.0, 0.0)) -> Change:
    """Colours through a matrix and an offset, cut at 0 and 1; places stay."""

    def pictures(given: Tensor) -> Tensor:
        mixed = torch.einsum("dc,bchw->bdhw", torch.from_numpy(matrix).to(given), given)
        return (mixed + given.new_tensor(offset)[:, None, None]).clamp(0, 1)

    return Change("change of colours", pictures)


def _landing(source: Places, height: int, width: int) -> Float[Tensor, "place 2"]:
    """Column and row, in cells from the first one's middle, that each cell comes from; a ten-thousandth of a cell is rounded away."""
    down, across = torch.meshgrid(torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64), indexing="ij")
    sides = torch.tensor([width, height], dtype=torch.float64)
    middles = (2 * torch.stack([across, down], -1).reshape(-1, 2) + 1) / sides - 1
    return (((source(middles) + 1) * sides - 1) / 2 * 1e4).round() / 1e4


def _inside(source: Places, height: int, width: int) -> Bool[Tensor, " place"]:
    landing = _landing(source, height, width)
    return ((landing >= -0.5) & (landing <= torch.tensor([width, height]) - 0.5)).all(1)


def warp(maps: Grid, source: Places) -> Grid:
    """Each cell takes what is at the place that it comes from: bilinear, the border's values beyond the border."""
    height, width = maps.shape[2:]
    ends = torch.tensor([width - 1, height - 1], dtype=torch.float64)
    landing = _landing(source, height, width).clamp(min=0).minimum(ends)
    corner = landing.floor()
    part, flat, made = (landing - corner).to(maps), maps.flatten(2), torch.zeros_like(maps).flatten(2)
    for right in (0, 1):
        for low in (0, 1):
            column, row = (corner + torch.tensor([right, low])).minimum(ends).long().unbind(1)
            weight = (part[:, 0] if right else 1 - part[:, 0]) * (part[:, 1] if low else 1 - part[:, 1])
            made = made + flat[:, :, (row * width + column).to(maps.device)] * weight
    return made.unflatten(2, (height, width))


def nearby(source: Places, height: int, width: int, side: int) -> Int[Tensor, "place near"]:
    """Numbers of the ``side`` x ``side`` cells around the one that each cell comes from; the border's beyond the border."""
    steps = torch.arange(side) - side // 2
    middle = _landing(source, height, width).round().long()
    columns, rows = ((middle[:, axis, None] + steps).clamp(0, (width, height)[axis] - 1) for axis in (0, 1))
    return (rows[:, :, None] * width + columns[:, None, :]).flatten(1)


@dataclass(frozen=True)
class Linear:
    """``y = (x - before) F₁ F₂ … + after``, for each of several problems if there is a first dimension of problems."""

    before: Float[Tensor, "*problem dim"]
    after: Float[Tensor, "*problem out"]
    factors: tuple[Tensor, ...]

    def __call__(self, rows: Float[Tensor, "*problem sample dim"]) -> Float[Tensor, "*problem sample out"]:
        found = rows - self.before.unsqueeze(-2)
        for factor in self.factors:
            found = found @ factor
        return found + self.after.unsqueeze(-2)


def fit_ridge(x: Float[Tensor, "*problem sample dim"], y: Float[Tensor, "*problem sample out"], penalty: float) -> Linear:
    """Ridge regression with a free constant, of many problems at once.

    Solved for weights, ``(XᵀX + λ)⁻¹ XᵀY``, or where samples are fewer than numbers as the same ``Xᵀ (XXᵀ + λ)⁻¹ Y``, of which the two
    factors are kept; ``λ = penalty Σ |x - mean|² / dim``.
    """
    before, after = x.mean(-2), y.mean(-2)
    x, y = x - before.unsqueeze(-2), y - after.unsqueeze(-2)
    weight = penalty * x.square().sum((-2, -1)) / x.shape[-1]
    few = x.shape[-2] < x.shape[-1]
    gram = x @ x.mT if few else x.mT @ x
    gram = gram + weight.clamp(min=1e-12)[..., None, None] * torch.eye(gram.shape[-1], dtype=x.dtype)
    found = torch.linalg.solve(gram, y if few else x.mT @ y)
    return Linear(before, after, (x.mT, found) if few else (found,))


@dataclass(frozen=True)
class Local:
    """Each place from some others: ``weight`` and the rest are one a place, or one for all."""

    near: Int[Tensor, "place near"]
    linear: Linear

    def __call__(self, grid: Grid) -> Grid:
        """The grid that it predicts."""
        line, alike = self.linear, len(self.linear.before) == 1
        parts = []
        for part in _portions(self.near, grid):
            own = slice(None) if alike else part
            chosen = Linear(line.before[own], line.after[own], tuple(factor[own] for factor in line.factors))
            parts.append(chosen(_around(grid, self.near[part])))
        return torch.cat(parts).permute(1, 2, 0).unflatten(2, grid.shape[2:])


def _portions(near: Int[Tensor, "place near"], grid: Grid) -> list[slice]:
    """Runs of places whose neighbourhoods fit into memory together."""
    step = max(PORTION // (len(grid) * grid.shape[1] * near.shape[1]), 1)
    return [slice(start, min(start + step, len(near))) for start in range(0, len(near), step)]


def _around(grid: Grid, near: Int[Tensor, "place near"]) -> Float[Tensor, "place batch dim"]:
    return grid.flatten(2)[:, :, near].permute(2, 0, 3, 1).flatten(2)


def fit_local(x: Grid, y: Grid, near: Int[Tensor, "place near"], penalty: float, *, shared: bool = False) -> Local:
    """Ridge regression of each place of y on the places of x that are near, or of all places with the same weights."""
    flat, portions = y.flatten(2).permute(2, 0, 1), _portions(near, x)
    if not shared:
        fits = [fit_ridge(_around(x, near[part]), flat[part], penalty) for part in portions]
        weights = [fit.factors[0] @ fit.factors[1] if len(fit.factors) == 2 else fit.factors[0] for fit in fits]
        return Local(near, Linear(torch.cat([fit.before for fit in fits]), torch.cat([fit.after for fit in fits]), (torch.cat(weights),)))
    before = torch.stack([_around(x, near[part]).mean((0, 1)) * (part.stop - part.start) for part in portions]).sum(0) / len(near)
    after, gram, cross = flat.mean((0, 1)), 0.0, 0.0
    for part in portions:
        rows, wanted = (_around(x, near[part]) - before).flatten(0, 1), (flat[part] - after).flatten(0, 1)
        gram, cross = gram + rows.T @ rows, cross + rows.T @ wanted
    assert isinstance(gram, Tensor)  # there is a place
    weight = penalty * gram.trace() / len(gram)
    found = torch.linalg.solve(gram + weight.clamp(min=1e-12) * torch.eye(len(gram), dtype=x.dtype), cross)
    return Local(near, Linear(before[None], after[None], (found[None],)))


GridMap = Callable[[Grid], Grid]


def _fitted(kind: str, x: Grid, y: Grid, change: Change, side: int) -> GridMap:
    """The map of one kind from x to y; penalties are tried on the last fifth."""
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

    kept, judged = slice(0, len(x) - len(x) // 5), slice(len(x) - len(x) // 5, None)
    losses = [float((fit(kept, penalty)(x[judged]) - y[judged]).square().mean()) for penalty in PENALTIES]
    return fit(slice(None), PENALTIES[int(np.argmin(losses))])


@torch.no_grad()
def grids(phi: Representation, images: Grid, layer: str, batch: int = 256, cells: int | None = None) -> Grid:
    """What a layer says of pictures in [0, 1]: its grids, on the CPU; averaged down to ``cells`` a side where there are more."""
    made = [phi.grid(part, layer) for part in images.split(batch)]
    height, width = (min(side, cells or side) for side in made[0].shape[2:])
    return torch.cat([adaptive_avg_pool2d(grid, (height, width)).cpu() for grid in made])


def _relative(found: Grid, truth: Grid, counted: Bool[Tensor, " place"]) -> Float[np.ndarray, " picture"]:
    """``|truth - found| / |truth|`` of each picture over the places that count; pictures of which nothing is said do not."""
    gap, whole = ((rows.flatten(2)[:, :, counted]).flatten(1).norm(dim=1) for rows in (found - truth, truth))
    return (gap / whole)[whole > 0].double().numpy()


def mean_score(values: Float[np.ndarray, " picture"], seed: int) -> Score:
    """The mean with its bootstrap interval over pictures."""
    generator = np.random.default_rng(seed)
    low, high = np.quantile([generator.choice(values, len(values)).mean() for _ in range(1000)], (0.025, 0.975))
    return Score(float(values.mean()), float(low), float(high))


def equivariance(
    phi: Representation, train: Grid, test: Grid, change: Change, *, layers: Sequence[str] = (), kinds: Sequence[str] = KINDS,
    side: int = 3, cells: int | None = None, seed: int = 0,
) -> dict[str, Scores]:  # fmt: skip
    """How far the maps of each kind, fitted to some pictures, are from the features of changed pictures, on others; layer by layer.

    Args:
        phi: the representation; ``HOG`` is one as well.
        train: pictures in [0, 1] that maps are fitted to.
        test: pictures that they are judged on.
        change: what is done to pictures.
        layers: names of layers with places; all that are worth looking at by default.
        kinds: of maps, see above.
        side: m, of the neighbourhoods.
        cells: grids of more cells a side are averaged down to so many.
        seed: of the intervals.

    Raises:
        UsageError: there is no such layer or kind of map, or the layer has no places.
    """
    kinds = [look_up("kind of map", kind, KINDS) for kind in kinds]
    told = {}
    for layer in [look_up("layer", name, phi.layers) for name in layers] or phi.layers:
        (x, y), (asked, truth) = (
            (grids(phi, part, layer, cells=cells), grids(phi, change.pictures(part), layer, cells=cells)) for part in (train, test)
        )
        counted = _inside(change.source, y.shape[2], y.shape[3])
        constant = y.mean(0, keepdim=True).expand_as(truth)
        values = {"constant": mean_score(_relative(constant, truth, counted), seed)}
        for kind in kinds:
            found = _fitted(kind, x, y, change, side)(asked)
            values[kind] = mean_score(_relative(found, truth, counted), seed)
        words = (
            f"relative error |Φ(gx) - M Φ(x)| / |Φ(gx)| at {layer} under a {change.name}, over {int(counted.sum())} of {len(counted)} places; "
            f"maps fitted to {len(train)} pictures, judged on {len(test)}; neighbourhoods of {side} x {side}"
        )
        told[layer] = Scores(values, words)
    return told


def channel_invariance(plain: Grid, changed: Grid, counted: Bool[Tensor, " place"] | None = None) -> Float[np.ndarray, " channel"]:
    """``1 - mean |Φ_c(g x) - Φ_c(x)|² / (var Φ_c(g x) + var Φ_c(x))`` of each channel, the difference of means counted in.

    1 where a channel says the same at each place, 0 where it says no more in common than two pictures do; 1 for a silent channel.
    """
    rows = [grid.flatten(2) if counted is None else grid.flatten(2)[:, :, counted] for grid in (plain.double(), changed.double())]
    gap = (rows[0] - rows[1]).square().mean((0, 2))
    spread = sum(each.var((0, 2), correction=0) for each in rows)
    assert isinstance(spread, Tensor)
    return torch.where(spread > 0, 1 - gap / spread.clamp(min=1e-300), (gap == 0).double()).numpy()


class Transport(nn.Module):
    """Places move as g moves them, then a bank of filters; as it starts, the filters change nothing.

    Args:
        source: the place that each place comes from.
        channels: of the layer.
        side: of the filters, odd.
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
class Bars:
    """Shares of test pictures that are judged wrong: as they are, changed, and changed but compensated at a layer."""

    original: Score
    changed: Score
    moved: dict[str, Score]
    taught: dict[str, Score]
    maps: dict[str, Transport]


def four_bars(
    judge: StitchEvaluator, train: LabelledGrids, test: LabelledGrids, change: Change, *,
    layers: Sequence[str] = (), side: int = 3, steps: int = 200, seed: int = 0,
) -> Bars:  # fmt: skip
    """Whether what a change does to a layer can be undone there, by the error of the task (Lenc & Vedaldi 2015, section 5.2).

    Args:
        judge: a network with what reads its classes.
        train: pictures in [0, 1] and their classes; maps are taught by them, changed.
        test: others.
        change: what is done to the pictures.
        layers: names of layers with places; all that are worth looking at by default.
        side: of the filters of the map.
        steps: of 64 pictures each, for each layer.
        seed: of their order.

    Raises:
        UsageError: there is no such layer, or it has no places.
    """
    shown, asked = change.pictures(train[0]), change.pictures(test[0])
    moved, taught, maps = {}, {}, {}
    for layer in [look_up("layer", name, judge.phi.layers) for name in layers] or judge.phi.layers:
        channels = grids(judge.phi, shown[:2], layer).shape[1]
        undo = Transport(change.target, channels, side=side).to(judge.phi.device)
        moved[layer] = judge.error(asked, test[1], {layer: undo})
        fit_by_task(undo, lambda rows, at={layer: undo}: judge.logits(shown[rows], at), train[1], steps=steps, seed=seed)
        taught[layer], maps[layer] = judge.error(asked, test[1], {layer: undo}), undo
    return Bars(judge.error(*test), judge.error(asked, test[1]), moved, taught, maps)


def invariant_share(judge: StitchEvaluator, layer: str, transport: Transport, test: LabelledGrids, *, slack: float = 0.05) -> float:
    """The largest share of channels that need no filter: those with the highest ``|row| / |row without its own channel's middle|``.

    Their rows become those of the identity, places still moved, a twentieth of the channels more at a time, while the error on the changed
    pictures ``test`` grows by at most ``slack`` of itself or of one picture (Lenc & Vedaldi 2015, section 5.3).
    """
    fresh, tried = Transport(transport.source, len(transport.filters.weight), side=transport.filters.weight.shape[2]), deepcopy(transport)
    (plain, nothing), (weight, bias) = ([each.detach() for each in one.filters.parameters()] for one in (fresh, tried))
    whole, others = weight.square().sum((1, 2, 3)), (weight * (1 - plain.to(weight))).square().sum((1, 2, 3))
    order = (whole / others.clamp(min=1e-12)).argsort(descending=True)
    start = judge.error(*test, {layer: transport}).value
    best = 0.0
    for twentieths in range(1, 21):
        chosen = order[: round(len(order) * twentieths / 20)]
        weight[chosen], bias[chosen] = plain.to(weight)[chosen], nothing.to(bias)[chosen]
        if judge.error(*test, {layer: tried}).value > start + slack * max(start, 1 / len(test[1])):
            break
        best = len(chosen) / len(order)
    return best
