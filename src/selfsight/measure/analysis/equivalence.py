"""Equivalence of two networks, measured by stitching the first layers of one to the remaining layers of another.

Φ_A and Φ_B are equivalent at a layer if there is a simple map E with ``Φ_B(x) = E Φ_A(x)`` (Lenc & Vedaldi 2015, arXiv:1411.5908). E is a
1 x 1 convolution, after grids are resized to the same size. It is trained on the task of B, through the frozen rest of B::

    minimise over E   mean cross-entropy(head_B(rest_B(E(first_A(x)))), class of x)

Reported are error rates on test images: B itself; stitched with E at random initialisation; stitched with E the identity (tests for the
same code rather than equivalence); stitched with E trained. A baseline is A untrained with E trained.
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
    "stitched_error",
    "stitching",
]

Grid = Float[Tensor, "_ _ _ _"]
"""Feature maps (N, C, H, W)."""
LabelledGrids = tuple[Grid, Int[Tensor, " _"]]
"""Images in [0, 1] and their classes."""
GridMap = Callable[[Grid], Grid]
Head = Callable[[Float[Tensor, "batch dim"]], Float[Tensor, "batch class"]]
Start = Literal["random", "identity"]


def head_of(readout: Readout) -> Head:
    """A linear probe as a function from pooled features to logits.

    Raises:
        UsageError: the readout is of another kind.
    """
    if readout.kind != "linear":
        raise UsageError(f"A readout of kind {readout.kind!r} gives no logits.", "Use the linear probe.")
    weight, bias, mean, scale = (torch.from_numpy(np.asarray(readout.arrays[name])) for name in ("weight", "bias", "mean", "scale"))
    return lambda rows: (rows - mean.to(rows)) / scale.to(rows) @ weight.to(rows).T + bias.to(rows)


@dataclass(frozen=True)
class StitchEvaluator:
    """A network with a classifier on its pooled features; images are in [0, 1].

    Attributes:
        phi: the representation.
        head: function from pooled features to logits.
    """

    phi: Representation
    head: Head

    def logits(self, images: Grid, at: Mapping[str, GridMap] | None = None) -> Float[Tensor, "batch class"]:
        """Logits of images.

        Args:
            images: (N, C, H, W) in [0, 1].
            at: maps that are applied to the grids of some layers, by layer.

        Raises:
            UsageError: a layer does not return a tensor.
        """

        def edit_of(layer: str, change: GridMap) -> Callable[[Any], Tensor]:
            def edit(output: Any) -> Tensor:
                if not isinstance(output, Tensor):
                    raise UsageError(f"The layer {layer!r} does not return a tensor.", "Choose a layer inside the network.")
                before = output.detach()  # no gradient into the layers below
                return self.phi.token_layout.with_grid(before, change(self.phi.as_grid(before, images.shape[-2:], layer)))

            return edit

        with capture_activations(self.phi.backbone, edit={layer: edit_of(layer, change) for layer, change in (at or {}).items()}):
            return self.head(self.phi.features(images).pooled)

    @torch.no_grad()
    def error(self, images: Grid, labels: Int[Tensor, " sample"], at: Mapping[str, GridMap] | None = None, batch: int = 256) -> Score:
        """Error rate.

        Args:
            images: (N, C, H, W) in [0, 1].
            labels: classes (N,).
            at: maps that are applied to the grids of some layers, by layer.
            batch: images per batch.
        """
        predicted = torch.cat([self.logits(part, at).argmax(1).cpu() for part in images.split(batch)])
        return proportion((predicted != labels).numpy())


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
    """Train a module, and nothing else, to predict labels.

    Adam on the cross-entropy, with linear warm-up over a tenth of the steps and cosine decay to zero.

    Args:
        module: the module whose parameters are trained.
        logits: function from row numbers to logits, through the module.
        labels: classes (N,) of all rows.
        steps: number of steps.
        batch: rows per step.
        rate: maximum learning rate.
        seed: seed of the order of rows.
    """
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    optimiser = torch.optim.Adam(weights, lr=rate)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rise_and_fall(step, steps))
    generator = torch.Generator().manual_seed(key(seed, 0x57175))
    order = torch.cat([torch.randperm(len(labels), generator=generator) for _ in range(steps * batch // len(labels) + 1)])
    for step in range(steps):
        rows = order[step * batch : (step + 1) * batch]
        predicted = logits(rows)
        gradients = torch.autograd.grad(cross_entropy(predicted, labels[rows].to(predicted.device)), weights)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        optimiser.step()
        scheduler.step()
        optimiser.zero_grad()


class Stitch(nn.Module):
    """Map from the grid of one layer to that of another: bilinear resizing, then a 1 x 1 convolution.

    Args:
        before: channels of the first network's layer.
        after: channels of the second network's layer.
        size: height and width of the second network's grid.
        start: ``random``, random weights that keep the variance (He et al. 2015), or ``identity``, channel to channel, with zeros for
            channels that the first network does not have.
        seed: seed of the random weights.
    """

    def __init__(self, before: int, after: int, size: tuple[int, int], *, start: Start = "random", seed: int = 0) -> None:
        super().__init__()
        self.filters, self.size = nn.Conv2d(before, after, 1), size
        generator = torch.Generator().manual_seed(key(seed, 0x571))
        with torch.no_grad():
            if start == "identity":
                nn.init.dirac_(self.filters.weight)
            else:
                self.filters.weight.normal_(0, before**-0.5, generator=generator)
            nn.init.zeros_(self.filters.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, grid: Grid) -> Grid:
        if tuple(grid.shape[2:]) != self.size:
            grid = interpolate(grid, self.size, mode="bilinear", align_corners=False)
        return self.filters(grid)


@dataclass(frozen=True)
class Stitched:
    """Error rates on test images, and the trained stitch.

    Attributes:
        original: error rate of the second network.
        random: stitched, with random weights.
        identity: stitched, with the identity.
        trained: stitched, after training.
        stitch: the trained map.
    """

    original: Score
    random: Score
    identity: Score
    trained: Score
    stitch: Stitch = field(repr=False)


def _joined(
    first: Representation, layer: str, rest: StitchEvaluator, at: str, images: Grid, stitch: Stitch
) -> Float[Tensor, "batch class"]:
    """Logits of the second network's rest on the first network's grid."""
    with torch.no_grad():
        grid = first.grid(images, layer)
    return rest.logits(images, {at: lambda _: stitch(grid)})


@torch.no_grad()
def stitched_error(
    first: Representation, layer: str, rest: StitchEvaluator, at: str, stitch: Stitch, test: LabelledGrids, batch: int = 256
) -> Score:
    """Error rate of two stitched networks.

    Args:
        first: the network that images enter.
        layer: its layer whose grid is passed on.
        rest: the network that classifies.
        at: its layer whose output is replaced.
        stitch: map between the two grids.
        test: images in [0, 1] and their classes.
        batch: images per batch.
    """
    predicted = torch.cat([_joined(first, layer, rest, at, part, stitch).argmax(1).cpu() for part in test[0].split(batch)])
    return proportion((predicted != test[1]).numpy())


def stitching(
    first: Representation, rest: StitchEvaluator, train: LabelledGrids, test: LabelledGrids, *, layer: str, at: str = "",
    steps: int = 200, rate: float = 1e-2, seed: int = 0,
) -> Stitched:  # fmt: skip
    """Stitch the first layers of one network, up to a layer, to the remaining layers of another.

    Args:
        first: the network that images enter; frozen.
        rest: the network that classifies, by the layers after ``at``; frozen.
        train: images in [0, 1] and their classes, to train the stitch.
        test: images in [0, 1] and their classes, to measure errors.
        layer: spatial layer of the first network.
        at: layer of the second network whose output is replaced; by default of the same name.
        steps: training steps of 64 images each.
        rate: maximum learning rate.
        seed: seed of the random stitch and of the order of images.

    Raises:
        UsageError: there is no such layer, or it has no spatial grid.
    """
    at = at or layer
    with torch.no_grad():
        first_grid, rest_grid = first.grid(train[0][:2], layer), rest.phi.grid(train[0][:2], at)
    size = (rest_grid.shape[2], rest_grid.shape[3])

    def error(stitch: Stitch) -> Score:
        return stitched_error(first, layer, rest, at, stitch, test)

    identity, stitch = (
        Stitch(first_grid.shape[1], rest_grid.shape[1], size, start=start, seed=seed).to(rest.phi.device)
        for start in ("identity", "random")
    )
    random = error(stitch)
    fit_by_task(stitch, lambda rows: _joined(first, layer, rest, at, train[0][rows], stitch), train[1], steps=steps, rate=rate, seed=seed)
    return Stitched(rest.error(*test), random, error(identity), error(stitch), stitch)
