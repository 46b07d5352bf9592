"""Whether two networks say the same in other words: the first part of one is stitched to the rest of another.

Φ_A and Φ_B are equivalent at a layer if there is a simple map E with ``Φ_B(x) = E Φ_A(x)`` (Lenc & Vedaldi 2015, arXiv:1411.5908). E is a bank
of filters 1 x 1, after grids are brought to the same size; it is taught by the task of B, through the rest of B, whose weights stay::

    minimise over E   mean cross-entropy(head_B(rest_B(E(first_A(x)))), class of x)

Bars, shares of test pictures that are judged wrong: B as it is; stitched, E as it was drawn; stitched, E the identity (what says nothing
of equivalence but of the same code); stitched, E taught. Beside them, a floor: A untrained, E taught, which is what the rest of B and a
bank of filters make of anything.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from selfsight.core.clock import key
from selfsight.core.errors import UsageError
from selfsight.core.hooks import capture_activations
from selfsight.core.readout import Readout
from selfsight.core.representation import Representation
from selfsight.core.schedule import rise_and_fall
from selfsight.measure.results import Score, proportion

__all__ = [
    "Grid",
    "LabelledGrids",
    "Start",
    "Stitch",
    "StitchEvaluator",
    "Stitched",
    "fit_by_task",
    "head_of",
    "put_back",
    "stitched_error",
    "stitching",
]

Grid = Float[Tensor, "_ _ _ _"]
"""Batch, channel, height, width."""
LabelledGrids = tuple[Grid, Int[Tensor, " _"]]
"""Pictures in [0, 1] and their classes."""
GridMap = Callable[[Grid], Grid]
Head = Callable[[Float[Tensor, "batch dim"]], Float[Tensor, "batch class"]]
Start = Literal["drawn", "identity"]


def head_of(readout: Readout) -> Head:
    """A linear probe as a function from pooled features to logits.

    Raises:
        UsageError: the readout is of another kind.
    """
    if readout.kind != "linear":
        raise UsageError(f"A readout of kind {readout.kind!r} gives no logits.", "Measure with the linear probe.")
    weight, bias, mean, scale = (torch.from_numpy(np.asarray(readout.arrays[name])) for name in ("weight", "bias", "mean", "scale"))
    return lambda rows: (rows - mean.to(rows)) / scale.to(rows) @ weight.to(rows).T + bias.to(rows)


def put_back(phi: Representation, output: Tensor, grid: Grid) -> Tensor:
    """A grid in the form in which a layer returns it, class and register tokens as ``output`` has them."""
    if output.ndim == 4:
        return grid.permute(0, 2, 3, 1) if getattr(phi.backbone, "channels_last", False) else grid
    return torch.cat([output[:, : getattr(phi.backbone, "prefix", 0)], grid.flatten(2).transpose(1, 2)], 1)


@dataclass(frozen=True)
class StitchEvaluator:
    """A network with what reads classes off its pooled features; pictures are in [0, 1]."""

    phi: Representation
    head: Head

    def logits(self, images: Grid, at: Mapping[str, GridMap] | None = None) -> Float[Tensor, "batch class"]:
        """What it says of pictures; ``at``: maps that the grids of some layers go through on the way."""

        def through(layer: str, change: GridMap) -> Callable[[Any], Tensor]:
            def edit(output: Any) -> Tensor:
                if not isinstance(output, Tensor):
                    raise UsageError(f"The layer {layer!r} returns no tensor.", "Choose a layer inside the network.")
                before = output.detach()  # nothing below learns
                return put_back(self.phi, before, change(self.phi.as_grid(before, images.shape[-2:], layer)))

            return edit

        with capture_activations(self.phi.backbone, edit={layer: through(layer, change) for layer, change in (at or {}).items()}):
            return self.head(self.phi.features(images).pooled)

    @torch.no_grad()
    def error(self, images: Grid, labels: Int[Tensor, " sample"], at: Mapping[str, GridMap] | None = None, batch: int = 256) -> Score:
        """The share of pictures that it gives another class than theirs."""
        found = torch.cat([self.logits(part, at).argmax(1).cpu() for part in images.split(batch)])
        return proportion((found != labels).numpy())


def fit_by_task(
    module: nn.Module,
    logits: Callable[[Int[Tensor, " row"]], Float[Tensor, "row class"]],
    labels: Int[Tensor, " sample"],
    *,
    steps: int = 200,
    batch: int = 64,
    rate: float = 4e-3,
    seed: int = 0,
) -> None:
    """Teach a module, and nothing else, to give rows their labels.

    Adam on the cross-entropy, its rate up for a tenth of the steps, then down to zero as a cosine.

    Args:
        module: what learns.
        logits: what is said of some rows, through the module.
        labels: of all rows.
        steps: how many.
        batch: rows a step.
        rate: the highest.
        seed: of the order of rows.
    """
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    learner = torch.optim.Adam(weights, lr=rate)
    rates = torch.optim.lr_scheduler.LambdaLR(learner, lambda step: rise_and_fall(step, steps))
    dice = torch.Generator().manual_seed(key(seed, 0x57175))
    order = torch.cat([torch.randperm(len(labels), generator=dice) for _ in range(steps * batch // len(labels) + 1)])
    for step in range(steps):
        rows = order[step * batch : (step + 1) * batch]
        said = logits(rows)
        slopes = torch.autograd.grad(cross_entropy(said, labels[rows].to(said.device)), weights)
        for weight, slope in zip(weights, slopes, strict=True):
            weight.grad = slope
        learner.step()
        rates.step()
        learner.zero_grad()


class Stitch(nn.Module):
    """Grids of one layer as those of another: brought to its size (bilinear), then filters 1 x 1.

    Args:
        before: channels of the first network's layer.
        after: channels of the other's.
        size: height and width of the other's grid.
        start: weights drawn so that their sums have the spread of one number (He et al. 2015), or the identity: channel for channel, zeros
            where there are no more.
        seed: of the drawing.
    """

    def __init__(self, before: int, after: int, size: tuple[int, int], *, start: Start = "drawn", seed: int = 0) -> None:
        super().__init__()
        self.filters, self.size = nn.Conv2d(before, after, 1), size
        dice = torch.Generator().manual_seed(key(seed, 0x571))
        with torch.no_grad():
            if start == "identity":
                nn.init.dirac_(self.filters.weight)
            else:
                self.filters.weight.normal_(0, before**-0.5, generator=dice)
            nn.init.zeros_(self.filters.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, grid: Grid) -> Grid:
        if tuple(grid.shape[2:]) != self.size:
            grid = interpolate(grid, self.size, mode="bilinear", align_corners=False)
        return self.filters(grid)


@dataclass(frozen=True)
class Stitched:
    """Shares of test pictures that are judged wrong, and the stitch that was taught."""

    original: Score
    drawn: Score
    identity: Score
    taught: Score
    stitch: Stitch = field(repr=False)


def _joined(
    first: Representation, layer: str, rest: StitchEvaluator, at: str, images: Grid, stitch: Stitch
) -> Float[Tensor, "batch class"]:
    """What the rest of one network says of what the first part of another says."""
    with torch.no_grad():
        grid = first.grid(images, layer)
    return rest.logits(images, {at: lambda _: stitch(grid)})


@torch.no_grad()
def stitched_error(
    first: Representation, layer: str, rest: StitchEvaluator, at: str, stitch: Stitch, test: LabelledGrids, batch: int = 256
) -> Score:
    """The share of test pictures that the two parts, stitched, give another class than theirs."""
    found = torch.cat([_joined(first, layer, rest, at, part, stitch).argmax(1).cpu() for part in test[0].split(batch)])
    return proportion((found != test[1]).numpy())


def stitching(
    first: Representation,
    rest: StitchEvaluator,
    train: LabelledGrids,
    test: LabelledGrids,
    *,
    layer: str,
    at: str = "",
    steps: int = 200,
    rate: float = 1e-2,
    seed: int = 0,
) -> Stitched:
    """Stitch the first part of one network, up to a layer, to the rest of another.

    Args:
        first: the network that pictures enter; its weights stay.
        rest: the network that judges, by what comes after its layer ``at``; its weights stay too.
        train, test: pictures in [0, 1] and their classes, which teach the stitch; others.
        layer: of the first network, with places.
        at: the layer of the other whose output is replaced; the same name by default.
        steps, rate: of 64 pictures each; of their learning, the highest.
        seed: of the stitch as drawn and of the order of pictures.

    Raises:
        UsageError: there is no such layer, or it has no places.
    """
    at = at or layer
    with torch.no_grad():
        here, there = first.grid(train[0][:2], layer), rest.phi.grid(train[0][:2], at)
    size = (there.shape[2], there.shape[3])

    def judged(stitch: Stitch) -> Score:
        return stitched_error(first, layer, rest, at, stitch, test)

    plain, stitch = (
        Stitch(here.shape[1], there.shape[1], size, start=start, seed=seed).to(rest.phi.device) for start in ("identity", "drawn")
    )
    drawn = judged(stitch)
    fit_by_task(stitch, lambda rows: _joined(first, layer, rest, at, train[0][rows], stitch), train[1], steps=steps, rate=rate, seed=seed)
    return Stitched(rest.error(*test), drawn, judged(plain), judged(stitch), stitch)
