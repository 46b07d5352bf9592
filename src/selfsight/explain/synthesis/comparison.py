"""Maximally activating synthetic images of units of the same rank in several networks."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from selfsight.core.bounds import check_numbers
from selfsight.core.errors import UsageError
from selfsight.core.finite_tensors import require_finite_tensor
from selfsight.core.hooks import eval_mode
from selfsight.core.representation import Representation
from selfsight.explain.attribution.saliency import parts
from selfsight.explain.gallery import Gallery
from selfsight.explain.synthesis.activation import Fourier, Parameterisation, maximise
from selfsight.explain.targets import unit
from selfsight.render.sheet import Tile

__all__ = ["compare_units", "layer_at", "ranked_units", "responses"]


def layer_at(phi: Representation, depth: float) -> str:
    """The layer at a relative depth.

    Args:
        phi: the representation.
        depth: 0: the first of ``phi.layers``, 1: the last.

    Raises:
        UsageError: the depth is not between 0 and 1.
    """
    if not 0 <= depth <= 1:
        raise UsageError(f"A depth of {depth:g} is not between 0 and 1.", "0 is the first layer, 1 the last.")
    return phi.layers[round(depth * (len(phi.layers) - 1))]


def responses(phi: Representation, images: Num[Tensor, "batch channel height width"], layer: str) -> Float[Tensor, "batch unit"]:
    """Mean activation of each unit over positions.

    Args:
        phi: the representation.
        images: images ``(B, C, H, W)``, uint8 or in [0, 1].
        layer: dotted name.

    Raises:
        DataError: those of some images are NaN or infinite.
    """
    with torch.no_grad(), eval_mode(phi.backbone):
        found = torch.cat([unit(layer, 0).numbers(phi, phi.normalise(part)).cpu() for _, part in parts(images, phi.device)])
    require_finite_tensor(found, what=f"activations ({layer})")
    return found


def ranked_units(activations: Float[Tensor, "batch unit"]) -> Int[Tensor, " unit"]:
    """Units by how well they distinguish images: variance of the activation divided by its mean square, in descending order."""
    return (activations.var(0, correction=0) / activations.square().mean(0).clamp(min=1e-12)).argsort(descending=True, stable=True)


def compare_units(
    networks: Mapping[str, Representation], images: Mapping[str, Num[Tensor, "batch 3 side side2"]], *, depth: float = 0.5,
    ranks: Sequence[int] = (0, 1, 2, 3), parameterisation: Parameterisation = Fourier(), steps: int = 200, seed: int = 0,
) -> Gallery:  # fmt: skip
    """A row per network and a column per rank: the synthetic image that maximises the unit of this rank, at the same relative depth.

    Args:
        networks: representations by name.
        images: real images of each network, by which its units are ranked.
        depth: 0: the first of ``phi.layers``, 1: the last.
        ranks: ranks of the units, from 0.
        parameterisation: parameterisation of the images.
        steps: number of steps of Adam.
        seed: seed of the noise and the transformations.

    Raises:
        UsageError: a layer has too few units, or a number is outside of its range.
    """
    check_numbers({"depth": depth, "steps": steps, "seed": seed})
    rows: dict[str, list[Tile]] = {}
    for name, phi in networks.items():
        layer = layer_at(phi, depth)
        activations = responses(phi, images[name], layer)
        if max(ranks) >= activations.shape[1]:
            raise UsageError(
                f"{layer} of {name} has {activations.shape[1]} units, so rank {max(ranks)} does not exist.", "Ranks start at 0."
            )
        units = ranked_units(activations)[torch.tensor(ranks)]
        result = maximise(phi, unit(layer, units), count=len(ranks), parameterisation=parameterisation, steps=steps, seed=seed)
        above = (result.scores.cpu()[None] > activations[:, units]).float().mean(0)
        rows[name] = [
            Tile(
                image.permute(1, 2, 0).numpy(),
                f"{layer}/{int(number)}\n{float(score):.3g}: above {100 * float(part):.0f} % of the images",
                {"unit": float(number), "score": float(score), "above": float(part)},
            )
            for image, number, score, part in zip(result.images, units, result.scores, above, strict=True)
        ]
    return Gallery(rows, {"depth": depth, "ranks": list(ranks), "steps": steps, "seed": seed})
